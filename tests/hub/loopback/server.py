"""A Hub on 127.0.0.1 for the real client: it proves that our client code is right, not what the Hub does.

It follows the source of the client (huggingface_hub 2.4.0) and what the Hub documents: where the real Hub differs, a
test that passes here says nothing. It needs the standard library and PyYAML. Large files lie on a second server with
its own port, as the real Hub's lie on another host, so that a token that is sent there is seen (`leaks`).
"""

import os
import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.loopback.answers import Answer, Request, refusal
from tests.hub.loopback.repos import Refused, Repo
from tests.hub.loopback.routes import ROUTES, STORAGE, answer

# Names that would send a subprocess elsewhere, or keep it from the loopback.
FOREIGN = ("HF_", "HUGGING", "TRANSFORMERS_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass
class Fault:
    """An error that the next requests for a path get; without a status the connection is closed half-way."""

    path: str
    times: int
    status: int | None = None
    method: str | None = None
    after: bool = False


class LoopbackHub:
    """The server; use it as a context manager.

    Attributes:
        url: Base address, for HF_ENDPOINT.
        token, read_token, stranger_token: Of `tester` (owner of every namespace but `stranger`), of the same user
            with rights to read only, and of `stranger`. Any other token is wrong.
        repos: (kind, id) -> Repo, with kind "model", "dataset" or "space".
        requests: (method, path) of all requests, in order, without their queries.
    """

    token, read_token, stranger_token = "hf_loopbackWrite", "hf_loopbackRead", "hf_loopbackStranger"

    def __init__(self, xet: Path | None = None):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.collections: dict[str, dict] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.xet, self.xet_files = xet, {}
        self.lock = threading.RLock()
        self._faults: list[Fault] = []
        self._leaks: list[str] = []
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self, part)) for part in (ROUTES, STORAGE)]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def __enter__(self):
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def api(self, token: str | None = None):
        """The real client, logged in as the owner unless another token (or False, for none) is given."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.url, token=self.token if token is None else token)

    def environment(self, home: Path, token: str | None = None, **more: str) -> dict[str, str]:
        """The whole environment for a subprocess whose client shall talk to this server.

        Args:
            home: HF_HOME of the subprocess: its cache and its login lie there.
            token: The owner's if None; "" for none.
            more: Further variables.
        """
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(FOREIGN)}
        told = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_TOKEN": self.token if token is None else token}
        told |= {"HF_HUB_DISABLE_XET": "0" if self.xet else "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        told |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        return kept | told | more

    def put(self, name: str, files: dict[str, bytes], kind: str = "model", branch: str = "main") -> str:
        """Put files into a repository from inside, unchecked, making it if needed; returns the commit's id."""
        with self.lock:
            repo = self.repos.setdefault((kind, name), Repo(kind, name, self.stored))
            repo.branches.setdefault(branch, repo.branches["main"])
            return repo.put(files, branch)

    def repo(self, name: str, kind: str = "model") -> Repo:
        """A repository, with `private`, `gated`, `granted`, `branches`, `tags`, `history(revision)`, `read(path)`."""
        return self.repos[kind, name]

    def count(self, method: str, path: str) -> int:
        """How many requests there were whose path holds the regular expression."""
        return sum(found == method and bool(re.search(path, target)) for found, target in self.requests)

    def fail(self, path: str, status: int, times: int = 1, method: str | None = None) -> None:
        """Answer the next requests with an error; the client repeats 429, 500, 502, 503 and 504, and no other."""
        self._faults.append(Fault(path, times, status, method))

    def drop(self, path: str, times: int = 1, method: str | None = None, after: bool = False) -> None:
        """Close the connection half-way through the request, or (`after`) half-way through the answer to it.

        The client repeats such a request up to five times (a commit too, where it uploads through Xet).
        """
        self._faults.append(Fault(path, times, None, method, after))

    def fault_of(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets, if any."""
        for fault in self._faults:
            if fault.times > 0 and fault.method in (None, method) and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None

    def leaks(self) -> list[str]:
        """Places where a token was seen that may hold none: the storage's server, an address, an uploaded file."""
        tokens = [token.encode() for token in self.people()]
        return self._leaks + [f"stored {key}" for key, body in self.stored.items() for t in tokens if t in body]

    def people(self) -> dict[str, tuple[str, bool]]:
        """Token -> user and whether it may write."""
        return {
            self.token: ("tester", True),
            self.read_token: ("tester", False),
            self.stranger_token: ("stranger", True),
        }

    def serve(self, request: Request, routes: list) -> Answer:
        """Answer one request."""
        login = request.headers.get("authorization", "").removeprefix("Bearer ")
        with self.lock:
            if (login and routes is STORAGE) or any(t in f"{request.path}{request.query}" for t in self.people()):
                self._leaks.append(f"{request.method} {request.path}")
            try:
                if login and login not in self.people():
                    raise Refused(401, None, "Invalid credentials in Authorization header")
                request.user, request.may_write = self.people().get(login, (None, False))
                return answer(self, request, routes)
            except Refused as refused:
                return refusal(refused)

    def with_xet(self, entries: list[dict]) -> list[dict]:
        """Files of a tree with their Xet hashes, where they came through Xet."""
        known = {entry["path"]: self.xet_files.get(entry.get("lfs", {}).get("oid")) for entry in entries}
        return [entry | ({"xetHash": known[entry["path"]][0]} if known[entry["path"]] else {}) for entry in entries]

    def admit_xet(self, repo: Repo) -> None:
        """Take over the large files that came through Xet: their bytes stay in the folder `xet`."""
        for shard in sorted(self.xet.glob("xet/xorbs/shards/*.mdb")) if self.xet else []:
            self.xet_files |= files_of_shard(shard.read_bytes())
        repo.uploaded |= {sha256: size for sha256, (_, size) in self.xet_files.items()}


def files_of_shard(shard: bytes) -> dict[str, tuple[str, int]]:
    """sha256 -> (Xet hash, bytes) of the files that a shard of hf_xet's own local storage lists.

    A file is a header (hash, flags, number of segments), its segments, as many checks if flag 31 is set, and its
    sha256 if flag 30 is set, all of 48 bytes; hashes are four little-endian words. A hash of ones ends the list.
    """
    files, place = {}, 48
    while (name := shard[place : place + 32]) != b"\xff" * 32:
        flags, segments = struct.unpack_from("<II", shard, place + 32)
        sizes = [struct.unpack_from("<I", shard, place + 48 * row + 36)[0] for row in range(1, segments + 1)]
        place += 48 * (1 + segments * (1 + (flags >> 31)))
        if flags >> 30 & 1:
            sha256, found = ("%016x" * 4 % struct.unpack("<4Q", part) for part in (shard[place : place + 32], name))
            files[sha256] = (found, sum(sizes))
            place += 48
    return files


def handler_of(hub: LoopbackHub, routes: list) -> type[BaseHTTPRequestHandler]:
    """The handler class of one of the two servers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self):
            # A client that goes away is what the tests of drops provoke.
            with suppress(ConnectionError):
                super().handle_one_request()

        def log_message(self, *_):
            pass

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def hang_up(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def respond(self):
            target = urlsplit(self.path)
            hub.requests.append((self.command, unquote(target.path)))
            fault = hub.fault_of(self.command, unquote(target.path))
            if fault and fault.status is None and not fault.after:
                self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
                return self.hang_up()
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, target.path, parse_qs(target.query), headers, self.read_body())
            if fault and fault.status:
                return self.send(refusal(Refused(fault.status, None, "a fault that the test asked for")))
            self.send(hub.serve(request, routes), half=bool(fault))

        def send(self, told: Answer, half: bool = False) -> None:
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(told.body[: len(told.body) // 2] if half else told.body)
            if half:
                self.hang_up()

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond

    return Handler
