"""What the service answers: the JSON of its results, and one shape for all that it refuses."""

from collections.abc import Mapping
from typing import Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

COME_BACK = {"Retry-After": "1"}
"""Header of a refusal that is over in a moment."""


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="One line: what is wrong, what was expected, what to do.")


class Peak(BaseModel):
    """Pixel in the middle of the area farthest from good surface, counted from the upper left."""

    row: int = Field(ge=0)
    column: int = Field(ge=0)


class Verdict(BaseModel):
    """What was found in one image."""

    part: str
    score: float = Field(
        description="In standard deviations of good images' scores; larger is farther from good surface."
    )
    threshold: float = Field(description="Above it the verdict is defect.")
    percentile: float = Field(
        ge=0, le=100, description="Share of held-out good images that score at most as much, in percent."
    )
    verdict: Literal["good", "defect"]
    peak: Peak
    size_class: str = Field(
        description="Sizes of defects that the score looks for: a share of the map's places."
    )
    source: str = Field(description="Kind of feature map that contributes most to the score.")
    version: str = Field(description="Of metricad.")
    milliseconds: float = Field(ge=0, description="For decoding and inspecting, without the upload.")


class Part(BaseModel):
    """A part that can be inspected."""

    name: str
    threshold: float
    false_alarm_rate: float = Field(description="Largest share of good images called defects.")
    smallest: int = Field(description="Least height and width of an image, in pixels.")
    fitted_on: dict[str, Any] = Field(description="Counts of good images, the share held out, the seed.")


class Parts(BaseModel):
    """All parts of this service, and what it takes."""

    parts: list[Part]
    most_bytes: int
    most_pixels: int
    version: str


class Health(BaseModel):
    """That all is well."""

    status: str


class Refusal(HTTPException):
    """An answer that is no result.

    Parameters
    ----------
    status : int
        Of HTTP.
    reason : str
        A word for the metrics, of a few that are fixed.
    message : str
    headers : mapping, optional
    """

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.reason = reason


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Every answer that is no result, in its one shape."""
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


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
    """What FastAPI needs to document these refusals."""
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": _REFUSED[status]} for status in statuses
    }
    if 503 in documented:
        documented[503]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return documented
