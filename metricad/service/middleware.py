"""Middleware for every request: request id, metrics, headers, and an answer in case of errors.

Starlette's `TrustedHostMiddleware` answers in plain text and without metrics, and its `ServerErrorMiddleware`
raises the error again after the answer; therefore both are done here.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Collection
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metricad.service.prometheus import ServiceMetrics
from metricad.service.schemas import problem

log = logging.getLogger(__name__)

# The page may load only its own files and pictures made by its script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_LINGER, _MOST_DRAINED = 2.0, 2**26  # seconds and bytes


class RequestMiddleware:
    """ASGI middleware around the whole service.

    Parameters
    ----------
    app : ASGI application
    metrics : ServiceMetrics
    hosts : collection of str, optional
        Allowed values of a request's Host header, without the port; any by default.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: ServiceMetrics, hosts: Collection[str] | None = None
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; no exception is passed on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        with self.metrics.in_flight.track_inprogress():
            try:
                await self._answer(scope, exchange)
            except Exception:  # log and count any error; answer with 500 if no answer was started
                log.exception("request %s failed", exchange.id)
                self.metrics.rejected.labels("fault").inc()
                if exchange.status is None:
                    message = f"a fault of the service, not of the request; its log names {exchange.id}"
                    await problem(500, message)(scope, exchange.receive, exchange.send)
        self._record(scope, exchange)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        host = Headers(scope=scope).get("host", "")
        if self.hosts is not None and _without_port(host) not in self.hosts:
            self.metrics.rejected.labels("host").inc()
            expected = ", ".join(sorted(self.hosts))
            message = f"host {host!r}: this service is for its own computer only; expected {expected}"
            await problem(421, message)(scope, exchange.receive, exchange.send)
            return
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy may read another end of the body from it, and take the rest for the next request.
            self.metrics.rejected.labels("length").inc()
            message = "Content-Length and Transfer-Encoding together; expected one of them: send it again so"
            await problem(400, message)(scope, exchange.receive, exchange.send)
            return
        await self.app(scope, exchange.receive, exchange.send)

    def _record(self, scope: Scope, exchange: "_Exchange") -> None:
        part, status = scope["state"].get("part", ""), str(exchange.status)
        self.metrics.requests.labels(part, status).inc()
        self.metrics.seconds.labels(part).observe(exchange.seconds)
        # Quoted, because a path could contain line breaks.
        path = quote(scope["path"], safe="/")
        log.info("%s %s %s %s %.0f ms", exchange.id, scope["method"], path, status, 1000 * exchange.seconds)


class _Exchange:
    """One request and its answer.

    An answer sent before the whole body was received, such as a refusal, ends the connection. If it were
    closed at once, most clients would get a connection reset while sending and would not read the answer. So
    the rest of the body is read for a short time and dropped.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self.id = secrets.token_hex(6)
        self.status: int | None = None
        self.seconds = 0.0
        self._began = time.perf_counter()
        self._receive, self._send = receive, send
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        # A client that sends "Expect: 100-continue" and is refused sends no body.
        self._asks = "expect" in headers
        scope.setdefault("state", {})

    async def receive(self) -> Message:
        """Pass on a message from the client."""
        self._asks = False
        message = await self._receive()
        self._unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on the answer and add the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            more = [*_HEADERS, (b"x-request-id", self.id.encode())]
            more += [(b"connection", b"close")] if self._unread else []
            message["headers"] = [*message["headers"], *more]
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if ends:
            self.seconds = time.perf_counter() - self._began
        if ends and self._unread and not self._asks:
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drain(self) -> None:
        left = _MOST_DRAINED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while self._unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()
