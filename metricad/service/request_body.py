"""Read the body of a request into memory, up to a limit."""

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from metricad.service.schemas import Refusal

_MOST_DIGITS = 18


def check_head(request: Request, *, most_bytes: int) -> None:
    """Check the headers of a request before its body is read.

    Raises
    ------
    Refusal
        415: the body is not declared as an image, or is compressed. 413: its declared length is too large.
    """
    media_type = request.headers.get("content-type", "")
    # For an image type from another site, a browser asks for permission first. Other types it would just
    # send.
    if not media_type.lower().startswith("image/"):
        received = repr(media_type) if media_type else "none"
        raise Refusal(
            415, "type", f"Content-Type: expected image/png or another image type, received {received}"
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "type", "Content-Encoding: expected none; send the image file as it is")
    declared = request.headers.get("content-length", "")
    # int() refuses numbers with thousands of digits.
    if declared.isdecimal() and (len(declared) > _MOST_DIGITS or int(declared) > most_bytes):
        raise _too_long(most_bytes)


async def received(request: Request, *, most_bytes: int, seconds: float) -> bytes:
    """Read the whole body.

    Parameters
    ----------
    request : Request
    most_bytes : int
        Largest number of bytes to read, whatever the headers state.
    seconds : float
        Time limit for the whole body.

    Raises
    ------
    Refusal
        413: too long. 408: too slow. 400: the connection ended early.
    """
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                content += piece
                if len(content) > most_bytes:
                    raise _too_long(most_bytes)
    except TimeoutError:
        raise Refusal(
            408, "slow", f"the body did not come within {seconds:g} s; send it faster or a smaller one"
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "disconnected", "the connection ended before the body did") from None
    return bytes(content)


def _too_long(most_bytes: int) -> Refusal:
    return Refusal(
        413, "bytes", f"the body is too long; expected {most_bytes} bytes at most: send a smaller image"
    )
