"""Requests and answers of the loopback Hub, and who may see or change which repository."""

import json
import re
from dataclasses import dataclass, field

from tests.hub.loopback.repos import Refused, Repo


@dataclass
class Request:
    """What a client sent; `path` is as it came, still quoted, and `user` is None without a token."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    user: str | None = None
    may_write: bool = False

    def json(self) -> dict:
        """The body as JSON."""
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        """Whether a query parameter is set to true."""
        return self.query.get(name, [""])[0].lower() in ("true", "1")


@dataclass
class Answer:
    """What the server says."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value, status: int = 200) -> Answer:
    """A JSON answer."""
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


def content(request: Request, body: bytes, headers: dict[str, str]) -> Answer:
    """Bytes of a file, or of the range that was asked for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not match:
        return Answer(body, 200, headers | {"Accept-Ranges": "bytes"})
    first, last = int(match[1]), min(int(match[2] or len(body)), len(body) - 1)
    if first > last:
        return Answer(b"", 416, {"Content-Range": f"bytes */{len(body)}"})
    return Answer(body[first : last + 1], 206, headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}"})


def is_member(user: str | None, namespace: str) -> bool:
    """Whether a user owns a namespace: `stranger` his own one, `tester` every other."""
    return user is not None and (user == "stranger") == (namespace == "stranger")


def repo_of(hub, request: Request, kind: str, space: str, name: str, write: bool = False, files: bool = False) -> Repo:
    """A repository, if the user may see it, write to it, or read its files; refused as the Hub refuses."""
    repo, member = hub.repos.get((kind, f"{space}/{name}")), is_member(request.user, space)
    if repo is None or (repo.private and not member):
        # The Hub does not tell a hidden repository from a missing one, nor either from a missing token.
        raise Refused(404 if request.user else 401, "RepoNotFound", "Repository not found")
    if write and not (member and request.may_write):
        raise Refused(403 if request.user else 401, None, f"You don't have write access to {space}/{name}")
    if files and repo.gated and not member and request.user not in repo.granted:
        raise Refused(403 if request.user else 401, "GatedRepo", f"Access to {kind} {repo.id} is restricted.")
    return repo


def refusal(refused: Refused) -> Answer:
    """The answer that says why a request was refused, in the headers that the client reads."""
    told = as_json({"error": refused.message} | refused.body, refused.status)
    plain = refused.message.replace("\n", " ").encode("ascii", "backslashreplace").decode()
    told.headers["X-Error-Message"] = plain
    if refused.code:
        told.headers["X-Error-Code"] = refused.code
    if "commit" in refused.body:
        told.headers["X-Repo-Commit"] = refused.body["commit"]
    return told
