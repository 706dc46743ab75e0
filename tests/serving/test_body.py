"""Bodies in gzip: unpacked up to a limit, whatever they would become, and refused where they are broken."""

import gzip
import http.client
import json
import select
from contextlib import closing

import pytest

from tests.helpers.serving import live, post

pytest.importorskip("fastapi", reason="extra [serve] is not installed")
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from product_relevance.serving.http import body
from product_relevance.serving.http.errors import error_response

LIMIT = 10_000
PACKED = gzip.compress(b'{"a": 1}')


@pytest.fixture(scope="module")
def url():
    app = FastAPI()

    @app.post("/")
    async def echo(request: Request):
        return JSONResponse(await body.read_json(request, LIMIT))

    @app.exception_handler(HTTPException)
    async def fail(request: Request, error: HTTPException):
        return error_response(error)

    app.add_middleware(body.ReadToEnd, limit=LIMIT)
    with live(app) as address:
        yield address


def sent(url: str, content: bytes, encoding: str = "gzip") -> tuple[int, object, dict]:
    return post(url, content, "/", **{"content-encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_gzip_is_unpacked(url, encoding):
    assert sent(url, PACKED, encoding)[:2] == (200, {"a": 1})
    assert sent(url, b'{"a": 1}', "identity")[:2] == (200, {"a": 1})


def test_a_body_in_many_parts_is_put_together(url):
    text = json.dumps([f"{i}" for i in range(1000)])
    packed = gzip.compress(text.encode())
    connection = http.client.HTTPConnection(*url.removeprefix("http://").split(":"), timeout=30)
    headers = {"content-type": "application/json", "content-encoding": "gzip", "transfer-encoding": "chunked"}
    connection.request(
        "POST", "/", (packed[i : i + 7] for i in range(0, len(packed), 7)), headers, encode_chunked=True
    )
    assert json.loads(connection.getresponse().read()) == json.loads(text)


def test_the_limit_counts_unpacked_bytes(url):
    whole, more = (json.dumps("x" * (LIMIT - 2 + extra)).encode() for extra in (0, 1))
    assert sent(url, gzip.compress(whole))[0] == 200
    status, answer, _ = sent(url, gzip.compress(more))
    assert status == 413 and "more than 10000 bytes, unpacked" in answer["error"]


def test_a_bomb_is_never_unpacked(url, monkeypatch):
    bomb = gzip.compress(b"0" * 5_000_000)  # 5,000 bytes as it arrives
    assert len(bomb) < LIMIT
    most = []
    real = body.zlib.decompressobj

    class Counting:
        def __init__(self, *arguments):
            self.real = real(*arguments)

        def __getattr__(self, name):
            return getattr(self.real, name)

        def decompress(self, data, most_bytes):
            found = self.real.decompress(data, most_bytes)
            most.append(len(found))
            return found

    monkeypatch.setattr(body.zlib, "decompressobj", Counting)
    assert sent(url, bomb)[0] == 413
    assert sum(most) == LIMIT + 1
    nested = gzip.compress(gzip.compress(b"{}" * 10))
    assert sent(url, nested)[0] == 400  # unpacked once


BROKEN = {
    "no gzip": (b'{"a": 1}', "gzip", 400, "is not gzip"),
    "half of one": (PACKED[:-9], "gzip", 400, "ends before the end of its gzip"),
    "nothing": (b"", "gzip", 400, "ends before the end"),
    "a wrong checksum": (PACKED[:-5] + b"\0" + PACKED[-4:], "gzip", 400, "is not gzip"),
    "two in a row": (PACKED * 2, "gzip", 400, "goes on after the end"),
    "zlib": (PACKED, "deflate", 415, "expected content-encoding gzip"),
    "brotli": (PACKED, "br", 415, "expected content-encoding gzip"),
    "twice": (PACKED, "gzip, gzip", 415, "expected content-encoding gzip"),
    "no JSON inside": (gzip.compress(b"{"), "gzip", 400, "is not JSON"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_says_why(url, case):
    content, encoding, expected, said = BROKEN[case]
    status, answer, headers = sent(url, content, encoding)
    assert status == expected and said in answer["error"]
    assert (headers.get("accept-encoding") == "gzip") == (status == 415)


def ask(connection: http.client.HTTPConnection, *headers: tuple[str, str]) -> None:
    """Send the headers of a request whose body nobody reads."""
    connection.putrequest("POST", "/")
    for name, value in (("content-type", "text/plain"), ("content-length", "8"), *headers):
        connection.putheader(name, value)
    connection.endheaders()


def answered(connection: http.client.HTTPConnection) -> int:
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.fixture
def connection(url):
    opened = http.client.HTTPConnection(*url.removeprefix("http://").split(":"), timeout=20)
    opened.connect()
    opened.auto_open = 0  # a connection that was closed stays so
    with closing(opened):
        yield opened


def test_who_sends_a_refused_body_late_is_answered_behind_it(connection):
    ask(connection)
    assert not select.select([connection.sock], [], [], 0.2)[0]
    connection.send(b'{"a": 1}')
    assert answered(connection) == 415


def test_a_refused_body_that_does_not_come_is_not_waited_for_long(connection, monkeypatch):
    monkeypatch.setattr(body, "PATIENCE", 0.1)
    ask(connection)
    assert answered(connection) == 415


def test_who_waits_to_be_asked_for_the_body_is_refused_without_it(connection, monkeypatch):
    monkeypatch.setattr(body, "PATIENCE", 60)
    ask(connection, ("expect", "100-continue"))
    assert answered(connection) == 415
