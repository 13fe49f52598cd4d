"""HTTP/1.1 connections of the service: uvicorn's protocol with a time limit for request headers."""

import asyncio

import h11
from starlette.status import HTTP_400_BAD_REQUEST
from uvicorn.protocols.http.h11_impl import H11Protocol

from metricad.service.schemas import problem

HEAD_SECONDS = 10.0
"""Time in seconds that a connection may take to send the request line and headers."""


class Protocol(H11Protocol):
    """One HTTP connection.

    uvicorn alone would wait forever for the first request and for the rest of a started one. It would also
    answer invalid HTTP in its own format.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start the time limit; see asyncio.Protocol."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit; see asyncio.Protocol."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start or stop the time limit; see asyncio.Protocol."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._wait_no_more()
        elif self._deadline is None and not self.transport.is_closing():
            self._wait()  # part of the next request's head; the time starts with its first byte

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with a JSON error."""
        refusal = problem(HTTP_400_BAD_REQUEST, "not a valid HTTP/1.1 request")
        headers = [*refusal.raw_headers, (b"connection", b"close")]
        try:
            for event in (
                h11.Response(status_code=HTTP_400_BAD_REQUEST, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(refusal.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
        except h11.LocalProtocolError:
            pass  # an answer has been started already
        self.transport.close()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
