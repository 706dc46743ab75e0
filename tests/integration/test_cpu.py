"""On a CPU: bfloat16 only where it multiplies it in hardware."""

from dataclasses import replace

import pytest
import torch

from product_relevance.models.loading import checkpoints
from product_relevance.preparation.steps.translate import Translate
from product_relevance.sharding.jobs import Score


@pytest.fixture
def unset(monkeypatch):
    """Without what conftest sets for the other tests."""
    monkeypatch.delenv("RELEVANCE_DTYPE")


@pytest.mark.parametrize(
    ("found", "dtype"),
    [
        ({"avx2": True, "amx_bf16": False, "avx512_bf16": False}, "float32"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": True}, "bfloat16"),
        ({}, "float32"),
    ],
)
def test_auto_is_bfloat16_only_on_a_cpu_that_multiplies_it(found, dtype, unset, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert checkpoints.choose_dtype("auto", "cpu") == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("has", [False, True])
def test_a_dtype_that_was_asked_for_is_taken(dtype, has, unset, monkeypatch):
    monkeypatch.setattr(checkpoints, "cpu_has_bfloat16", lambda: has)
    assert checkpoints.choose_dtype(dtype, "cpu") == dtype
    monkeypatch.setenv("RELEVANCE_DTYPE", dtype)
    assert checkpoints.choose_dtype("auto", "cpu") == dtype
    other = "float32" if dtype == "bfloat16" else "bfloat16"
    monkeypatch.setenv("RELEVANCE_DTYPE", other)
    assert checkpoints.choose_dtype(dtype, "cpu") == dtype
    monkeypatch.setenv("RELEVANCE_DTYPE", "")
    assert checkpoints.choose_dtype("auto", "cpu") == ("bfloat16" if has else "float32")


@pytest.mark.parametrize("value", ["half", "float16"])
def test_a_variable_of_no_dtype_that_scores_have_is_refused(value, monkeypatch):
    monkeypatch.setenv("RELEVANCE_DTYPE", value)
    with pytest.raises(ValueError, match=f"RELEVANCE_DTYPE: found '{value}', expected auto, bfloat16, float32"):
        checkpoints.choose_dtype("auto", "cpu")


def test_shards_keep_the_dtype_of_the_variable_that_they_began_with(monkeypatch):
    monkeypatch.setenv("RELEVANCE_DTYPE", "bfloat16")
    job, step = Score(model="run"), Translate(engine="none")
    monkeypatch.setenv("RELEVANCE_DTYPE", "float32")
    assert job.dtype == replace(job, device="cpu").dtype == step.dtype == "bfloat16"
    assert Score(model="run").dtype == "float32" and Score(model="run", dtype="nf4").dtype == "nf4"
