"""Connections of the service: uvicorn's HTTP/1.1, with an end to a head that never comes."""

import asyncio

import h11
from starlette.status import HTTP_400_BAD_REQUEST
from uvicorn.protocols.http.h11_impl import H11Protocol

from metricad.service.schemas import problem

HEAD_SECONDS = 10.0
"""How long a connection may take to send a request's line and headers."""


class Protocol(H11Protocol):
    """One connection.

    uvicorn would wait without end for the first request and for the rest of one that has begun, and answers
    what is no HTTP in a shape of its own.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._wait_no_more()
        elif self._deadline is None and not self.transport.is_closing():
            self._wait()  # a piece of the next head; the time runs from its first byte

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
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
            pass  # an answer was under way already
        self.transport.close()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
