"""Limits of the HTTP service below its requests: number and patience of connections, repeated errors in the log."""

import asyncio
import json
import logging

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

SPARE = 128  # descriptors for all but connections: libraries, the listener, the model's files while it loads
LOGGERS = (
    "asyncio",
    "uvicorn.error",
    "product_relevance.serving.http.server",
    "product_relevance.serving.scorer",
    __name__,
)
logger = logging.getLogger(__name__)


def make_config(
    app, *, max_connections: int = 512, header_timeout: float = 10, keep_alive: float = 5, **options
) -> uvicorn.Config:
    """Configure uvicorn so that clients that are many, slow or silent do not hold the service.

    Args:
        app: ASGI application.
        max_connections: open at once; further ones get 429 and are closed.
        header_timeout: seconds from the first byte of a request, or from the connection, to the end of its headers;
            also how long a client may leave an answer unread.
        keep_alive: seconds that a connection without a request stays open.
        **options: of uvicorn.Config.
    """
    log_everything()
    for name in LOGGERS:
        logging.getLogger(name).addFilter(OncePerInterval())

    class Protocol(LimitedProtocol):
        most, patience = max_connections, header_timeout

    options["timeout_keep_alive"] = keep_alive  # it takes parts of a second, though its type is a whole number
    return uvicorn.Config(app, http=Protocol, ws="none", access_log=False, **options)


def log_everything() -> None:
    """Take back what `make_config` left out of the log."""
    for target in map(logging.getLogger, LOGGERS):
        for each in [each for each in target.filters if isinstance(each, OncePerInterval)]:
            target.removeFilter(each)


class LimitedProtocol(AutoHTTPProtocol):  # type: ignore[valid-type,misc]  # a class by what is installed
    """A connection that is refused above a number of others, and dropped where its client lets it wait.

    Attributes:
        most: connections open at once.
        patience: seconds for the headers of a request, and for an answer to be read.
    """

    most, patience = 512, 10.0
    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        """Take the connection, or answer 429 where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.connections.discard(self)
            logger.warning("connection refused: %d are open, as --max_connections allows", self.most)
            transport.write(_refusal(self.most))
            transport.close()
            return
        transport.set_write_buffer_limits(high=0)  # so that each byte which a client leaves unread is noticed
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Read what came; the time for the headers goes on until they are whole."""
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        """Give the client a time to read its answer."""
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: all was read."""
        super().resume_writing()
        _cancel(self._unread)
        self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        _cancel(self._head)
        _cancel(self._unread)
        self._head = self._unread = None

    def _watch_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:  # a request is under way
            _cancel(self._head)
            self._head = None
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.patience, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _refusal(most: int) -> bytes:
    text = f"{most} connections are open; try again"
    body = json.dumps({"error": text, "error_type": "Overloaded"}).encode()
    head = (
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    )
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class OncePerInterval(logging.Filter):
    """Lets a warning or error through once per interval; the next one says how many were left out."""

    def __init__(self, interval: float = 60.0) -> None:
        super().__init__()
        self.interval = interval
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}  # last time, and how many were left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged."""
        if record.levelno < logging.WARNING:
            return True
        key = record.name, record.getMessage().partition("\n")[0]  # what follows names a socket or a task
        last, left_out = self._seen.get(key, (-self.interval, 0))
        if record.created - last < self.interval:
            self._seen[key] = last, left_out + 1
            return False
        if len(self._seen) > 1000:  # whatever messages may say, this stays small
            self._seen.clear()
        self._seen[key] = record.created, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out:,} more like this since)", ()
        return True


def require_descriptors(max_connections: int) -> None:
    """Let the process open as many files as the connections need.

    Raises:
        ValueError: the system allows fewer.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_connections + SPARE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ValueError(
            f"--max_connections {max_connections}: this process may open {hard} files, expected at most "
            f"{hard - SPARE} connections; raise `ulimit -n`, or give fewer"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
