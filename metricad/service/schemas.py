"""JSON schemas of the service's answers, and one format for all errors."""

from collections.abc import Mapping
from typing import Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from metricad.errors import DataError

COME_BACK = {"Retry-After": "1"}
"""Header of an error that is temporary."""

_RATE = "Share of good images called defects."
_BASIS = (
    "promised: held-out images set the threshold; expected: cross-validated scores did, no guarantee; "
    "estimated: a fitted tail of the scores did, no guarantee."
)


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(
        description="One line: what is wrong, what was expected, what to do. If an image was received and "
        "could not be judged, all other fields of its record are there as well."
    )


class Peak(BaseModel):
    """Center pixel of the area with the largest anomaly, counted from the upper left."""

    row: int = Field(ge=0)
    column: int = Field(ge=0)


class Defect(BaseModel):
    """Connected area of the map above the outline, in pixels of the image; larger than the defect itself."""

    row: int = Field(ge=0, description="Of the upper left pixel of its box.")
    col: int = Field(ge=0)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    area: int = Field(ge=1, description="Number of pixels.")
    length: float = Field(gt=0, description="Diagonal of the box.")
    value: float = Field(description="Largest value of the map inside.")


class Verdict(BaseModel):
    """Result of inspecting one image: the record, and what only the service adds."""

    time: str = Field(description="When it was judged, in UTC (ISO 8601).")
    path: None = Field(description="As in other records; a request has none.")
    sha256: str = Field(description="SHA-256 of the request's body.")
    part: str
    part_sha256: str | None = Field(description="SHA-256 of the inspector that judged it.")
    score: float = Field(
        description="In standard deviations of good images' scores; larger is farther from good surface."
    )
    threshold: float = Field(description="Images with a score above it are defects.")
    percentile: float = Field(
        ge=0, le=100, description="Percentage of calibration images with this score or a lower one."
    )
    verdict: Literal["good", "defect"]
    peak_row: int = Field(ge=0)
    peak_col: int = Field(ge=0)
    size_class: str = Field(
        description="Image score: the maximum of the map, or the mean of this share of its largest values; "
        "own: that of a published method."
    )
    source: str = Field(description="Kind of feature map that contributes most to the score.")
    false_alarm_rate: float = Field(description=_RATE)
    rate_basis: Literal["promised", "expected", "estimated"] = Field(description=_BASIS)
    defects: list[Defect] = Field(
        description="Areas above the outline, the largest value first; empty for a good image."
    )
    error: None = Field(description="As in other records; no error.")
    peak: Peak
    version: str = Field(description="Version of metricad.")
    milliseconds: float = Field(ge=0, description="Time of decoding and inspection, without the upload.")


class Part(BaseModel):
    """A part that can be inspected."""

    name: str
    threshold: float
    false_alarm_rate: float = Field(description=_RATE)
    rate_basis: Literal["promised", "expected", "estimated"] = Field(description=_BASIS)
    rate_interval: tuple[float, float] | None = Field(
        description="95 % interval of this inspector's rate; null if it is only expected."
    )
    statement: str = Field(description="What the threshold stands for, in one sentence.")
    smallest: int = Field(description="Smallest allowed height and width of an image, in pixels.")
    fitted_on: dict[str, Any] = Field(description="Numbers of good images, and seed.")


class Parts(BaseModel):
    """All parts of this service, and its limits."""

    parts: list[Part]
    most_bytes: int
    most_pixels: int
    version: str


class Health(BaseModel):
    """State of the service."""

    status: str


class Refusal(HTTPException):
    """Error that refuses a request.

    Parameters
    ----------
    status : int
        HTTP status.
    reason : str
        Short fixed word for the metrics.
    message : str
    headers : mapping, optional
    """

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.reason = reason


class NotJudgedError(DataError):
    """An image could not be judged; its cause says why.

    Parameters
    ----------
    record : mapping
        Its record, see `inspector.Inspection`.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__(record["error"])
        self.record = record


def problem(
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    record: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """Make the JSON answer of any error, with the record of the image if there is one."""
    return JSONResponse({**(record or {}), "error": " ".join(message.split())}, status, headers)


_REFUSED = {
    400: "The connection ended early.",
    401: "The token is missing or wrong.",
    404: "There is no such part; the error lists those there are.",
    408: "The body came too slowly.",
    413: "Too many bytes or too many pixels.",
    415: "The body is not declared as an image, or it is compressed as a whole.",
    421: "The Host header names another computer.",
    422: "The image cannot be decoded, is too small, or does not suit the part.",
    500: "A fault of the service; its log has more under the request's id.",
    503: "Not ready, or too many requests at once; come back after Retry-After seconds.",
}


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Make the documentation of these errors for FastAPI."""
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": _REFUSED[status]} for status in statuses
    }
    if 503 in documented:
        documented[503]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return documented
