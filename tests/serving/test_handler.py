"""The handler: shapes, limits, what it answers and what it never says."""

import ast
import logging
import math
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import product_relevance
from product_relevance.hub import code_bundle
from product_relevance.serving import protocol
from product_relevance.serving.handler import FIRST_VERSION, HANDLER_API, EndpointHandler, require_api
from product_relevance.serving.protocol import Limits, Question
from product_relevance.serving.scorer import answer_together
from tests.conftest import ROOT
from tests.helpers.serving import PAIRS, SECRET, tiny_run


@pytest.fixture(scope="module")
def run(base_of):
    return tiny_run(base_of("qwen3"))


@pytest.fixture(scope="module")
def handler(run):
    return EndpointHandler(str(run), device="cpu")


def named(pair) -> dict:
    return {"text": pair[0], "text_pair": pair[1]}


def test_every_shape_of_pairs_gets_the_scores_of_the_local_ensemble(handler):
    expected = handler.scorer.ensemble.predict(PAIRS[:6])
    shapes = [[named(p) for p in PAIRS[:6]], [list(p) for p in PAIRS[:6]]]
    shapes.append([named(p) if i % 2 else list(p) for i, p in enumerate(PAIRS[:6])])
    shapes.append([{"id": 1, "task": "QC", "origin_query": q, "category_path": t} for q, t in PAIRS[:6]])
    for inputs in shapes:
        answer = handler({"inputs": inputs, "parameters": {}})
        assert np.allclose([labels[0]["probability"] for labels in answer], expected, atol=1e-5)
    for single in (named(PAIRS[0]), list(PAIRS[0])):
        answer = handler({"inputs": single})
        assert len(answer) == 1 and abs(answer[0][0]["probability"] - expected[0]) < 1e-5


@pytest.mark.parametrize("threshold", ["f1", "macro_f1", 0.0, 1.0, 0.5])
def test_the_first_label_is_the_decision_at_the_threshold_and_its_score_the_probability(handler, threshold):
    answer = handler({"inputs": [list(p) for p in PAIRS[:9]], "parameters": {"top_k": 2, "threshold": threshold}})
    cut = handler.scorer.ensemble.thresholds.get(threshold, threshold)
    for first, second in answer:
        assert first["threshold"] == cut and {first["label"], second["label"]} == {"relevant", "irrelevant"}
        assert first["label"] == ("relevant" if first["probability"] >= cut else "irrelevant")
        assert first["score"] + second["score"] == pytest.approx(1)
        relevant = first if first["label"] == "relevant" else second
        assert relevant["score"] == first["probability"] == second["probability"]
    assert [len(labels) for labels in handler({"inputs": [list(PAIRS[0])]})] == [1]


def test_a_ranking_is_the_local_one_best_first(handler):
    texts = [target for _, target in PAIRS[:12]]
    local = handler.scorer.ensemble.rank("red shoes", texts)
    bare = {"query": "red shoes", "texts": texts}
    for body in (bare, {"inputs": bare}):
        answer = handler(body)
        assert [place["index"] for place in answer] == [place["index"] for place in local]
        assert np.allclose([place["score"] for place in answer], [place["score"] for place in local], atol=1e-5)
        assert all(place.keys() == {"index", "score", "relevant"} for place in answer)
    few = handler(bare | {"return_text": True, "parameters": {"top_k": 3, "threshold": 1.0}})
    assert [place["text"] for place in few] == [texts[place["index"]] for place in local[:3]]
    assert not any(place["relevant"] for place in few)


def test_a_single_string_is_told_that_a_pair_is_needed(handler):
    with pytest.raises(ValueError, match="single string, expected a query and a target") as caught:
        handler({"inputs": SECRET})
    assert SECRET not in str(caught.value)


