"""A run with grades over HTTP and in the handler: score, grade and distribution, as of the local ensemble."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.graded import GRADES, graded_run
from tests.helpers.serving import PAIRS, classify, get, live, post, tiny_run

pytest.importorskip("fastapi", reason="extra [serve] is not installed")

from product_relevance import RelevanceEnsemble
from product_relevance.serving.handler import EndpointHandler
from product_relevance.serving.http.server import Settings, make_app
from product_relevance.serving.limits import Limits

SOME = PAIRS[:9]
TEXTS = [target for _, target in SOME]


@pytest.fixture(scope="module")
def run(base_of):
    return graded_run(base_of("bert"))


@pytest.fixture(scope="module")
def ensemble(run):
    return RelevanceEnsemble.from_pretrained(run, device="cpu")


@pytest.fixture(scope="module")
def local(ensemble):
    """Scores, grades and distributions, taken before a service owns the ensemble."""
    scores = ensemble.predict(SOME)
    return scores, ensemble.decide_grades(scores), ensemble.predict_shares(SOME)


@pytest.fixture(scope="module")
def url(ensemble, local):
    with live(make_app(ensemble, Settings(timeout=200))) as address:
        yield address


def test_served_grades_and_distributions_are_the_local_ones(url, run, local):
    scores, grades, shares = local
    body = {"inputs": [list(pair) for pair in SOME]}
    for answer in (post(url, body)[1], EndpointHandler(str(run), device="cpu")(body)):
        first = [labels[0] for labels in answer]
        assert np.allclose([label["probability"] for label in first], scores, atol=1e-6)
        assert [label["grade"] for label in first] == grades.tolist()
        assert np.allclose([label["grade_probabilities"] for label in first], shares, atol=1e-6)


def test_both_labels_of_a_pair_hold_its_grade(url):
    ((first, second),) = post(url, {"inputs": list(SOME[0]), "parameters": {"top_k": 2}})[1]
    assert first["grade"] == second["grade"] and first["grade_probabilities"] == second["grade_probabilities"]


def test_a_ranking_holds_the_grades_of_its_places(url, ensemble):
    places = post(url, {"query": "red shoes", "texts": TEXTS}, "/rerank")[1]
    assert [place["score"] for place in places] == sorted((place["score"] for place in places), reverse=True)
    assert [place["grade"] for place in places] == ensemble.decide_grades([p["score"] for p in places]).tolist()
    for place in places:
        assert np.dot(place["grade_probabilities"], np.arange(GRADES)) / (GRADES - 1) == pytest.approx(place["score"])


def test_the_rerank_of_cohere_goes_by_the_score(url):
    places = post(url, {"query": "red shoes", "texts": TEXTS}, "/rerank")[1]
    for path in ("/v1/rerank", "/v2/rerank"):
        results = post(url, {"query": "red shoes", "documents": TEXTS}, path)[1]["results"]
        assert [(r["index"], r["relevance_score"]) for r in results] == [(p["index"], p["score"]) for p in places]


def test_the_client_of_the_hub_reads_the_answer(url, local):
    (label,) = classify(url, SOME[0])
    assert label["grade"] == local[1][0]


def test_a_run_of_two_labels_answers_without_grades(base_of):
    handler = EndpointHandler(str(tiny_run(base_of("qwen3"))), device="cpu")
    assert "grade" not in handler({"inputs": list(SOME[0])})[0][0]
    assert "grade" not in handler({"query": "a", "texts": TEXTS})[0]


def test_schemathesis_finds_nothing(ensemble, local, tmp_path):
    pytest.importorskip("schemathesis")
    limits = Limits(pairs=4, documents=4, characters=20)  # no pair is too long for the model
    flags = "--checks all --max-examples 10 --seed 1 --generation-database none --no-color --request-timeout 200"
    with live(make_app(ensemble, Settings(limits, window=0, timeout=200))) as url:
        assert '"grade_probabilities"' in get(url, "/openapi.json")
        command = [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{url}/openapi.json",
            *flags.split(),
            "--include-path-regex",
            "^/(predict|rerank)$",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-9000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 50
