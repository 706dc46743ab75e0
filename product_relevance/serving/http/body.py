"""Read the JSON body of a request, plain or gzip, and stop where it has more bytes than allowed."""

import asyncio
import json
import zlib
from contextlib import suppress

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from product_relevance.serving.http.errors import http_error

PATIENCE = 1.0  # seconds for the rest of a body that nobody needs
GZIP = 16 + zlib.MAX_WBITS  # zlib's number for a gzip header


async def read_json(request: Request, limit: int) -> object:
    """Read and parse a body.

    Args:
        request: its body is read part by part, and no further than to the limit.
        limit: bytes as they arrive, and bytes unpacked: a small gzip can hold gigabytes.

    Raises:
        HTTPException: 415 another type or encoding, 413 more bytes, 400 no JSON or no whole gzip.
    """
    _require_json(request)
    if int(request.headers.get("content-length") or 0) > limit:
        raise http_error(413, f"the body has more than {limit} bytes")
    unpacked = await _unpacked(request, limit) if _is_gzip(request) else await _plain(request, limit)
    try:
        return json.loads(unpacked.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise http_error(400, "the body is not JSON") from None


def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise http_error(415, "expected content-type application/json")


def _is_gzip(request: Request) -> bool:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise http_error(415, "expected content-encoding gzip, or none")
    return encoding != "identity"


async def _plain(request: Request, limit: int) -> bytes:
    size, parts = 0, []
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise http_error(413, f"the body has more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


async def _unpacked(request: Request, limit: int) -> bytes:
    received, unpacked, stream = 0, bytearray(), zlib.decompressobj(GZIP)
    async for part in request.stream():
        received += len(part)
        try:
            unpacked += stream.decompress(part, limit - len(unpacked) + 1)  # one more shows that there are
        except zlib.error:
            raise http_error(400, "the body is not gzip, as its content-encoding says") from None
        if max(received, len(unpacked)) > limit:
            raise http_error(413, f"the body has more than {limit} bytes, unpacked")
        if stream.unused_data:
            raise http_error(400, "the body goes on after the end of its gzip")
    if not stream.eof:
        raise http_error(400, "the body ends before the end of its gzip")
    return bytes(unpacked)


def _refuse_constant(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are no JSON


class ReadToEnd:
    """Read what is left of a request's body before it is answered.

    A server that answers and closes while bytes are on their way resets the connection, and the client may lose the
    answer: the 401, 415 or 429 that says what is wrong. So a body that is refused unread is read and forgotten, up to
    the limit of bodies and for `PATIENCE` seconds.

    Args:
        app: application to wrap.
        limit: bytes of a body.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        # who sends Expect waits with its body until somebody reads it
        ended = scope["type"] != "http" or any(name == b"expect" for name, _ in scope["headers"])

        async def watched() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or not message.get("more_body", False)
            return message

        async def read_rest() -> None:
            left = self.limit
            while not ended and left > 0:
                left -= len((await watched()).get("body", b""))

        async def answer(message: Message) -> None:
            if not ended and message["type"] == "http.response.start":
                with suppress(TimeoutError):
                    await asyncio.wait_for(read_rest(), PATIENCE)
            await send(message)

        await self.app(scope, watched, answer)