PAIR = ["a", "b"]
REFUSED = {
    "a body that is no object": [],
    "no inputs": {},
    "a list of strings": {"inputs": ["a", "b", "c"]},
    "half a pair": {"inputs": [{"text": "a"}]},
    "a record of the other task": {"inputs": {"origin_query": "a", "item_title": SECRET}},
    "a query with two targets": {"inputs": {"query": "a", "text": SECRET, "text_pair": SECRET}},
    "an unknown key of the body": {"inputs": PAIR, SECRET: 1},
    "an unknown key of a pair": {"inputs": {"text": "a", "text_pair": "b", SECRET: 1}},
    "an unknown parameter": {"inputs": PAIR, "parameters": {SECRET: 1}},
    "no pairs": {"inputs": []},
    "33 pairs": {"inputs": [PAIR] * 33},
    "1,001 texts": {"query": "a", "texts": ["b"] * 1001},
    "a long text": {"inputs": ["a", SECRET * 400]},
    "a blank text": {"inputs": ["a", " \n\u2003"]},
    "half a surrogate pair": {"inputs": ["a", SECRET + "\ud800"]},
    "a number for a text": {"inputs": [{"text": 1, "text_pair": "b"}]},
    "null for parameters": {"inputs": PAIR, "parameters": None},
    "a threshold without a name": {"inputs": PAIR, "parameters": {"threshold": SECRET}},
    "a threshold above 1": {"inputs": PAIR, "parameters": {"threshold": 1.01}},
    "a threshold that is NaN": {"inputs": PAIR, "parameters": {"threshold": math.nan}},
    "a boolean threshold": {"inputs": PAIR, "parameters": {"threshold": True}},
    "an unknown language": {"inputs": PAIR, "parameters": {"language": SECRET}},
    "top_k 0": {"inputs": PAIR, "parameters": {"top_k": 0}},
    "raw scores": {"query": "a", "texts": ["b"], "raw_scores": True},
    "a flag that is a word": {"query": "a", "texts": ["b"], "return_text": "yes"},
    "pairs and a query": {"inputs": PAIR, "query": "a", "texts": ["b"]},
    "a long pair that may not be cut": {"inputs": ["a", SECRET + " b7" * 400], "truncate": False},
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_a_value_error_without_the_clients_text(handler, case):
    with pytest.raises(ValueError, match="found .*expected") as caught:
        handler(REFUSED[case])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "place"),
    [
        ([["zapatos", None]], r"inputs\[0\]\[1\]"),
        (["zapatos", None], r"inputs\[1\]"),
        ([["a", "b"], [None, "b"]], r"inputs\[1\]\[0\]"),
        ([{"text": "zapatos", "text_pair": None}], r"inputs\[0\].text_pair"),
        ([{"origin_query": "zapatos", "category_path": None}], r"inputs\[0\].category_path"),
    ],
)
def test_a_null_is_named_with_its_place(handler, inputs, place):
    with pytest.raises(ValueError, match=f"^{place}: found null, expected a string"):
        handler({"inputs": inputs})


def test_the_translation_of_a_record_is_that_of_its_pair(handler):
    record = {"origin_query": "a", "category_path": "b", "translated_query": "c"}
    assert protocol.parse_request({"inputs": record}, handler.scorer.ensemble, Limits()).translations == ["c"]


@pytest.mark.parametrize("truncate", [True, False])
def test_each_question_is_tokenised_once(handler, monkeypatch, truncate):
    asked, tokenizer = [], handler.scorer.ensemble.encoder.tokenizer

    def counting(*sides, **options):
        asked.append(len(sides[0]))
        return tokenizer(*sides, **options)

    monkeypatch.setattr(
        handler.scorer.ensemble, "encoder", replace(handler.scorer.ensemble.encoder, tokenizer=counting)
    )
    monkeypatch.setattr(counting, "pad_token_id", tokenizer.pad_token_id, raising=False)
    body = {"inputs": [list(pair) for pair in PAIRS[:5]], "truncate": truncate}
    questions = [protocol.parse_request(body, handler.scorer.ensemble, Limits()) for _ in range(2)]
    first, second = answer_together(handler.scorer.ensemble, questions, Limits())
    assert asked == [5, 5] and first == second and len(first) == 5


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
KEYS = st.sampled_from(["inputs", "text", "text_pair", "query", "texts", "parameters", "top_k"])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON)
def test_any_json_is_read_or_refused_with_a_value_error(handler, data):
    try:
        assert isinstance(protocol.parse_request(data, handler.scorer.ensemble, Limits()), Question)
    except ValueError as error:
        assert "expected" in str(error)


def test_limits_come_from_the_environment(run, monkeypatch):
    monkeypatch.setenv("RELEVANCE_MAX_PAIRS", "2")
    monkeypatch.setenv("RELEVANCE_MAX_TOKENS", "20")
    monkeypatch.setenv("RELEVANCE_MAX_BODY", "100")
    small = EndpointHandler(str(run), device="cpu")
    with pytest.raises(ValueError, match="3 pairs, expected at most 2"):
        small({"inputs": [PAIR] * 3})
    with pytest.raises(ValueError, match="tokens, expected at most 20"):
        small({"inputs": ["shoes for men", "shoes, shoes, shoes, shoes, red shoes, blue shoes"]})
    with pytest.raises(ValueError, match="bytes of text, expected at most 100"):
        small({"inputs": ["é" * 30, "b" * 50]})
    assert len(small({"inputs": [PAIR] * 2})) == 2
    monkeypatch.setenv("RELEVANCE_MAX_PAIRS", "many")
    with pytest.raises(ValueError, match="RELEVANCE_MAX_PAIRS: found 'many'"):
        EndpointHandler(str(run), device="cpu")


