"""Whether a saved adapter fits a base: its names and shapes, compared before anything is built on the base."""

from pathlib import Path

from torch import nn

from product_relevance.models.adapter_schema import WEIGHTS, read_config
from product_relevance.models.heads.classifier import HEAD, head_part
from product_relevance.models.loading import safetensors_files

# PEFT adds these to every list of a text classifier.
_ADDED_BY_PEFT = {"classifier", "score"}


def check_fit(model, folder) -> None:
    """Raise ValueError if an adapter's tensors are not exactly those of its config on this base.

    Args:
        model: base with its head, bare or with other adapters.
        folder: holds adapter_config.json and adapter_model.safetensors.

    Raises:
        ValueError: a config that training does not write, a broken file, a name that is no layer of the base, or
            tensors that are missing, unknown, or of another shape.
    """
    folder = Path(folder)
    config, found = read_config(folder), safetensors_files.read_header(folder / WEIGHTS)
    layers, others, head = _parts(model)
    chosen = _targeted(folder, config["target_modules"], layers, others)
    _check_head(folder, config.get("modules_to_save") or [], head)
    expected = {f"base_model.model.{name}": shape for name, shape in head.items()}
    for name in chosen:
        expected |= _tensors(f"base_model.model.{name}", *layers[name], config["r"], config["use_dora"])
    _compare(folder, expected, found)
    safetensors_files.check_finite(folder / WEIGHTS)


def load_whole(model, path) -> None:
    """Put the weights of a fully fine-tuned model in place of a model's own, whole or not at all.

    Raises:
        ValueError: a broken file, or tensors that are missing, unknown, or of another shape.
    """
    expected = {name: tuple(getattr(value, "ds_shape", value.shape)) for name, value in model.state_dict().items()}
    _compare(Path(path).parent, expected, safetensors_files.read_header(path), what="weights")
    model.load_state_dict(safetensors_files.load_weights(path))


def _parts(model) -> tuple[dict[str, tuple[int, int]], set[str], dict[str, tuple[int, ...]]]:
    """Return (out, in) of the base's linear layers, the names of its other modules, the shapes of its head."""
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model = model.base_model.model
    layers, others = {}, set()
    for name, module in model.named_modules():
        if ".lora_" in name or "modules_to_save." in name:
            continue
        if isinstance(module, nn.Linear) and not HEAD.search(name):
            layers[name.removesuffix(".base_layer")] = (module.out_features, module.in_features)
        else:
            others.add(name)
    head = {
        name.replace("original_module.", ""): tuple(getattr(value, "ds_shape", value.shape))  # ZeRO-3 empties it
        for name, value in model.named_parameters()
        if HEAD.search(name) and "modules_to_save." not in name
    }
    return layers, others - layers.keys(), head


def _targeted(folder: Path, targets: list[str], layers, others: set[str]) -> list[str]:
    """Return the layers that the targets name, each target by its whole name or the end of one, as PEFT reads them."""
    wanted, used = set(targets), set()
    chosen = []
    for name in layers:
        if ends := _ends(name) & wanted:
            chosen.append(name)
            used |= ends
    stray = wanted - used or {end for name in others for end in _ends(name) & wanted}
    if stray:
        problem = f"target_modules: {min(stray)[:80]!r} is no linear layer of this base"
        raise ValueError(f"{folder}: adapter and base do not fit: {problem}")
    return chosen


def _ends(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[i:]) for i in range(len(parts))}


def _check_head(folder: Path, saved: list[str], head: dict[str, tuple[int, ...]]) -> None:
    known = {part for part in map(head_part, head) if part is not None}
    if not known <= set(saved) <= known | _ADDED_BY_PEFT:
        raise ValueError(
            f"{folder}: modules_to_save: found {sorted(set(saved))[:5]}, expected the head of this base: "
            f"{', '.join(sorted(known)) or 'none'}"
        )


def _tensors(name: str, out: int, into: int, rank: int, dora: bool) -> dict[str, tuple[int, ...]]:
    found = {f"{name}.lora_A.weight": (rank, into), f"{name}.lora_B.weight": (out, rank)}
    return found | ({f"{name}.lora_magnitude_vector": (out,)} if dora else {})


def _compare(folder: Path, expected: dict, found: dict, what: str = "adapter") -> None:
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unknown:
        raise ValueError(
            f"{folder}: {what} and base do not fit: {len(missing)} tensors missing, {len(unknown)} unknown, as "
            f"{min(missing | unknown)[:200]}"
        )
    for name, shape in expected.items():
        dtype, has = found[name]
        if has != shape:
            raise ValueError(
                f"{folder}: {what} and base do not fit: {name} has the shape {list(has)}, expected {list(shape)}"
            )
        if what == "adapter" and dtype not in safetensors_files.DTYPES:
            raise ValueError(f"{folder}: {name} is {dtype}, expected one of {', '.join(safetensors_files.DTYPES)}")
