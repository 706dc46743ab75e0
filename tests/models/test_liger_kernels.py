"""Liger's layers in a base, under every head: the same scores. Its Triton kernels need a GPU; here torch stands in."""

import pytest
import torch
from torch import nn

from product_relevance.models.adapters import add_adapter
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.loading import liger_kernels
from product_relevance.models.modeling import inner_model
from tests.models.test_heads import tokens
from tests.models.test_wrapped import bare

HEADS = [("qwen3", "auto"), ("gemma3_text", "auto"), ("gemma2", "auto"), ("qwen2", "yes_no")]
HEADS += [("gemma3_text", "yes_no"), ("qwen3", "mean"), ("qwen3", "language")]


class _Kernel:
    """A kernel of Liger whose formula torch computes."""

    def __init__(self, formula):
        self.calls, self.formula = 0, formula

    def apply(self, *arguments):
        self.calls += 1
        return self.formula(*arguments)


def _norm(states, weight, epsilon, offset, casting, *_):
    assert casting in ("gemma", "llama")
    wide = states.float()
    return wide * (wide.square().mean(-1, keepdim=True) + epsilon).rsqrt() * (offset + weight.float())


def _rotate(queries, keys, cos, sin, *_):
    def turned(states):
        left, right = states.chunk(2, dim=-1)
        return states * cos.unsqueeze(1) + torch.cat([-right, left], dim=-1) * sin.unsqueeze(1)

    return turned(queries), turned(keys)


@pytest.fixture
def kernels(monkeypatch):
    """Liger with torch in place of its kernels; what it replaces in transformers' modules is put back."""
    liger = pytest.importorskip("liger_kernel.transformers", reason="liger-kernel is not installed, or its triton")
    from liger_kernel.transformers import geglu, monkey_patch, rms_norm, swiglu
    from transformers.models.gemma2 import modeling_gemma2
    from transformers.models.gemma3 import modeling_gemma3
    from transformers.models.qwen2 import modeling_qwen2
    from transformers.models.qwen3 import modeling_qwen3

    assert liger
    found = {"norm": _Kernel(_norm), "swiglu": _Kernel(lambda gate, up: nn.functional.silu(gate) * up)}
    found["geglu"] = _Kernel(lambda gate, up: nn.functional.gelu(gate, approximate="tanh") * up)
    found["rope"] = _Kernel(_rotate)
    monkeypatch.setattr(rms_norm, "LigerRMSNormFunction", found["norm"])
    monkeypatch.setattr(geglu, "LigerGELUMulFunction", found["geglu"])
    monkeypatch.setattr(swiglu, "_swiglu_dispatch", found["swiglu"].apply)
    monkeypatch.setattr(monkey_patch, "liger_rotary_pos_emb", found["rope"].apply)
    for module in (modeling_gemma2, modeling_gemma3, modeling_qwen2, modeling_qwen3):
        for name in list(vars(module)):
            if name == "apply_rotary_pos_emb" or name.endswith(("RMSNorm", "MLP", "ForCausalLM")):
                monkeypatch.setattr(module, name, getattr(module, name))
    return found


@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_every_head_gives_the_same_with_ligers_layers_and_trains_on_them(kind, head, base_of, kernels):
    tokenizer, model = bare(base_of(kind), head)
    batch = pad_rows(tokens(tokenizer)[:4], tokenizer.pad_token_id)
    batch["labels"] = batch["input_ids"] if head == "language" else torch.tensor([0, 1, 1, 0])
    model = add_adapter(model.eval(), ModelArguments("base", lora_r=4, lora_dropout=0.0)).eval()

    def measured():
        model.zero_grad()
        found = model(**batch)
        found["loss"].backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}
        return {"loss": found["loss"].detach()} | {f"gradient of {name}": value for name, value in gradients.items()}

    expected = measured()
    assert not any(kernel.calls for kernel in kernels.values())
    liger_kernels.replace_layers(inner_model(model.get_base_model()))
    found = measured()
    gated = "geglu" if kind.startswith("gemma") else "swiglu"
    assert kernels["norm"].calls >= 5 and kernels["rope"].calls == 2 and kernels[gated].calls == 2
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-5), name


def test_bases_and_devices_without_such_kernels_are_refused(base_of, kernels, monkeypatch):
    base = inner_model(bare(base_of("bert"), "mean")[1])
    with pytest.raises(ValueError, match="--use_liger_kernel: Liger has no kernels for bert; leave it out"):
        liger_kernels.use_liger_kernels(base, torch.device("cuda"))


def test_liger_asks_for_a_gpu_and_its_package(base_of, monkeypatch):
    base = inner_model(bare(base_of("qwen3"), "auto")[1])
    with pytest.raises(ValueError, match="--use_liger_kernel: its kernels need a GPU, found cpu; leave it out"):
        liger_kernels.use_liger_kernels(base, torch.device("cpu"))
    monkeypatch.setattr(liger_kernels, "has_package", lambda _: False)
    with pytest.raises(ValueError, match="needs liger-kernel: pip install liger-kernel"):
        liger_kernels.use_liger_kernels(base, torch.device("cuda"))
