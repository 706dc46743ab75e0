"""Ask clients for an API key: the key of the environment, and the ASGI middleware that compares it."""

import hmac
import os
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from product_relevance.serving.http.errors import error_response, http_error

VARIABLE = "RELEVANCE_API_KEY"
OPEN = frozenset({"/", "/health", "/metrics", "/openapi.json"})  # to GET; none of them shows a text or a score


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        key: that clients send as `Authorization: Bearer KEY`; anyone may ask if None.
        everywhere: ask for it on /health, /metrics and the page, too.
    """

    key: str | None = field(default=None, repr=False)
    everywhere: bool = False

    def __post_init__(self) -> None:
        if self.everywhere and self.key is None:
            raise ValueError(f"--key_everywhere: found no variable {VARIABLE}, expected the key in it")
        if self.key is not None and not (self.key and self.key.isascii() and self.key.isprintable()):
            raise ValueError(f"{VARIABLE}: found an empty or unprintable value, expected ASCII; unset it for no key")
        if self.key is not None and self.key != self.key.strip():
            raise ValueError(f"{VARIABLE}: found a space at an end, which no client can send")

    @classmethod
    def from_environment(cls, everywhere: bool = False) -> "Access":
        """Read the key from RELEVANCE_API_KEY.

        Raises:
            ValueError: a key that no header can hold; `everywhere` without one.
        """
        return cls(os.environ.get(VARIABLE), everywhere)

    @property
    def open_paths(self) -> frozenset[str]:
        """Paths that anyone may GET."""
        return frozenset() if self.everywhere else OPEN


class RequireKey:
    """Answers 401 to a request without the key, before its body is read."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        self._expected = (access.key or "").encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or self.access.key is None or self._is_open(scope) or self._has_key(scope):
            await self.app(scope, receive, send)
            return
        error = http_error(401, "expected the header Authorization: Bearer, with the API key of this server")
        await error_response(error)(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        return scope["method"] in ("GET", "HEAD") and scope["path"] in self.access.open_paths

    def _has_key(self, scope: Scope) -> bool:
        found = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = found[0].partition(b" ") if len(found) == 1 else (b"", b"", b"")
        # the comparison takes as long for a key that is nearly right
        return hmac.compare_digest(key.strip(), self._expected) and scheme.lower() == b"bearer"
