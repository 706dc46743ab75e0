"""One model out of several folds: the exact mean of their LoRA updates, or of their whole weights."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from product_relevance.models import adapters
from product_relevance.models.adapter_schema import CONFIG, WEIGHTS, read_config
from product_relevance.models.loading.safetensors_files import load_weights

# What must agree for the sum of updates to be an update of the same kind.
_ALIKE = ("peft_type", "r", "lora_alpha", "use_rslora", "fan_in_fan_out", "bias", "target_modules", "modules_to_save")


def mean_adapter(folders: Sequence[Path], out: Path) -> None:
    """Write the mean of K adapters as one adapter of K times the rank, with the mean of their heads.

    The mean of s B_k A_k over k is s [B_1/K | ... | B_K/K] [A_1; ...; A_K]: exact, not an approximation.

    Args:
        folders: of the K adapters.
        out: an existing folder.

    Raises:
        ValueError: adapters of unlike kind, or of a kind whose mean is no such adapter (DoRA).
    """
    from safetensors.torch import save_file

    config = _common_config(folders)
    states = [load_weights(Path(folder) / WEIGHTS) for folder in folders]
    if any(state.keys() != states[0].keys() for state in states):
        raise ValueError("merge weights: the folds' adapters hold unlike tensors; they are not of one run")
    tensors = {}
    for name in states[0]:
        parts = [state[name].float() for state in states]
        if name.endswith(".lora_A.weight"):
            tensors[name] = torch.cat(parts, dim=0)
        elif name.endswith(".lora_B.weight"):
            tensors[name] = torch.cat(parts, dim=1) / len(parts)
        elif "lora_" in name:
            raise ValueError(f"merge weights: {name}: the mean of this kind of adapter is none of its kind")
        else:  # the head, which is trained in full
            tensors[name] = torch.stack(parts).mean(dim=0)
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / WEIGHTS, {"format": "pt"})
    grown = adapters.widen_config(config, len(states))
    (out / CONFIG).write_text(json.dumps(grown, indent=2), encoding="utf-8")


def _common_config(folders: Sequence[Path]) -> dict:
    configs = [read_config(folder) for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        if config.get("use_dora"):
            raise ValueError(
                "merge weights: DoRA scales each fold's update by its own norms, so the mean of the folds is no such "
                "adapter; use merge probabilities"
            )
        unlike = [key for key in _ALIKE if _plain(config.get(key)) != _plain(configs[0].get(key))]
        if unlike:
            raise ValueError(f"merge weights: {folder}: {unlike[0]} differs between folds")
    return configs[0]


def _plain(value):
    return sorted(set(value)) if isinstance(value, list) else value


def mean_state(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the mean of the weights of fully fine-tuned models, summed in float32, in their own dtype.

    Raises:
        ValueError: the files hold unlike tensors.
    """
    total = load_weights(files[0])
    kinds = {name: value.dtype for name, value in total.items()}
    total = {name: value.float() if value.is_floating_point() else value for name, value in total.items()}
    for file in files[1:]:
        state = load_weights(file)
        if {name: value.shape for name, value in state.items()} != {n: value.shape for n, value in total.items()}:
            raise ValueError(f"merge weights: {file} holds other tensors than {files[0]}; they are not of one run")
        for name, value in total.items():
            if value.is_floating_point():
                value += state[name].float()
    return {n: (v / len(files)).to(kinds[n]) if v.is_floating_point() else v for n, v in total.items()}
