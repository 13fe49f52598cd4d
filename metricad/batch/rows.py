"""Rows of the results: the record of an inspection and the path of its heat map, in Parquet."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

from metricad.inspection.inspector import FIELDS
from metricad.scoring.defect_boxes import DefectBox

MAP = "map"
"""Column with the path of the heat map in the results; null where there is none."""

_TYPES = {"str": "string", "int": "int32", "float": "float64"}


def schema() -> Any:
    """Return the Arrow schema: the columns of `FIELDS` and `MAP`."""
    import pyarrow

    box = pyarrow.struct([(name, _arrow(kind)) for name, kind in DefectBox.__annotations__.items()])
    numbers = {
        **dict.fromkeys(("score", "threshold", "percentile", "false_alarm_rate"), "float64"),
        **dict.fromkeys(("peak_row", "peak_col"), "int32"),
        "defects": pyarrow.list_(box),
    }
    return pyarrow.schema([(name, numbers.get(name, "string")) for name in (*FIELDS, MAP)])


def to_parquet(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Write rows as a Parquet file in memory."""
    import pyarrow
    from pyarrow import parquet

    content = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema()), content, compression="zstd")
    return content.getvalue()


def _arrow(kind: Any) -> str:
    return _TYPES[getattr(kind, "__name__", kind)]
