"""`relevance serve`: shapes, load, queue, timeouts, limits, metrics, shutdown, and no text in its logs."""

import gzip
import http.client
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import free_port
from tests.helpers.serving import PAIRS, SECRET, classify, get, live, post, started, tiny_run

pytest.importorskip("fastapi", reason="extra [serve] is not installed")
import product_relevance.serving.http
from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import main as relevance
from product_relevance.serving.http.access import Access
from product_relevance.serving.http.server import Settings, make_app
from product_relevance.serving.limits import Limits

RELEVANCE = [sys.executable, "-m", "product_relevance.cli.main"]


@pytest.fixture(scope="module")
def run(base_of):
    return tiny_run(base_of("qwen3"))


@pytest.fixture(scope="module")
def ensemble(run):
    return RelevanceEnsemble.from_pretrained(run, device="cpu")


@pytest.fixture(scope="module")
def expected(ensemble):
    """The local scores, taken before a service owns the ensemble."""
    return ensemble.predict(PAIRS)


@pytest.fixture
def url(ensemble, expected):
    with live(make_app(ensemble, Settings())) as address:
        yield address


def test_predict_answers_as_the_handler_on_both_paths(url, expected):
    for path in ("/", "/predict"):
        status, answer, _ = post(url, {"inputs": [list(pair) for pair in PAIRS[:5]]}, path)
        assert status == 200
        assert np.allclose([labels[0]["probability"] for labels in answer], expected[:5], atol=1e-5)


def test_the_client_of_the_hub_reads_the_answer(url, expected):
    (label,) = classify(url, PAIRS[0])
    assert label["probability"] == pytest.approx(expected[0], abs=1e-5)
    assert {entry["label"] for entry in classify(url, PAIRS[0], top_k=2)} == {"relevant", "irrelevant"}


def test_rerank_takes_and_gives_the_shapes_of_tei(url):
    texts = [target for _, target in PAIRS[:7]]
    body = {"query": "red shoes", "texts": texts, "truncate": True, "raw_scores": False, "return_text": True}
    status, places, _ = post(url, body, "/rerank")
    assert status == 200 and sorted(place["index"] for place in places) == list(range(7))
    assert [place["score"] for place in places] == sorted((p["score"] for p in places), reverse=True)
    assert all(place["text"] == texts[place["index"]] for place in places)
    status, answer, _ = post(url, {"inputs": ["a", "b"]}, "/rerank")
    assert status == 400 and "expected" in answer["error"]


def test_fifty_clients_lose_no_answer_and_mix_none_up(ensemble, expected):
    sizes = [1 + i % 4 for i in range(50)]
    starts = np.cumsum([0, *sizes])
    assert len(PAIRS) >= starts[-1] and len({round(float(s), 6) for s in expected[: starts[-1]]}) > 100

    def ask(i):
        mine = slice(starts[i], starts[i + 1])
        found = []
        for _ in range(4):
            status, answer, _ = post(url, {"inputs": [list(pair) for pair in PAIRS[mine]]})
            assert status == 200
            found.append([labels[0]["probability"] for labels in answer])
        return np.abs(np.array(found) - expected[mine]).max()

    with live(make_app(ensemble, Settings(window=0.02, timeout=200))) as url:
        with ThreadPoolExecutor(50) as pool:
            errors = list(pool.map(ask, range(50)))
        figures = get(url, "/metrics")
    assert max(errors) < 1e-5
    assert f"relevance_pairs_total {4 * starts[-1]:.1f}" in figures
    batches = float(re.search(r"relevance_batch_pairs_count (\S+)", figures)[1])
    assert batches < 200 / 2  # of 200 requests many were joined


@pytest.fixture
def held(ensemble, monkeypatch):
    """Hold the scoring thread at its first batch until `go_on` is set."""
    real = ensemble.predict_tokens
    hold = SimpleNamespace(reached=threading.Event(), go_on=threading.Event())

    def predict_tokens(*arguments):
        hold.reached.set()
        assert hold.go_on.wait(timeout=200)
        return real(*arguments)

    monkeypatch.setattr(ensemble, "predict_tokens", predict_tokens)
    yield hold
    hold.go_on.set()


def wait_for_queue(url: str, n: int) -> None:
    for _ in range(2000):
        if f"relevance_queue_requests {n}.0" in get(url, "/metrics"):
            return
        time.sleep(0.05)
    raise AssertionError(f"never were {n} requests waiting")


