"""ensemble.json: what a published ensemble consists of, each part pinned by commit and sha256."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from product_relevance.ensemble.published.manifest_record import Manifest
from product_relevance.ensemble.published.manifest_schema import (
    BASE_KEYS,
    check_manifest,
    check_name,
    is_pickle,
    is_public_base,
)
from product_relevance.models import adapter_schema
from product_relevance.models.loading.safetensors_files import read_header
from product_relevance.utils.files import sha256_of
from product_relevance.utils.json_files import check_plain, read_json
from product_relevance.utils.run_folder import write_json
from product_relevance.utils.run_record import FinishedRunRecord, PublicRunRecord

NAME = "ensemble.json"
# Arguments that shape the weights; what names files, folders, accounts or machines stays at home.
MODEL_PRIVATE = {"model_name_or_path", "model_revision"}
DATA_PRIVATE = {"train_file", "split", "data_revision", "overwrite", "keep_checkpoints", "on_bad_rows"}
DATA_PRIVATE |= {"resume_allow", "mixed_folds", "columns", "label_map", "on_duplicates", "encoding", "delimiter"}
TRAINING_PUBLIC = (
    *("num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "weight_decay", "adam_beta1", "adam_beta2"),
    *("adam_epsilon", "max_grad_norm", "label_smoothing_factor", "bf16", "fp16", "gradient_checkpointing"),
    *("neftune_noise_alpha", "train_sampling_strategy", "metric_for_best_model", "eval_steps", "save_steps", "seed"),
)
# The parts of a config that decide what its weights mean. They have had these names in all transformers versions;
# others, as the form of the rotary settings, are written anew by each version, so the canaries watch over them.
ARCHITECTURE = (
    *("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings", "type_vocab_size", "layer_norm_eps"),
    "rms_norm_eps",
)
MAX_MANIFEST = 5_000_000  # bytes


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write ensemble.json; a fold's commit may still be missing while its repository is being filled.

    Raises:
        ValueError: a part is malformed.
    """
    content = manifest.to_json()
    check_manifest(content, pinned=False)
    write_json(Path(folder) / NAME, content)


def read_manifest(folder: str | Path, pinned: bool = True) -> Manifest:
    """Read ensemble.json and refuse whatever is malformed.

    Args:
        folder: of the ensemble.
        pinned: whether the folds' commits must be there.

    Raises:
        ValueError: no manifest, or one with a defect: it says which key, what was found and what was expected.
    """
    path = Path(folder) / NAME
    if not path.exists():
        raise ValueError(f"{path}: not found; expected the folder of a published ensemble")
    content = read_json(path, limit=MAX_MANIFEST)
    try:
        check_manifest(content, pinned)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Manifest.from_json(content)


def public_run(run: FinishedRunRecord) -> PublicRunRecord:
    """Return the part of run.json that may be published: no path, no account, no argument that names a file.

    `base.config_sha256` is None: fill it with `config_sha256(ensemble.model.config.to_dict())`.

    Raises:
        ValueError: the base is a folder of this machine, which nobody else can load; a run of another version.
    """
    base: dict[str, Any] = {key: run.base.get(key) for key in BASE_KEYS}
    if not is_public_base(base["name"]) or Path(base["name"]).exists():
        raise ValueError(
            f"base {PurePath(base['name']).name}: a folder of this machine, which others cannot load; put the Hub id "
            "and commit that it came from into run.json (base.name, base.revision), then publish"
        )
    written = run.to_json()
    missing = [key for key in (*PublicRunRecord.ALWAYS, "arguments") if key not in written and key != "recipe"]
    if missing:
        raise ValueError(f"run.json has no {missing[0]}; it was written by another version: train the run anew")
    arguments = run.arguments
    recipe = {k: v for k, v in arguments["model"].items() if k not in MODEL_PRIVATE}
    recipe |= {k: v for k, v in arguments["data"].items() if k not in DATA_PRIVATE}
    recipe |= arguments.get("objective", {})
    recipe |= {k: arguments["training"][k] for k in TRAINING_PUBLIC if k in arguments["training"]}
    folds = [{k: v for k, v in fold.items() if k != "base"} for fold in run.folds]
    known = (*PublicRunRecord.ALWAYS, *PublicRunRecord.OPTIONAL)
    public = {key: value for key, value in written.items() if key in known} | {"folds": folds, "recipe": recipe}
    public = _last_parts(public) | {"base": base, "template": run.template}  # a prompt may hold </think>
    return PublicRunRecord.from_json(public)


def config_sha256(config: dict) -> str:
    """Return the sha256 of a config's architecture as canonical JSON, the same under all transformers versions.

    Args:
        config: `model.config.to_dict()` of the base's text model; see ARCHITECTURE for what counts.
    """
    kept = {key: config[key] for key in ARCHITECTURE if config.get(key) is not None}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def check_files(folder: str | Path, files: Mapping[str, str]) -> None:
    """Check the files of a repository against their sha256 before anything loads them.

    Raises:
        ValueError: a file is missing or changed, is or hides a pickle, has a safetensors header that does not fit,
            or an adapter's config that this package does not write.
    """
    for name, expected in files.items():
        check_name(name)
        path = Path(folder) / name
        check_no_pickle(path.parent)
        if not path.exists():
            raise ValueError(f"{path}: missing, though the manifest names it; download the repository again")
        check_plain(path)
        if path.suffix == ".safetensors":
            read_header(path)
        found = sha256_of(path)
        if found != expected:
            raise ValueError(
                f"{path}: sha256 {found[:12]}..., the manifest has {expected[:12]}...: the file was changed or "
                "swapped; download it again, or publish anew"
            )
        if path.name == adapter_schema.CONFIG:
            adapter_schema.read_config(path.parent)


def check_no_pickle(folder: Path) -> None:
    """Raise ValueError if a folder holds a pickle.

    Raises:
        ValueError: with its name.
    """
    pickles = sorted(path.name for path in folder.glob("*") if is_pickle(path.name))
    if pickles:
        raise ValueError(f"{folder}: found {pickles[0]}, a pickle; weights are loaded from safetensors only")


def _last_parts(value):
    """Leave of every text that looks like a path only its last part."""
    if isinstance(value, dict):
        return {key: _last_parts(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_last_parts(part) for part in value]
    return re.split(r"[/\\]", value)[-1] if isinstance(value, str) else value
