"""Put LoRA adapters on a base, load them back whole or not at all, and keep several on one unchanged base."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from product_relevance.models.adapter_fit import check_fit
from product_relevance.models.adapter_schema import WEIGHTS
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.heads.classifier import HEAD, base_dtype, head_part
from product_relevance.models.loading import safetensors_files

# Ends of the names of attention's own projections, by the architectures that are tested.
ATTENTION = (
    "q_proj", "k_proj", "v_proj", "o_proj",  # decoders
    "query", "key", "value", "attention.output.dense",  # BERT, XLM-R
    "query_proj", "key_proj", "value_proj",  # DeBERTa
    "attn.Wqkv", "attn.Wo",  # ModernBERT
)  # fmt: skip


def head_names(model) -> list[str]:
    """Return the top-level modules of the new head, as PEFT's `modules_to_save` takes them."""
    names = {head_part(name) for name, _ in model.named_parameters()}
    return sorted(name for name in names if name is not None)


def layer_stack(model) -> tuple[str, nn.ModuleList] | None:
    """Return the name and the list of the base's layers, lowest first; None where they share weights (ALBERT)."""
    count = getattr(model.config, "num_hidden_layers", None)
    for name, module in model.named_modules():  # outer ones first, so that the experts of a layer are not taken
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    return None


def _in_top_layers(model, names: list[str], count: int) -> list[str]:
    stack, layers = layer_stack(model) or ("", [])
    if count > len(layers):
        raise ValueError(f"--lora_layers {count}: this base has {len(layers)} layers of weights of their own")
    tops = tuple(f"{stack}.{i}." for i in range(len(layers) - count, len(layers)))
    return [name for name in names if name.startswith(tops)]


def lora_config(model, arguments: ModelArguments):
    """Build the PEFT configuration; the head is never put under LoRA but trained in full.

    Raises:
        ValueError: a target matches no linear layer, or more top layers than there are.
    """
    from peft import LoraConfig

    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not HEAD.search(n)]
    if arguments.lora_layers is not None:  # by full names: PEFT's layers_to_transform is not read for those
        linear = _in_top_layers(model, linear, arguments.lora_layers)
    targets = _expand_targets(linear, arguments.lora_target_modules)
    start: dict[str, Any] = {"default": True, "pissa": "pissa", "olora": "olora", "gaussian": "gaussian"}
    head = head_names(model)
    return LoraConfig(
        task_type="SEQ_CLS" if head else "CAUSAL_LM",  # without a head it also fits the plain causal model
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=targets,
        modules_to_save=head,
        use_rslora=arguments.use_rslora,
        use_dora=arguments.use_dora,
        init_lora_weights=start[arguments.init_lora_weights],
    )


def _expand_targets(linear: list[str], wanted: list[str]) -> list[str]:
    """Turn all-linear, attention or names into full module names, so that nothing of the head can match."""
    known = {"all-linear": ("",), "attention": ATTENTION}
    ends = {one: known.get(one, (one,)) for one in wanted}
    fits = lambda name, one: any(end == "" or f".{name}".endswith(f".{end}") for end in ends[one])  # noqa: E731
    chosen = [name for name in linear if any(fits(name, one) for one in wanted)]
    unmatched = [one for one in wanted if not any(fits(name, one) for name in linear)]
    if unmatched:
        kinds = sorted({n.rsplit(".", 1)[-1] for n in linear})
        raise ValueError(f"--lora_target_modules {unmatched}: no such linear layer; this base has {kinds}")
    return chosen


def add_adapter(model, arguments: ModelArguments, *, name: str = "default", autocast: bool = True):
    """Put a fresh adapter on a bare base.

    Raises:
        ValueError: the model carries an adapter already; a second one would re-initialise it and the head.
    """
    from peft import PeftModel, get_peft_model

    if isinstance(model, PeftModel) or getattr(model, "peft_config", None):
        raise ValueError("the model carries an adapter already: merge or unload it first")
    return get_peft_model(model, lora_config(model, arguments), adapter_name=name, autocast_adapter_dtype=autocast)


def load_adapter(model, folder: str, name: str, *, config=None):
    """Load a saved adapter with its head onto a base (or beside other adapters) and require every tensor.

    PEFT only warns of missing tensors, which leaves a random head: here it is an error.

    Args:
        model: base with its head, or a PeftModel.
        folder: holds adapter_model.safetensors and adapter_config.json.
        name: of the adapter in the model.
        config: to train it further, with this LoraConfig; the saved one, for scoring only, if None.

    Returns:
        The PeftModel.

    Raises:
        ValueError: from `check_fit`, before anything is built; or tensors that PEFT names otherwise.
    """
    from peft import PeftModel, get_peft_model_state_dict

    check_fit(model, folder)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Could not find a config file")  # an embedded base is no Hub id
            if isinstance(model, PeftModel):
                model.load_adapter(folder, adapter_name=name)
            else:
                trained = config is not None
                model = PeftModel.from_pretrained(model, folder, name, is_trainable=trained, config=config)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"{folder}: this adapter does not fit the base: {str(error)[:300]}") from None
    found = set(safetensors_files.read_header(f"{folder}/{WEIGHTS}"))
    # save_embedding_layers: by default PEFT asks the Hub for whatever base the adapter's config names
    expected = set(get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False))
    if found != expected:
        one = sorted(found ^ expected)[0]
        raise ValueError(
            f"{folder}: adapter and base do not fit: {len(expected - found)} tensors missing, "
            f"{len(found - expected)} unknown, as {one}"
        )
    return model