def test_a_full_queue_refuses_at_once_and_answers_the_others(ensemble, expected, held):
    settings = Settings(max_queue=3, window=0, timeout=200)
    with live(make_app(ensemble, settings)) as url, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(post, url, {"inputs": [list(PAIRS[0])]})]
        assert held.reached.wait(timeout=200)
        futures += [pool.submit(post, url, {"inputs": [list(PAIRS[i])]}) for i in (1, 2, 3)]
        wait_for_queue(url, 3)
        for _ in range(3):
            status, answer, headers = post(url, {"inputs": [list(PAIRS[4])]})
            assert status == 429 and answer["error_type"] == "Overloaded" and headers["retry-after"] == "1"
        held.go_on.set()
        results = [future.result() for future in futures]
    assert [status for status, _, _ in results] == [200] * 4
    found = {round(answer[0][0]["probability"], 5) for _, answer, _ in results}
    assert found == {round(float(score), 5) for score in expected[:4]}


def test_a_request_that_waits_too_long_gets_504_and_is_not_scored(ensemble, held):
    with live(make_app(ensemble, Settings(timeout=2, window=0))) as url, ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, url, {"inputs": [["a", "b"]]})
        assert held.reached.wait(timeout=200)
        status, answer, _ = post(url, {"inputs": [["a", "b"]] * 9})
        assert status == first.result()[0] == 504 and answer["error_type"] == "Timeout"
        held.go_on.set()
        wait_for_queue(url, 0)
        scored = re.search(r"\nrelevance_pairs_total (\S+)", get(url, "/metrics"))[1]
    assert float(scored) <= 1  # the one that was under way


def opened(url: str, length: int) -> http.client.HTTPConnection:
    """A POST whose body is yet to come."""
    connection = http.client.HTTPConnection(*url.removeprefix("http://").split(":"), timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(length))
    connection.endheaders()
    return connection


def test_a_body_that_does_not_arrive_gets_408(ensemble):
    with live(make_app(ensemble, Settings(timeout=0.3))) as url:
        assert opened(url, 10).getresponse().status == 408


def test_a_body_over_the_limit_is_refused_before_it_is_read(url):
    response = opened(url, 2_000_001).getresponse()
    assert response.status == 413 and b"more than 2000000 bytes" in response.read()


