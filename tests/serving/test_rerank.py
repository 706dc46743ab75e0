"""/v1/rerank and /v2/rerank: the real client of Cohere, the shapes of Jina, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.serving import PAIRS, SECRET, live, post, tiny_run

pytest.importorskip("fastapi", reason="extra [serve] is not installed")
from product_relevance import RelevanceEnsemble
from product_relevance.serving.http.server import Settings, make_app
from product_relevance.serving.limits import Limits

DOCUMENTS = [target for _, target in PAIRS[:7]]
BODY = {"model": "any", "query": "red shoes", "documents": DOCUMENTS}
PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")


@pytest.fixture(scope="module")
def ensemble(base_of):
    return RelevanceEnsemble.from_pretrained(tiny_run(base_of("qwen3")), device="cpu")


@pytest.fixture(scope="module")
def expected(ensemble) -> list[float]:
    """The local scores, taken before a service owns the ensemble."""
    return ensemble.predict([("red shoes", document) for document in DOCUMENTS]).tolist()


@pytest.fixture(scope="module")
def url(ensemble, expected):
    with live(make_app(ensemble, Settings(timeout=200))) as address:
        yield address


def ask_cohere(url: str, code: str) -> list:
    """Run code with a `client` of each API, in a process of its own; returns what it appends to `found`."""
    code = (
        "import json, sys, cohere\nbody = json.loads(sys.argv[2])\nfound = []\n"
        "v1, v2 = (kind('key', base_url=sys.argv[1]) for kind in (cohere.Client, cohere.ClientV2))\n"
        f"{code}\nprint(json.dumps(found))"
    )
    command = [sys.executable, "-c", code, url, json.dumps(BODY)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_client_of_cohere_reads_both_versions(url, expected):
    pytest.importorskip("cohere")
    code = """
for client in (v1, v2):
    answer = client.rerank(**body, top_n=3)
    found.append([[result.index, result.relevance_score] for result in answer.results] + [answer.id])
answer = v1.rerank(**body | {"documents": [{"text": text, "sku": "A1"} for text in body["documents"]]},
                   return_documents=True)
found.append([[result.index, result.document.text, result.document.sku] for result in answer.results])
try:
    v2.rerank(**body | {"documents": []})
except cohere.BadRequestError as error:
    found.append(error.body)
"""
    first, second, whole, refused = ask_cohere(url, code)
    best = np.argsort(-np.array(expected), kind="stable")
    for *results, name in (first, second):
        assert [index for index, _ in results] == best[:3].tolist() and len(name) == 36
        assert np.allclose([score for _, score in results], np.array(expected)[best[:3]], atol=1e-5)
    assert [place for place, _, _ in whole] == best.tolist()
    assert all(text == DOCUMENTS[place] and sku == "A1" for place, text, sku in whole)
    assert refused["error_type"] == "Validation" and "documents" in refused["error"]


@pytest.mark.parametrize("path", PATHS)
def test_the_answer_has_the_shape_of_jina(url, path, expected):
    status, answer, _ = post(url, BODY | {"top_n": 2, "return_documents": True, "truncation": True}, path)
    assert status == 200 and answer["model"] == "any" and answer["usage"]["total_tokens"] > 7
    first = answer["results"][0]
    assert first["document"] == {"text": DOCUMENTS[first["index"]]} and isinstance(first["relevant"], bool)
    assert first["relevance_score"] == pytest.approx(max(expected), abs=1e-5) and len(answer["results"]) == 2


def test_null_means_left_out_and_rank_fields_name_the_text(url, expected):
    body = BODY | dict.fromkeys(("top_n", "rank_fields", "return_documents", "max_chunks_per_doc", "model"))
    status, plain, _ = post(url, body, "/v1/rerank")
    assert status == 200 and len(plain["results"]) == 7 and "document" not in plain["results"][0]
    halves = [dict(zip(("a", "b"), text.split(" ", 1), strict=False)) for text in DOCUMENTS]
    fields = ["a", "b"]
    whole = [document for document in halves if len(document) == 2]
    status, split, _ = post(url, BODY | {"documents": whole, "rank_fields": fields}, "/v1/rerank")
    assert status == 200 and len(split["results"]) == len(whole)
    scores = {halves.index(whole[result["index"]]): result["relevance_score"] for result in split["results"]}
    assert all(score == pytest.approx(expected[place], abs=1e-5) for place, score in scores.items())


def test_a_thousand_documents_are_one_request(url):
    documents = [f"{DOCUMENTS[i % 7]} {i}" for i in range(1000)]
    status, answer, _ = post(url, BODY | {"documents": documents, "top_n": 5}, "/v2/rerank")
    assert status == 200 and len(answer["results"]) == 5
    status, answer, _ = post(url, BODY | {"documents": [*documents, "one more"]}, "/v2/rerank")
    assert status == 400 and "found 1001 documents, expected at most 1000" in answer["error"]


BAD = {
    "no documents": ({"query": "a"}, "body: found no documents, expected query and documents"),
    "texts": (BODY | {"texts": DOCUMENTS}, "found unknown keys (1)"),
    "a list": ([SECRET], "body: found a list of 1, expected an object"),
    "a number": (BODY | {"documents": [SECRET, 3]}, "documents[1]: found a number, expected a text or an object"),
    "null": (BODY | {"documents": None}, "documents: found null"),
    "a blank": (BODY | {"documents": [" "]}, "documents[0]: found a blank text"),
    "no text": (
        BODY | {"documents": [{"title": SECRET}]},
        "documents[0]: found no field that rank_fields[0] names",
    ),
    "top_n": (BODY | {"top_n": 0}, "top_n: found a number, expected a whole number from 1"),
    "spans": (BODY | {"relevant_spans": {}}, "found unknown keys (1)"),
    "parameters": (BODY | {"parameters": {"threshold": "x"}}, "parameters.threshold: found a string"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_says_why_and_names_no_text(url, case):
    body, said = BAD[case]
    status, answer, _ = post(url, body, "/v2/rerank")
    assert status == 400 and said in answer["error"] and SECRET not in answer["error"]


def test_the_limit_of_documents_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("RELEVANCE_MAX_DOCUMENTS", "50")
    assert Limits.from_environment() == Limits(documents=50)
