"""The handler under hf-serve, the public successor of the server behind Inference Endpoints, on loopback."""

import shutil
import sys

import numpy as np
import pytest

from product_relevance import RelevanceEnsemble
from product_relevance.hub.publish import publish_staged
from tests.conftest import ROOT, free_port
from tests.helpers.serving import PAIRS, SECRET, classify, post, started, tiny_run
from tests.helpers.staged import BASE, NAME, base_files, plain_run, staged

pytest_plugins = ["tests.hub.loopback.fixture"]
pytest.importorskip("hf_serve", reason="pip install --no-deps hf-serve==0.2.0 python-magic")
pytest.importorskip("magic", reason="python-magic or the system's libmagic is not installed", exc_type=ImportError)

# hf-serve 0.2.0 passes options to reprlib.Repr that Python has from 3.12 on.
LAUNCH = """
import reprlib, sys
if sys.version_info < (3, 12):
    class Repr(reprlib.Repr):
        def __init__(self, **options):
            super().__init__()
            vars(self).update(options)
    reprlib.Repr = Repr
from hf_serve.cli import main
main()
"""

# docs/how-to/serve.md tells why, and a test below holds it to them.
SWITCHES = {"TRUST_REMOTE_CODE": "1", "HF_SERVE_LOGGING_LEVEL": "WARNING"}


@pytest.fixture(scope="module")
def run(base_of):
    return tiny_run(base_of("qwen3"))


@pytest.fixture(scope="module")
def expected(run):
    return RelevanceEnsemble.from_pretrained(run, device="cpu").predict(PAIRS[:8])


def launch(flags: list[str], log, **environment):
    """Start hf-serve with the handler of a repository; gives its URL, and the process as a context manager."""
    port = free_port()
    command = [sys.executable, "-c", LAUNCH, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    return f"http://127.0.0.1:{port}", started([*command, "--task", "custom", *flags], port, log, environment)


@pytest.fixture(scope="module")
def repository(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository") / "ensemble"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copy(ROOT / "product_relevance/serving/handler.py", folder)
    return folder


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "hf-serve.txt"
    url, process = launch(["--model-dir", str(repository)], log, **SWITCHES)
    with process:
        yield url, log


def test_plain_http_gets_the_local_scores_in_every_shape(server, expected):
    url, _ = server
    named = [{"text": query, "text_pair": target} for query, target in PAIRS[:8]]
    for path in ("/", "/predict"):
        for inputs in (named, [list(pair) for pair in PAIRS[:8]]):
            status, answer, _ = post(url, {"inputs": inputs}, path)
            assert status == 200
            assert np.allclose([labels[0]["probability"] for labels in answer], expected, atol=1e-5)


def test_inference_client_gets_the_local_scores(server, expected):
    url, _ = server
    (label,) = classify(url, PAIRS[0])
    assert label["probability"] == pytest.approx(expected[0], abs=1e-5)
    both = classify(url, PAIRS[1], top_k=2)
    assert sum(entry["score"] for entry in both) == pytest.approx(1)
    assert both[0]["probability"] == pytest.approx(expected[1], abs=1e-5)


def test_a_query_with_texts_is_ranked_by_the_local_scores(server, run):
    url, _ = server
    texts = [target for _, target in PAIRS[:5]]
    local = RelevanceEnsemble.from_pretrained(run, device="cpu").rank("red shoes", texts)
    status, places, _ = post(url, {"query": "red shoes", "texts": texts}, "/")
    assert status == 200 and [place["index"] for place in places] == [place["index"] for place in local]
    assert np.allclose([place["score"] for place in places], [place["score"] for place in local], atol=1e-5)


@pytest.mark.parametrize("body", [{"inputs": SECRET}, {"inputs": [SECRET, " "]}, {"inputs": ["a", "b"], SECRET: 1}])
def test_a_bad_request_gets_400_with_what_was_expected(server, body):
    url, _ = server
    status, answer, _ = post(url, body, "/")
    assert status == 400 and "expected" in answer["detail"] and SECRET not in answer["detail"]


def test_with_the_log_level_of_the_docs_no_text_is_logged(server):
    url, log = server
    assert post(url, {"inputs": [SECRET, SECRET]})[0] == 200
    assert post(url, {"inputs": SECRET})[0] == 400
    assert "found a single string" in log.read_text() and SECRET not in log.read_text()


def test_without_its_switch_the_server_runs_no_code_of_a_repository(repository, tmp_path):
    _, process = launch(["--model-dir", str(repository)], tmp_path / "log.txt")
    with pytest.raises(AssertionError, match="TRUST_REMOTE_CODE"), process:
        pass


def test_a_published_ensemble_is_served_at_a_tag_that_its_base_does_not_have(hub, base_of, tmp_path):
    base = base_of("qwen3")
    hub.put(BASE, base_files(base))
    publish_staged(staged(base), tag="v1")
    assert "v1" in hub.repo(NAME).tags and not hub.repo(BASE).tags
    environment = hub.environment(tmp_path / "home") | SWITCHES
    url, process = launch(["--model-id", NAME, "--revision", "v1"], tmp_path / "log.txt", **environment)
    expected = RelevanceEnsemble.from_pretrained(plain_run(base), device="cpu").predict(PAIRS[:8])
    with process:
        status, answer, _ = post(url, {"inputs": [list(pair) for pair in PAIRS[:8]]}, "/")
    assert status == 200
    assert np.allclose([labels[0]["probability"] for labels in answer], expected, atol=1e-5)


def test_the_page_starts_the_server_with_these_switches():
    page = (ROOT / "docs/how-to/serve.md").read_text(encoding="utf-8")
    switches = " ".join(f"{name}={value}" for name, value in SWITCHES.items())
    assert f"{switches} hf-serve --host 127.0.0.1 --port 8080 --task custom --model-id" in page