def chunks(size: int):
    for _ in range(size // 1000):
        yield b"x" * 1000


BAD = {
    "no JSON": (b"{", {}, 400),
    "no UTF-8": (b'{"inputs": ["\xff", "b"]}', {}, 400),
    "NaN": (b'{"inputs": ["a", "b"], "parameters": {"threshold": NaN}}', {}, 400),
    "too deep": (b"[" * 100_000, {}, 400),
    "a number of 5,000 digits": (b'{"inputs": ["a", "b"], "parameters": {"top_k": ' + b"1" * 5000 + b"}}", {}, 400),
    "an empty body": (b"", {}, 400),
    "a form": (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415),
    "33 pairs": ({"inputs": [["a", "b"]] * 33}, {}, 400),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_gets_a_json_error_of_one_shape(url, case):
    body, headers, expected_status = BAD[case]
    status, answer, _ = post(url, body, **headers)
    assert status == expected_status
    assert answer.keys() == {"error", "error_type"} and answer["error_type"] == "Validation"


def test_a_body_without_a_length_is_cut_off_at_the_limit(url):
    connection = http.client.HTTPConnection(*url.removeprefix("http://").split(":"), timeout=30)
    headers = {"content-type": "application/json", "transfer-encoding": "chunked"}
    with suppress(ConnectionResetError, BrokenPipeError):  # the answer comes before the body has ended
        connection.request("POST", "/predict", chunks(2_100_000), headers, encode_chunked=True)
    assert connection.getresponse().status == 413


def test_a_large_answer_is_packed_for_who_takes_it(url):
    body = {"query": "a", "texts": [f"text {i}" for i in range(40)]}
    connection = http.client.HTTPConnection(*url.removeprefix("http://").split(":"), timeout=200)
    headers = {"content-type": "application/json", "accept-encoding": "gzip", "content-encoding": "gzip"}
    connection.request("POST", "/rerank", gzip.compress(json.dumps(body).encode()), headers)
    response = connection.getresponse()
    assert response.getheader("content-encoding") == "gzip"
    assert len(json.loads(gzip.decompress(response.read()))) == 40
    assert "content-encoding" not in post(url, body, "/rerank")[2]


def test_a_service_with_a_key_scores_for_who_has_it(ensemble):
    with live(make_app(ensemble, Settings(access=Access("k")))) as url:
        assert post(url, {"inputs": ["a", "b"]})[0] == 401
        assert post(url, {"inputs": ["a", "b"]}, authorization="Bearer k")[0] == 200
        assert 'relevance_requests_total{path="/predict",status="401"} 1.0' in get(url, "/metrics")


def test_unknown_paths_and_methods_have_errors_of_the_same_shape(url):
    for method, path, expected_status in (("GET", "/nothing", 404), ("GET", "/predict", 405), ("PUT", "/health", 405)):
        connection = http.client.HTTPConnection(*url.removeprefix("http://").split(":"), timeout=30)
        connection.request(method, path)
        response = connection.getresponse()
        assert response.status == expected_status and b'"error_type"' in response.read()


def test_an_unforeseen_failure_is_a_500_that_names_no_text(ensemble, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)

    def fail(*_):
        raise KeyError(SECRET)

    with live(make_app(ensemble, Settings())) as url:
        post(url, {"inputs": [SECRET, SECRET]})
        post(url, {"inputs": SECRET})
        post(url, {SECRET: SECRET})
        post(url, SECRET.encode())
        monkeypatch.setattr(ensemble, "predict_tokens", fail)
        status, answer, _ = post(url, {"inputs": [SECRET, "b"]})
        assert status == 500 and answer["error_type"] == "Backend" and SECRET not in answer["error"]
    assert "scoring failed with KeyError" in caplog.text and SECRET not in caplog.text


def test_metrics_count_requests_pairs_batches_and_the_queue(url):
    post(url, {"inputs": [["a", "b"], ["a", "c"]]})
    post(url, {"inputs": "a"})
    get(url, "/health")
    figures = get(url, "/metrics")
    for line in (
        'relevance_requests_total{path="/predict",status="200"} 1.0',
        'relevance_requests_total{path="/predict",status="400"} 1.0',
        'relevance_request_seconds_count{path="/predict"} 2.0',
        "relevance_pairs_total 2.0",
        'relevance_batch_pairs_bucket{le="2.0"} 1.0',
        "relevance_queue_requests 0.0",
    ):
        assert line in figures, line


def test_schemathesis_finds_nothing(ensemble, tmp_path):
    pytest.importorskip("schemathesis")
    # texts so short that no pair can be too long for the model, which a schema cannot say
    limits = Limits(pairs=4, documents=4, characters=20)
    flags = "--checks all --max-examples 25 --seed 1 --generation-database none --no-color --request-timeout 200"
    with live(make_app(ensemble, Settings(limits, window=0, timeout=200, access=Access("k")))) as url:
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json", *flags.split()]
        command += ["--header", "Authorization: Bearer k"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    tested = re.search(r"(\d+) generated", done.stdout)
    assert tested and int(tested[1]) > 100, done.stdout[-3000:]


def test_sigterm_answers_what_is_under_way_and_exits_with_0(run, expected, tmp_path):
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log.txt"
    flags = ["--port", str(port), "--device", "cpu", "--batch_window_ms", "4000", "--timeout", "200"]
    with started([*RELEVANCE, "serve", str(run), *flags], port, log) as process:
        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(post, url, {"inputs": [list(PAIRS[i])]}) for i in range(8)]
            wait_for_queue(url, 8)
            process.send_signal(signal.SIGTERM)
            answers = [future.result() for future in futures]
        assert process.wait(timeout=120) == 0
    assert [status for status, _, _ in answers] == [200] * 8
    assert np.allclose([answer[0][0]["probability"] for _, answer, _ in answers], expected[:8], atol=1e-5)
    with pytest.raises(OSError):
        get(url, "/health")
    assert not any(query in log.read_text() for query, _ in PAIRS[:8] if len(query) > 4)


def test_a_taken_port_and_bad_flags_are_told(run):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit, match="choose another --host or --port"):
            relevance(["serve", str(run), "--port", port, "--device", "cpu"])
    for flags, said in (
        (["--max_pairs", "0"], "pairs: found 0"),
        (["--max_queue", "0"], "max_queue: found 0"),
        (["--timeout", "nan"], "timeout: found nan"),
        (["--max_connections", "0"], "max_connections: found 0"),
        (["--header_timeout", "0"], "header_timeout: found 0"),
        (["--keep_alive", "-1"], "keep_alive: found -1"),
        (["--batch_window_ms", "-1"], "batch window"),
        (["--key_everywhere"], "--key_everywhere: found no variable RELEVANCE_API_KEY"),
    ):
        with pytest.raises(SystemExit, match=said):
            relevance(["serve", str(run), *flags])


def test_without_the_extra_serve_says_what_to_install(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "product_relevance.serving.http.server")
    monkeypatch.delattr(product_relevance.serving.http, "server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit, match=r"pip install '\.\[serve\]' in a clone"):
        relevance(["serve", os.fspath(run)])
