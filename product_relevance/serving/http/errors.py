"""Make the JSON of failed requests: one shape for all, with the kinds of errors that TEI names."""

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

ERROR_TYPES = {401: "Unauthorized", 429: "Overloaded", 500: "Backend", 503: "Unhealthy", 504: "Timeout"}
# What is left of the body is not read
UNREAD = (401, 408, 413, 415)


def http_error(status: int, text: str = "the queue is full; try again") -> HTTPException:
    """Return the exception of a failed request, with the headers that belong to its status."""
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    if status in UNREAD:
        headers["Connection"] = "close"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 415:
        headers["Accept-Encoding"] = "gzip"
    return HTTPException(status, text, headers)


def error_response(error: HTTPException) -> JSONResponse:
    """Return what the client gets."""
    kind = ERROR_TYPES.get(error.status_code, "Validation")
    return JSONResponse({"error": error.detail, "error_type": kind}, error.status_code, error.headers)
