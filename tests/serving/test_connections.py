"""Connections to the service: many, slow and silent ones stay bounded in number, time, memory and log."""

import logging
import os
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port
from tests.helpers.serving import get, live

pytest.importorskip("uvicorn", reason="extra [serve] is not installed")
from product_relevance.serving.http.connections import SPARE, OncePerInterval, require_descriptors

LARGE = 8_000_000  # bytes, more than the kernel keeps of an answer that nobody reads


async def app(scope, receive, send):
    """Answer /health with "ok", anything else with a large body."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b"ok" if scope["path"] == "/health" else b"x" * LARGE
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def closed_after(client: socket.socket) -> float:
    """Seconds until the server ends a connection, its answer read on the way."""
    start = time.perf_counter()
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.perf_counter() - start


def test_a_connection_above_the_limit_gets_429_and_is_closed():
    with live(app, max_connections=1) as url, connected(url) as first:
        first.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in first.recv(4096)
        with connected(url) as second:
            answer = second.recv(4096)
    assert answer.startswith(b"HTTP/1.1 429 ") and b'"error_type": "Overloaded"' in answer


@pytest.mark.parametrize("sent", [b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
def test_a_client_whose_headers_do_not_come_is_dropped(sent):
    with live(app, header_timeout=0.3) as url, connected(url) as client:
        client.sendall(sent)
        assert 0.2 < closed_after(client) < 10


def test_a_client_that_sends_a_header_now_and_then_is_dropped_all_the_same():
    with live(app, header_timeout=0.5) as url, connected(url) as client:
        client.sendall(b"GET /health HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(100):
                client.sendall(b"x: y\r\n")
                time.sleep(0.1)


def test_the_headers_of_a_second_request_have_a_limit_too():
    with live(app, header_timeout=0.3, keep_alive=30) as url, connected(url) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in client.recv(4096)
        client.sendall(b"GET /hea")
        assert closed_after(client) < 10


def test_a_connection_without_a_request_ends_after_the_time_to_keep_it_alive():
    with live(app, keep_alive=0.3) as url, connected(url) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert 0.2 < closed_after(client) < 10


def test_a_client_that_does_not_read_its_answer_is_dropped():
    with live(app, header_timeout=0.3) as url, connected(url) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(1)
        found = 0
        with pytest.raises(ConnectionError):
            while part := client.recv(1 << 20):
                found += len(part)
            raise ConnectionError
        assert found < LARGE


def test_an_answer_that_is_read_comes_whole():
    with live(app, header_timeout=5) as url:
        assert len(get(url, "/large")) == LARGE


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_a_thousand_silent_connections_stay_bounded_and_end_by_themselves(caplog):
    require_descriptors(1200)
    with ExitStack() as stack:
        url = stack.enter_context(live(app, max_connections=40, header_timeout=1.5))
        before, memory = len(os.listdir("/proc/self/fd")), resident()
        clients = [stack.enter_context(connected(url)) for _ in range(1000)]
        time.sleep(0.3)
        assert len(os.listdir("/proc/self/fd")) - before - len(clients) < 40 + 10
        assert resident() - memory < 100_000_000
        for client in clients:
            closed_after(client)
        assert get(url, "/health") == "ok"
    refused = [record for record in caplog.records if "connection refused" in record.getMessage()]
    assert len(refused) <= 1 and len(caplog.text) < 20_000


EXHAUSTED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
sys.path.insert(0, sys.argv[1])
import uvicorn
from tests.serving.test_connections import app
from product_relevance.serving.http.connections import make_config
uvicorn.Server(make_config(app, max_connections=10_000, header_timeout=1, port=int(sys.argv[2]))).run()
"""


def test_without_descriptors_the_log_stays_short_and_the_service_recovers(tmp_path):
    port, log = free_port(), tmp_path / "log.txt"
    command = [sys.executable, "-c", EXHAUSTED, str(ROOT), str(port)]
    with log.open("wb") as output, ExitStack() as stack:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        stack.callback(process.wait)
        stack.callback(process.kill)
        url = f"http://127.0.0.1:{port}"
        wait_for(url)
        clients = [stack.enter_context(connected(url)) for _ in range(100)]
        time.sleep(2.5)
        for client in clients:
            client.close()
        wait_for(url)
    assert "out of system resource" in log.read_text()
    assert log.stat().st_size < 20_000


def wait_for(url: str) -> None:
    for _ in range(300):
        try:
            assert get(url, "/health") == "ok"
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def logged():
    """A logger with the filter, and what came through it."""
    log, found = logging.getLogger("once per interval"), []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    once = OncePerInterval()
    log.addHandler(handler)
    log.addFilter(once)
    yield log, found, once
    log.removeHandler(handler)
    log.removeFilter(once)


def test_a_repeated_error_is_logged_once(logged):
    log, found, _ = logged
    for socket_number in range(1000):
        log.error(f"no descriptors\nsocket: {socket_number}")
    assert found == ["no descriptors\nsocket: 0"]


def test_the_next_one_after_the_interval_counts_those_left_out(logged):
    log, found, once = logged
    once.interval = 0.2
    for _ in range(4):
        log.warning("refused %s", "x")
    time.sleep(0.25)
    log.warning("refused %s", "x")
    assert found == ["refused x", "refused x (3 more like this since)"]


def test_other_errors_and_all_notices_come_through(logged):
    log, found, _ = logged
    log.setLevel(logging.INFO)
    for _ in range(2):
        log.info("started")
    log.error("one")
    log.error("two")
    assert found == ["started", "started", "one", "two"]


def test_more_connections_than_the_system_allows_are_refused():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("the system has no limit")
    with pytest.raises(ValueError, match=f"may open {hard} files, expected at most {hard - SPARE} connections"):
        require_descriptors(hard)
