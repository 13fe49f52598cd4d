"""The HTTP service: clients post images, the parts' inspectors judge them.

The path of one image: `app` → `Judge.answer` → `request_body.received` → `WorkerQueue.run` → `decode` →
`Inspector.inspect` → `Verdict`. Requests are refused before their body is read if possible. Bodies stay in
memory. Decoding and inspection run in threads.

Pages of other sites cannot use the service through a visitor's browser. It sends no CORS headers, so a
browser does not post an image type to it from another site. It refuses all other types.
"""

import functools
import hmac
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from metricad.data.decoding import FORMATS
from metricad.data.picture import TooManyPixelsError, UnreadableError
from metricad.errors import DataError, InspectorError
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge
from metricad.service.decoding import MEDIA_TYPES
from metricad.service.judge import Judge, RequestLimits
from metricad.service.limiter import BusyError
from metricad.service.middleware import RequestMiddleware
from metricad.service.prometheus import CONTENT_TYPE
from metricad.service.schemas import (
    COME_BACK,
    Health,
    NotJudgedError,
    Parts,
    Refusal,
    Verdict,
    problem,
    refused,
)

log = logging.getLogger(__name__)

# Static files, not templates: the page gets names and limits from /parts, which may need the token.
_PAGE = {
    "/": ("service.html", "text/html"),
    "/service.css": ("service.css", "text/css"),
    "/service.js": ("service.js", "text/javascript"),
}
_IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "description": f"One image file as it is: {', '.join(FORMATS)}.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES},
    }
}
_PNG: dict[int | str, dict[str, Any]] = {200: {"description": "The map.", "content": {"image/png": {}}}}
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "In Prometheus' text format.", "content": {"text/plain": {}}}
}


def app(
    parts: Mapping[str, Inspector[ImageJudge]],
    *,
    limits: RequestLimits | None = None,
    token: str | None = None,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """Make the service for some parts.

    Parameters
    ----------
    parts : mapping of str to Inspector
        Inspectors by the name of the part. They are called from several threads.
    limits : RequestLimits, optional
    token : str, optional
        Token that requests must send as ``Authorization: Bearer``, except for health and the files of the
        page.
    hosts : collection of str, optional
        Host names allowed in requests; any by default.

    Returns
    -------
    FastAPI
        The application. Run it in one process only. Its ``state.judge`` can replace inspectors.
    """
    judge = Judge(parts, limits=limits or RequestLimits())
    # FastAPI's own documentation pages load scripts from the internet, which production computers often
    # cannot reach.
    api = FastAPI(
        title="metricad",
        summary="Inspect textured surfaces.",
        version=judge.version,
        lifespan=lambda _: judge.running(),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=refused(421, 500),
    )
    api.state.metrics, api.state.judge = judge.metrics, judge
    for kind in (HTTPException, RequestValidationError, BusyError, DataError):
        api.add_exception_handler(kind, _refuse)
    for path, (name, media_type) in _PAGE.items():
        content = resources.files(__package__).joinpath(name).read_bytes()
        answer = functools.partial(Response, content, media_type=media_type)
        api.add_api_route(path, lambda answer=answer: answer(), include_in_schema=False)
    api.include_router(_health(judge))
    needs = [] if token is None else [Depends(_authorised(token))]
    api.include_router(
        _parts(judge, api), dependencies=needs, responses={} if token is None else refused(401)
    )
    api.add_middleware(RequestMiddleware, metrics=judge.metrics, hosts=hosts)
    return api


def _health(judge: "Judge") -> APIRouter:
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live")
    async def live() -> Health:
        """Report that the process answers."""
        return Health(status="live")

    @router.get("/ready", responses=refused(503))
    async def ready() -> Health:
        """Report whether every part has judged an image since the start."""
        judge.check_ready()
        return Health(status="ready")

    return router


def _parts(judge: "Judge", api: FastAPI) -> APIRouter:
    """Make the routes that need the token, if there is one."""
    router = APIRouter()
    Name = Annotated[str, Path(json_schema_extra={"enum": list(judge.parts)})]
    refusals = refused(400, 404, 408, 413, 415, 422, 503)

    @router.get("/parts", tags=["parts"])
    async def parts() -> Parts:
        """List the parts and the limits of the service."""
        return judge.describe()

    @router.post(
        "/parts/{part}/inspect", tags=["parts"], responses=refusals, openapi_extra=_IMAGE_BODY,
    )  # fmt: skip
    async def inspect(part: Name, request: Request) -> Verdict:
        """Inspect an image: score, threshold, percentile among good images, verdict, and peak."""
        return await judge.answer(request, part, judge.verdict)

    @router.post(
        "/parts/{part}/map", tags=["parts"], responses={**refusals, **_PNG}, response_class=Response,
        openapi_extra=_IMAGE_BODY,
    )  # fmt: skip
    async def heat_map(part: Name, request: Request) -> Response:
        """Draw the anomaly map over an image, as a PNG of its size; a red line marks the threshold."""
        return Response(await judge.answer(request, part, judge.picture), media_type="image/png")

    @router.get("/metrics", tags=["health"], responses=_TEXT, response_class=Response)
    async def metrics() -> Response:
        """Report requests, verdicts, refusals, times and memory for Prometheus."""
        return Response(judge.metrics.page(), headers={"content-type": CONTENT_TYPE})

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(api.openapi())

    return router


def _authorised(token: str) -> Callable[..., Awaitable[None]]:
    """Make a check that a request sends this token."""
    expected = token.encode()
    scheme = HTTPBearer(auto_error=False, description="The token that the service was started with.")

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> None:
        # Starlette decodes headers as Latin-1; this encoding restores the original bytes.
        received = given.credentials.encode("latin-1") if given else b""
        if not hmac.compare_digest(received, expected):
            raise Refusal(
                401,
                "token",
                "expected the header 'Authorization: Bearer TOKEN' with this service's token",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Answer a refused request with a JSON error."""
    record = None
    if isinstance(error, NotJudgedError) and isinstance(error.__cause__, DataError):
        record, error = error.record, error.__cause__
    status, reason, message, headers = _explained(error)
    request.app.state.metrics.rejected.labels(reason).inc()
    if isinstance(error, InspectorError):
        log.error("part %s: %s", request.state.part, error)
    return problem(status, message, headers, record)


def _explained(error: Exception) -> tuple[int, str, str, Mapping[str, str] | None]:
    """Return status, reason for the metrics, message and headers."""
    match error:
        case Refusal():
            return error.status_code, error.reason, error.detail, error.headers
        case HTTPException(status_code=404):
            return 404, "path", "no such page; expected /parts or another path of /openapi.json", None
        case HTTPException(status_code=405):
            allowed = (error.headers or {}).get("Allow", "another")
            return 405, "method", f"wrong method for this path; expected {allowed}", error.headers
        case HTTPException():
            return error.status_code, "http", error.detail, error.headers
        case BusyError():
            return 503, "busy", f"too many requests at once: {error}; come back in a moment", COME_BACK
        case TooManyPixelsError():
            return 413, "pixels", str(error), None
        case UnreadableError():
            return 422, "unreadable", str(error), None
        case InspectorError():
            return 500, "inspector", str(error), None
        case DataError():
            return 422, "unsuitable", str(error), None
        case _:
            return 422, "invalid", f"the request does not fit /openapi.json: {error}", None
