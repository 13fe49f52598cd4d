"""Evaluate inspectors and methods on labeled surfaces with one protocol."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from metricad.evaluation.protocol import Evaluation as Evaluation
    from metricad.evaluation.protocol import Method as Method
    from metricad.evaluation.protocol import Protocol as Protocol
    from metricad.evaluation.results import Result as Result
    from metricad.evaluation.results import Study as Study

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "protocol": ["Evaluation", "Method", "Protocol"],
        "results": ["Result", "Study"],
    },
)
