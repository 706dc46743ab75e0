"""Explain errors of the Hub's client in one clear line that holds no token."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

TOKEN = re.compile(r"\bhf_\w+")
LOGIN = "set HF_TOKEN, or run `hf auth login`, with a token that may write"


@contextmanager
def stay_offline(wanted: bool) -> Iterator[None]:
    """Keep the client from any connection inside the block, if `wanted`; what is in its cache can be used."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn the client's errors inside the block into a ValueError of one clear line.

    Raises:
        ValueError: from `explain_error`.
    """
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (HTTPError, OSError, RuntimeError) as error:  # hf_xet raises RuntimeError
        raise ValueError(explain_error(error)) from None


def explain_error(error: BaseException) -> str:
    """Say in one line what an error of the Hub's client means and what to do; never shows a token.

    Args:
        error: raised by huggingface_hub.
    """
    from huggingface_hub import errors

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, errors.HTTPError):
        error = error.__cause__  # of one file's upload; the client only names the file
    what = getattr(error, "repo_id", None) or _place_of(error) or "the Hub"
    messages = {
        errors.LocalTokenNotFoundError: f"no token: {LOGIN}",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, so nothing can be asked of the Hub: unset it",
        errors.LocalEntryNotFoundError: "not in the cache of this machine, and the Hub was not reached: check the "
        "connection and HF_HUB_OFFLINE",
        errors.GatedRepoError: f"{what} is gated: ask for access on its page, with the account of your token",
        errors.RevisionNotFoundError: f"{what} has no such revision: check the branch, tag or commit",
        errors.RemoteEntryNotFoundError: f"{what} has no such file: {_first_line(error)}",
        errors.RepositoryNotFoundError: f"{what}: no such repository, or it is private and your token may not read "
        f"it: check the name, or {LOGIN}",
    }
    known = next((text for kind, text in messages.items() if isinstance(error, kind)), None)
    if known is None and isinstance(error, errors.HfHubHTTPError):
        known = _explain_status(error, what)
    if known is None and isinstance(error, errors.HTTPError | ConnectionError):
        known = f"the Hub was not reached ({type(error).__name__}): check the connection; the same command goes on"
    if known is None and isinstance(error, RuntimeError):
        known = f"the upload failed ({_first_line(error)}): run the same command again, it goes on where it stopped"
    return remove_tokens(known or f"{type(error).__name__}: {_first_line(error)}")


def _explain_status(error: "HfHubHTTPError", what: str) -> str:
    status = error.response.status_code
    said = _first_line(error)
    known = {
        401: f"the Hub does not accept the token (wrong or expired): {LOGIN}",
        403: f"your token may not write to {what}: check that the namespace is right and the token has the role write",
        404: f"{what} was not found: {said}",
        409: f"{what} is taken, or is being changed at this moment: {said}",
        412: f"{what} was changed by someone else at this moment: look at it, then run the same command again",
        429: "the Hub asks for fewer requests: wait some minutes, then run the same command again",
    }
    if status >= 500:
        return f"the Hub failed ({status}) at {what}: run the same command again, it goes on where it stopped"
    return known.get(status, f"the Hub refused the request for {what} ({status}): {said}")


def _place_of(error: BaseException) -> str | None:
    """Return the repository that the address of a failed request names."""
    response = getattr(error, "response", None)
    path = "" if response is None else response.url.path
    found = re.match(r"/api/(?:models|datasets|spaces)/([^/]+/[^/]+)", path)
    return found.group(1) if found else None


def _first_line(error: BaseException) -> str:
    said: str = getattr(error, "server_message", None) or str(error)
    return next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)


def remove_tokens(text: str) -> str:
    """Take every token out of a text: words that begin with `hf_`, and the one in use whatever its form."""
    from huggingface_hub import get_token

    try:
        used = get_token()
    except (OSError, ValueError):  # a broken login must not hide the message
        used = None
    return TOKEN.sub("hf_***", text.replace(used, "hf_***") if used else text)
