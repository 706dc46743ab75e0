"""On a CPU: bfloat16 only where it multiplies it in hardware."""

import pytest
import torch

from product_relevance import checkpoints


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
    monkeypatch.setenv("RELEVANCE_DTYPE", "float16")
    assert checkpoints.choose_dtype(dtype, "cpu") == dtype


def test_a_variable_of_no_dtype_is_refused(monkeypatch):
    monkeypatch.setenv("RELEVANCE_DTYPE", "half")
    with pytest.raises(ValueError, match="RELEVANCE_DTYPE: found 'half', expected auto, bfloat16"):
        checkpoints.choose_dtype("auto", "cpu")