def test_a_score_that_is_not_finite_is_an_error_and_never_an_answer(run, handler):
    import torch

    with torch.no_grad():
        weight = next(
            p for name, p in handler.scorer.ensemble.model.named_parameters() if "fold-1" in name and "lora_B" in name
        )
        before = weight.clone()
        weight.fill_(float("nan"))
        try:
            with pytest.raises(RuntimeError, match="scoring failed with ValueError"):
                handler({"inputs": [SECRET, "b"]})
        finally:
            weight.copy_(before)
    with pytest.raises(RuntimeError, match="not finite"):
        protocol.build_answer(protocol.parse_request({"inputs": PAIR}, handler.scorer.ensemble, Limits()), [math.nan])


def test_neither_logs_nor_errors_hold_a_text(handler, caplog, capfd, monkeypatch):
    caplog.set_level(logging.DEBUG)
    handler({"inputs": [SECRET, SECRET]})
    handler({"query": SECRET, "texts": [SECRET], "parameters": {"translation": SECRET, "language": "en"}})

    def fail(*_):
        raise KeyError(SECRET)  # as a library that quotes what it failed on

    monkeypatch.setattr(handler.scorer.ensemble, "predict_tokens", fail)
    with pytest.raises(RuntimeError, match="KeyError") as caught:
        handler({"inputs": [SECRET, "b"]})
    assert "scoring failed" in caplog.text  # the log is captured, and says where it failed
    written = caplog.text + "".join(capfd.readouterr()) + str(caught.value)
    assert SECRET not in written


def test_a_model_that_reads_the_language_asks_for_it_and_gets_the_pairs_own(handler, monkeypatch):
    from product_relevance.text.templates import Template

    encoder = replace(handler.scorer.ensemble.encoder, template=Template(language_tag=True))
    monkeypatch.setattr(handler.scorer.ensemble, "encoder", encoder)
    with pytest.raises(ValueError, match="pair 1: found no language"):
        handler({"inputs": [named(PAIRS[0]) | {"language": "de"}, named(PAIRS[1])]})
    own = handler(
        {"inputs": [named(PAIRS[0]) | {"language": "de"}, named(PAIRS[1])], "parameters": {"language": "fr"}}
    )
    expected = handler.scorer.ensemble.predict(PAIRS[:2], ["de", "fr"])
    assert np.allclose([labels[0]["probability"] for labels in own], expected, atol=1e-5)
    assert not np.allclose(expected, handler.scorer.ensemble.predict(PAIRS[:2], ["fr", "de"]), atol=1e-5)


def test_calls_from_several_threads_do_not_mix_the_folds_up(handler):
    expected, found = handler.scorer.ensemble.predict(PAIRS[:16]), {}

    def call(i):
        found[i] = handler({"inputs": list(PAIRS[i])})[0][0]["probability"]

    threads = [threading.Thread(target=call, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.allclose([found[i] for i in range(16)], expected, atol=1e-5)


ALONE = """
import importlib.util, sys
from pathlib import Path
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path = [p for p in sys.path if not (Path(p or ".") / "product_relevance").is_dir()]
assert importlib.util.find_spec("product_relevance") is None
spec = importlib.util.spec_from_file_location("handler", "repo/handler.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
answer = module.EndpointHandler("repo", device="cpu")({"inputs": ["red shoes", "shoes"]})
import product_relevance
assert "/repo/code/" in str(Path(product_relevance.__file__).resolve())
print(answer[0][0]["probability"])
"""


def test_the_one_file_runs_with_the_sources_of_its_repository_where_the_package_is_not_installed(
    run, handler, tmp_path
):
    shutil.copytree(run, tmp_path / "repo", ignore=shutil.ignore_patterns("checkpoints"))
    code_bundle.copy_code(tmp_path / "repo", "org/base")
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = handler.scorer.ensemble.predict([("red shoes", "shoes")])[0]
    assert float(done.stdout) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, r"handler API 1, .*product-relevance 0.7 has none: install product-relevance>=0.1.0; or uninstall it"),
        ({"HANDLER_API": 2}, r"handler API 1, .*product-relevance 0.7 has 2: publish the ensemble again"),
    ],
)
def test_a_package_that_is_too_old_or_too_new_is_named_with_the_way_out(run, monkeypatch, found, message):
    package = ModuleType("product_relevance")
    vars(package).update({"__version__": "0.7"} | found)
    monkeypatch.setitem(sys.modules, "product_relevance", package)
    with pytest.raises(ImportError, match=message):
        EndpointHandler(str(run), device="cpu")


def test_the_handler_is_written_for_the_api_of_its_package():
    assert product_relevance.HANDLER_API == HANDLER_API
    assert tuple(map(int, FIRST_VERSION.split("."))) <= tuple(map(int, product_relevance.__version__.split(".")))
    require_api(product_relevance)


def test_the_handler_takes_one_public_name_of_the_package():
    source = ast.parse((ROOT / "product_relevance/serving/handler.py").read_text(encoding="utf-8"))
    names = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom) and node.module != "pathlib"]
    assert [(node.module, [alias.name for alias in node.names]) for node in names] == [
        ("product_relevance", ["EndpointScorer"])
    ]
