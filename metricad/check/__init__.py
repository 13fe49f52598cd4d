"""Look at good images before an inspector is fitted: files, duplicates, light over time, suspects."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from metricad.check.findings import Findings as Findings
    from metricad.check.findings import check as check

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"findings": ["Findings", "check"]},
)
