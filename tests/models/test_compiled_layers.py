"""One layer compiled for all: the scores of layers as they are written, and no graph more for other lengths."""

import shutil
from functools import partial

import numpy as np
import pytest
from torch._dynamo.utils import counters

from product_relevance.ensemble.scoring_arguments import ScoringArguments
from product_relevance.models import compiled_layers, predictor
from product_relevance.models.compiled_layers import compile_layers, has_compiled_layers
from tests.helpers.published import PAIRS, tiny_run
from tests.models.test_packed_rows import PAD, model_of, rows_of


def graphs() -> int:
    """How many graphs were compiled in this process."""
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(("kind", "head"), [("gemma3_text", "auto"), ("qwen3", "yes_no"), ("xlm-roberta", "auto")])
def test_other_lengths_rows_and_prefixes_need_no_graph_more(kind, head, base_of):
    model, rows = model_of(base_of(kind), "sdpa", head), rows_of()
    shared = [list(range(20, 60)) + row for row in rows[:12]]
    expected = [predictor.predict_logits(model, some, PAD, max_tokens=300) for some in (rows, shared)]
    compile_layers(model, backend="eager")  # what is traced, without a compiler of C++
    assert has_compiled_layers(model)
    before, seen = graphs(), []
    for some in (rows, shared, rows[7:20], [*rows_of(30, 90), *rows], rows_of(20, 50)):
        for most in (200, 300, 1000):
            predictor.predict_logits(model, some, PAD, max_tokens=most)
        seen.append(graphs() - before)
    # with or without a mask, of one row or several: never one for a length or a layer
    assert seen[0] > 0 and seen[-1] <= 4
    for some, values in zip((rows, shared), expected, strict=True):
        assert np.abs(predictor.predict_logits(model, some, PAD) - values).max() < 1e-5 * max(1, np.abs(values).max())


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
def test_layers_that_are_compiled_for_a_cpu_score_as_they_did_before(base_of):
    model = model_of(base_of("qwen3"), "sdpa", "auto")
    rows = [row[:5] for row in rows_of() if len(row) >= 5] + [row[:3] for row in rows_of() if len(row) >= 5]
    expected = predictor.predict_logits(model, rows, PAD, max_tokens=5000)
    before = graphs()
    compile_layers(model)
    assert np.allclose(predictor.predict_logits(model, rows, PAD, max_tokens=5000), expected, atol=1e-5)
    assert graphs() - before == 1


def test_the_folds_of_a_run_share_the_graphs(base_of, tmp_path, monkeypatch):
    run = str(tiny_run(base_of("qwen3"), tmp_path))
    monkeypatch.setattr(compiled_layers, "compile_layers", partial(compile_layers, backend="eager"))
    plain = ScoringArguments(model=run, device="cpu").load()
    compiled = ScoringArguments(model=run, device="cpu", compile_layers=True).load()
    for ensemble in (plain, compiled):
        ensemble.fold_models.merge_from = 0
    before = graphs()
    assert np.allclose(compiled.predict_folds(PAIRS), plain.predict_folds(PAIRS), atol=1e-6)
    assert 1 <= graphs() - before <= 4


def test_both_ways_to_compile_together_are_refused():
    with pytest.raises(ValueError, match="--compile, --compile_layers: found both"):
        ScoringArguments(model="run", compile=True, compile_layers=True)
