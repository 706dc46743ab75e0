"""On a CPU: bfloat16 only where it multiplies it in hardware."""

import pytest
import torch

from product_relevance import checkpoints

HAS_BFLOAT16 = checkpoints.cpu_has_bfloat16  # as it is; conftest replaces it for the other tests


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
def test_auto_is_bfloat16_only_on_a_cpu_that_multiplies_it(found, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(checkpoints, "cpu_has_bfloat16", HAS_BFLOAT16)
    assert checkpoints.choose_dtype("auto", "cpu") == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("has", [False, True])
def test_a_dtype_that_was_asked_for_is_taken(dtype, has, monkeypatch):
    monkeypatch.setattr(checkpoints, "cpu_has_bfloat16", lambda: has)
    assert checkpoints.choose_dtype(dtype, "cpu") == dtype