def fill_adapter(model, folder: Path):
    """Put the weights of an adapter that was saved without a head into a fresh one; the head stays as it is.

    Raises:
        ValueError: missing or unexpected tensors.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    found = safetensors_files.load_weights(folder / WEIGHTS)
    fresh = get_peft_model_state_dict(model)
    expected = {name for name in fresh if "lora_" in name}
    if differing := sorted(found.keys() ^ expected):
        raise ValueError(f"{folder}: adapter and base do not fit: {len(differing)} tensors differ, as {differing[0]}")
    set_peft_model_state_dict(model, fresh | found)
    return model


def score_in_dtype_of_base(model) -> None:
    """Cast adapters that are not merged to the dtype of their base, in which autocast computed them in training too.

    In float32 each adapted layer would cast its input and multiply in float32. DoRA stays in float32, where its norms
    need to be. The head is no part of this.
    """
    if any(config.use_dora for config in model.peft_config.values()):
        return
    dtype = base_dtype(model)
    for layer in _adapted(model):
        layer.lora_A.to(dtype)
        layer.lora_B.to(dtype)


def leave_casts_to_autocast(model) -> None:
    """Keep PEFT from casting each adapted layer's input to float32, which autocast casts back to 16 bits at once.

    The products are the same. DoRA keeps the casts, since it computes its norms in the dtype of the input.
    """
    if not any(config.use_dora for config in getattr(model, "peft_config", {}).values()):
        for layer in _adapted(model):
            layer.cast_input_dtype_enabled = False


def _adapted(model) -> list:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def merge_in_place(model) -> None:
    """Add the active adapter to the weights of its base, which then costs no more than the base alone.

    The sum is made in float32 and rounded once to the base's dtype. A base in 4 bits is left as it is. The head and
    the names of the modules stay, so the model is still a PeftModel, with that adapter only.
    """
    for module in _mergeable(model):
        _merge(module, module.get_base_layer().weight.data.float())


@contextmanager
def merged(model) -> Iterator[None]:
    """Merge the active adapter for a block, as `merge_in_place` does; then the base has its own weights again.

    Those are never written: what is merged is a copy, so that each adapter of an ensemble meets the same bytes.
    """
    own: list[tuple[Any, torch.Tensor]] = []
    try:
        for module in _mergeable(model):
            weights = module.get_base_layer().weight.data
            own.append((module, weights))
            _merge(module, weights.to(torch.float32, copy=True))
        yield
    finally:
        for module, weights in own:
            module.get_base_layer().weight.data = weights
            module.merged_adapters.clear()  # PEFT's `unmerge` would subtract, which leaves other bytes


def merged_size(model) -> int:
    """Return the bytes that `merged` takes beside the base; 0 where there is nothing to merge."""
    return sum(module.get_base_layer().weight.nbytes for module in _mergeable(model))


def _mergeable(model) -> list:
    """Return the layers under adapters that are not merged yet, in a dtype in which sums can be made."""
    layers = [module for module in _adapted(model) if not module.merged]
    kinds = [module.get_base_layer().weight.dtype for module in layers]
    wide = [kind.is_floating_point and kind.itemsize > 1 for kind in kinds]
    return [module for module, yes in zip(layers, wide, strict=True) if yes]


def _merge(module, weights: torch.Tensor) -> None:
    """Add the active adapter of a layer to its weights in float32, which are written, and round once."""
    base = module.get_base_layer()
    dtype, base.weight.data = base.weight.dtype, weights
    module.merge()
    base.weight.data = base.weight.data.to(dtype)


def remove_adapter(model):
    """Take the adapter off and return the base with the head as it was before training.

    PEFT's `unload` leaves the trained head on the base (0.21), so that the next fold would start from a head that was
    trained on its own validation rows.
    """
    from peft.utils import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save[module.active_adapter].load_state_dict(module.original_module.state_dict())
    return model.unload()


def adapter_start(model) -> dict | None:
    """Return the start of an adapter whose method changes the base (PiSSA, OLoRA), None for the others."""
    from peft import get_peft_model_state_dict

    config = getattr(model, "peft_config", {}).get("default")
    if config is None or config.init_lora_weights not in ("pissa", "olora"):
        return None
    return {name: value.detach().cpu().clone() for name, value in get_peft_model_state_dict(model).items()}


def convert_to_plain_lora(folder, start: dict) -> None:
    """Rewrite a saved PiSSA or OLoRA adapter as LoRA of twice the rank on the untouched base, in place.

    W + AB - A0 B0 = W + [A|A0][B|-B0], so folds trained from such a start can share one base. PEFT's own conversion
    (0.21) drops the trained head.
    """
    from safetensors.torch import load_file, save_file

    file, settings = Path(folder) / "adapter_model.safetensors", Path(folder) / "adapter_config.json"
    tensors = load_file(file)
    for name, value in tensors.items():
        if "lora_A" in name:
            tensors[name] = torch.cat([value, start[name].to(value.dtype)], dim=0)
        elif "lora_B" in name:
            tensors[name] = torch.cat([value, -start[name].to(value.dtype)], dim=1)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file, metadata={"format": "pt"})
    config = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps(widen_config(config, 2), indent=2), encoding="utf-8")


def widen_config(config: dict, times: int) -> dict:
    """Return the config of adapters side by side: the rank grows, alpha / r (rsLoRA: alpha / sqrt(r)) stays."""
    grow = times**0.5 if config["use_rslora"] else times
    return config | {"r": times * config["r"], "lora_alpha": grow * config["lora_alpha"], "init_lora_weights": True}
