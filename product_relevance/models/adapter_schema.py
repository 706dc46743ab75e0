"""The form of adapter_config.json: the keys and values that our own training writes, and no others."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from product_relevance.utils.json_files import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG = 4_000_000  # bytes: the full name of every layer of a large mixture of experts
MAX_RANK = 65_536
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


def _is_text(value) -> bool:
    return value is None or (isinstance(value, str) and len(value) < 5000)


def _is_number(value, low: float, high: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def _are_names(value) -> bool:
    names = isinstance(value, list) and all(isinstance(each, str) and _NAME.fullmatch(each) for each in value)
    return names and len(value) <= 100_000


def _is_one_of(*known) -> Callable[[Any], bool]:
    return lambda value: any(value is each or (type(value) is type(each) and value == each) for each in known)


# What we write by choice: what is good, and how that is said. PEFT would take a text in `target_modules` for a regular
# expression; init_lora_weights of pissa and olora would change the base (training rewrites them, see adapters.py).
OURS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "peft_type": (_is_one_of("LORA"), "LORA"),
    "task_type": (_is_one_of("SEQ_CLS", "CAUSAL_LM"), "SEQ_CLS or CAUSAL_LM"),
    "r": (lambda value: type(value) is int and 1 <= value <= MAX_RANK, f"a rank from 1 to {MAX_RANK}"),
    "lora_alpha": (lambda value: _is_number(value, 1e-6, 1e6), "a number above 0"),
    "lora_dropout": (lambda value: _is_number(value, 0, 1), "a number from 0 to 1"),
    "use_rslora": (_is_one_of(True, False), "true or false"),
    "use_dora": (_is_one_of(True, False), "true or false"),
    "init_lora_weights": (_is_one_of(True, "gaussian"), "true or gaussian"),
    "target_modules": (lambda value: _are_names(value) and value, "a list of names of layers"),
    "modules_to_save": (lambda value: value is None or _are_names(value), "a list of names of modules, or null"),
    "inference_mode": (_is_one_of(True, False), "true or false"),
    "base_model_name_or_path": (_is_text, "a name"),
    "revision": (_is_text, "a commit"),
    "peft_version": (_is_text, "a version"),
}
NEEDED = ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules")
# PEFT's other keys, with the one value that changes nothing.
NEUTRAL = {
    **dict.fromkeys(("ensure_weight_tying", "fan_in_fan_out", "lora_bias", "use_qalora"), False),
    **dict.fromkeys(("alpha_pattern", "loftq_config", "rank_pattern"), {}),
    **{"bias": "none", "megatron_core": "megatron.core", "qalora_group_size": 16},
    **dict.fromkeys(
        (
            *("alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config", "eva_config"),
            *("exclude_modules", "kasa_config", "layer_replication", "layers_pattern", "layers_to_transform"),
            *("lora_ga_config", "megatron_config", "monteclora_config", "target_parameters"),
            *("trainable_token_indices", "use_bdlora", "velora_config"),
        )
    ),
}


def read_config(folder) -> dict[str, Any]:
    """Read an adapter's config.

    Args:
        folder: of the adapter.

    Raises:
        ValueError: no such file, or a key or a value that our training does not write.
    """
    path = Path(folder) / CONFIG
    config = read_json(path, limit=MAX_CONFIG)
    try:
        check_config(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return config


def check_config(config: dict[str, Any]) -> None:
    """Raise ValueError if an adapter's config has a key or a value that our training does not write.

    Raises:
        ValueError: the key, what was found, what was expected.
    """
    if code := [key for key in ("auto_map", "auto_mapping") if config.get(key)]:
        raise ValueError(f"has {code[0]}, code from a repository; this package runs none")
    if missing := [key for key in NEEDED if key not in config]:
        raise ValueError(f"no {missing[0]}, expected the config of a LoRA adapter of this package")
    for key, value in config.items():
        if key in OURS:
            good, expected = OURS[key]
            if not good(value):
                raise ValueError(f"{key}: found {str(value)[:80]!r}, expected {expected}")
        else:
            _check_neutral(key, value)


def own_part(config: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that we write by choice: with them alone all versions of PEFT build the same adapter."""
    return {key: value for key, value in config.items() if key in OURS}


def _check_neutral(key: str, value) -> None:
    known = NEUTRAL if key in NEUTRAL else _installed_defaults()
    if key not in known:
        raise ValueError(f"{key[:80]!r}: no such key is written by this package or read by the PEFT that is installed")
    if value != known[key] or type(value) is not type(known[key]):
        raise ValueError(f"{key}: found {str(value)[:80]!r}, expected {known[key]!r}: adapters here have no other")


def _installed_defaults() -> dict[str, Any]:
    """Return the defaults of the installed PEFT, which may be newer than this package."""
    from peft import LoraConfig

    return {key: value for key, value in LoraConfig().to_dict().items() if key not in OURS}
