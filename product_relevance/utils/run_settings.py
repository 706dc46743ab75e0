"""List what shapes the weights of a fold (arguments, data, folds, package), as names to values, and compare it.

A checkpoint and a finished fold keep these, so that a training goes on, and folds are joined, as they began.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from product_relevance.utils.files import sha256_of
from product_relevance.utils.other_names import require_known
from product_relevance.utils.run_record import RunRecord

# Every argument stands in one of the two lists; a test walks the dataclasses, so a new one has to be put somewhere.
SHAPING = {
    # ModelArguments
    *("model_name_or_path", "model_revision", "pooling", "head", "prompt", "chat_template", "max_length"),
    *("base_dropout", "dtype", "attn_implementation", "adapter", "lora_r", "lora_alpha", "lora_dropout"),
    *("lora_target_modules", "lora_layers", "use_rslora", "use_dora", "init_lora_weights", "quantization"),
    *("init_adapter", "kernel_scale", "kernel_ridge", "kernel_rows"),
    # ObjectiveArguments
    *("stage", "objective", "r_drop_strength", "teacher", "unlabelled_file", "teacher_share"),
    *("dpo_beta", "own_share", "early_learning_strength", "target_momentum", "ema_decay", "teacher_temperature"),
    # DataArguments
    *("train_file", "task", "task_mixing", "lowercase", "language_fix", "translation", "input_style"),
    *("language_tag", "task_tag", "path_style", "path_separator", "level_names", "random_levels"),
    *("num_folds", "group_by", "prefix_levels"),
    *("fold_seed", "held_out_languages", "eval_rows", "early_stopping_patience", "share_prefixes"),
    *("columns", "label_map", "on_duplicates", "encoding", "delimiter", "grades"),
    # TrainingArguments: the optimiser and its schedule, the order of the rows, and which checkpoint is the best
    *("accelerator_config", "adam_beta1", "adam_beta2", "adam_epsilon", "auto_find_batch_size", "bf16"),
    "average_tokens_across_devices",
    *("bf16_full_eval", "data_seed", "dataloader_drop_last", "deepspeed", "eval_delay", "eval_on_start", "eval_steps"),
    *("eval_strategy", "fp16", "fp16_full_eval", "fsdp", "fsdp_config", "greater_is_better", "ignore_data_skip"),
    *("label_smoothing_factor", "learning_rate", "load_best_model_at_end", "lr_scheduler_kwargs"),
    *("lr_scheduler_type", "max_grad_norm", "max_steps", "metric_for_best_model", "neftune_noise_alpha"),
    *("num_train_epochs", "optim", "optim_args", "optim_target_modules", "save_steps", "save_strategy", "seed"),
    *("tf32", "train_sampling_strategy", "warmup_steps", "weight_decay"),
}
WITHOUT_EFFECT = {
    # ModelArguments, ObjectiveArguments, DataArguments: which folds, and how much of a batch goes through at once
    *("on_bad_rows", "fold", "folds_parallel", "keep_checkpoints", "overwrite", "tokens_per_forward", "resume_allow"),
    "mixed_folds",
    # What thresholds and figures are of; the loss is of the grades
    *("relevant_from", "ranking_measures"),
    # Which rows are read, and whether they are enough: `train_file` is compared by their content
    *("split", "data_revision", "max_missing_translations"),
    # The split of a batch: their product with the processes is `effective_batch`
    *("global_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps"),
    # TrainingArguments: places, logs, devices, transport, memory and speed
    *("activation_checkpointing", "activation_checkpointing_kwargs", "batch_eval_metrics"),
    *("dataloader_in_order", "dataloader_multiprocessing_context", "dataloader_num_workers"),
    *("dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "ddp_backend"),
    *("ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph", "ddp_timeout"),
    *("debug", "disable_tqdm", "do_eval", "do_predict", "do_train", "enable_jit_checkpoint"),
    *("eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object", "full_determinism"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "hub_always_push", "hub_model_id"),
    *("hub_private_repo", "hub_revision", "hub_strategy", "hub_token", "include_for_metrics"),
    *("include_num_input_tokens_seen", "label_names", "length_column_name", "liger_kernel_config", "local_rank"),
    *("log_level", "log_level_replica", "log_on_each_node", "logging_first_step", "logging_nan_inf_filter"),
    *("logging_steps", "logging_strategy", "output_dir", "parallelism_config", "per_device_eval_batch_size"),
    *("prediction_loss_only", "project", "push_to_hub", "remove_unused_columns", "report_to"),
    *("restore_callback_states_from_checkpoint", "resume_from_checkpoint", "run_name", "save_on_each_node"),
    *("save_only_model", "save_total_limit", "skip_memory_metrics", "torch_compile", "torch_compile_backend"),
    *("torch_compile_mode", "torch_empty_cache_steps", "trackio_bucket_id", "trackio_space_id"),
    *("trackio_static_space_id", "use_cache", "use_cpu", "use_liger_kernel"),
}
# What model cards and reports show of the training; reports show the folds as well.
SHOWN = (
    *("learning_rate", "num_train_epochs", "max_steps", "global_batch_size", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "optim", "weight_decay"),
    *("max_grad_norm", "label_smoothing_factor", "neftune_noise_alpha", "base_dropout", "dtype", "bf16", "fp16"),
    *("seed", "metric_for_best_model", "early_stopping_patience"),
)
SHOWN_OF_KERNELS = ("kernel_scale", "kernel_ridge", "kernel_rows", "bf16", "seed")
SHOWN_OF_FOLDS = ("num_folds", "group_by", "prefix_levels", "held_out_languages")
# Of no argument of their own.
DERIVED = {"effective_batch", "validation_rows", "base_weights", "product_relevance"}
# What the tensors of a checkpoint are, and the rows that they may not have seen: with another one none goes on.
FIXED = {
    *("base_weights", "pooling", "head", "adapter", "lora_r", "lora_layers"),
    *(
        "lora_target_modules",
        "use_dora",
        "grades",
        "init_lora_weights",
        "quantization",
        "init_adapter",
        "task",
        "stage",
    ),
    *("optim", "deepspeed", "fsdp", "validation_rows"),
}


def list_settings(record: RunRecord, split: str, fingerprint: str | None = None) -> dict[str, Any]:
    """Return what shapes the weights of a fold, as JSON has it.

    Files stand for their content, wherever they lie, and a batch for its pairs, however it is split.

    Args:
        record: of the run, with the parent run and the teacher.
        split: name of the fold.
        fingerprint: of the base; None where it is not loaded yet, or its weights are spread (ZeRO-3).

    Returns:
        Names of arguments, or of DERIVED, to values.
    """
    given = {name: value for group in record.arguments.values() for name, value in group.items()}
    found = {name: value for name, value in given.items() if name not in WITHOUT_EFFECT}
    translation = given["translation"]
    found |= {
        "train_file": f"sha256 {record.data['sha256']}",
        "translation": translation if translation in ("none", "column") else _content(translation),
        "prompt": _short(record.template.get("prompt")),
        "init_adapter": _parent(record.first_stage),
        "teacher": _parent(record.teacher),
        "level_names": _content(given.get("level_names")),
        "unlabelled_file": _content(given.get("unlabelled_file")),
        "deepspeed": _content(given.get("deepspeed")),
        "effective_batch": effective_batch(given, record.processes or 1),
        "validation_rows": _short(record.folds_by["valid_sha256"].get(split)),
        "product_relevance": record.versions["product_relevance"],
    }
    if fingerprint is not None:
        found["base_weights"] = fingerprint
    plain: dict[str, Any] = json.loads(json.dumps(found, sort_keys=True, default=str))
    return plain


def shown_settings(pooling: str | None) -> tuple[str, ...]:
    """Return the names of the settings that cards and reports show of a run with this pooling."""
    return SHOWN_OF_KERNELS if pooling == "sides" else SHOWN


def pick_settings(arguments: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the named settings that have a value: neither None nor the -1 of a limit that is off."""
    return {name: arguments[name] for name in names if arguments.get(name) is not None and arguments[name] != -1}


def effective_batch(training: Mapping[str, Any], processes: int) -> int:
    """Return the pairs of a step over all processes."""
    return int(training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] * processes)


def hash_settings(found: Any) -> str:
    """Return the sha256 of the JSON of settings: equal ones make equal weights."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def compare_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the names that both know with other values, each with both; another version may lack some."""
    return {
        name: [before[name], now[name]] for name in sorted(before.keys() & now.keys()) if before[name] != now[name]
    }


def compare_folds(folds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings in which folds differ, each with its value in every fold that knows it.

    Args:
        folds: names to `list_settings`; what a fold validates on is its own.
    """
    names = sorted({name for each in folds.values() for name in each} - {"validation_rows"})
    values = {name: {fold: each[name] for fold, each in folds.items() if name in each} for name in names}
    return {
        name: found for name, found in values.items() if len({hash_settings(value) for value in found.values()}) > 1
    }


def describe_settings(run: Mapping[str, Any]) -> list[str]:
    """Return Markdown for a report: which settings differ between folds, and which changed during a training."""
    parts = [f"{line}." for line in describe_starts(run.get("folds") or ())]
    if mixed := run.get("mixed_folds"):
        lines = [
            f"- {name}: {', '.join(f'{_shortened(v)} ({fold})' for fold, v in by.items())}"
            for name, by in mixed.items()
        ]
        parts.append(
            "The folds were trained with unlike settings (`train_relevance.py --mixed_folds`):\n\n" + "\n".join(lines)
        )
    for fold in run.get("folds") or []:
        for change in fold.get("changes", ()):
            what = describe_differences(change["settings"], ("before", "then"))
            parts.append(f"{fold['name']} went on after step {change['step']} with other settings: {what}.")
    return parts


def describe_starts(folds: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say which fold of its parent run each fold of a run started from."""
    found = [(fold["name"], fold.get("starts_from")) for fold in folds]
    return [f"{name} started from {f['fold']} of a {f['task']} run" for name, f in found if f]


def describe_differences(found: Mapping[str, list[Any]], places: tuple[str, str] = ("there", "here")) -> str:
    """Return one line with each difference and both its values."""
    one, two = places
    return "; ".join(f"{name} {_shortened(a)} {one}, {_shortened(b)} {two}" for name, (a, b) in found.items())


def require_allowed(found: Mapping[str, list[Any]], allowed: Collection[str], where: str) -> None:
    """Raise ValueError if a checkpoint was trained with other settings, unless each difference is allowed by name.

    Args:
        found: of `compare_settings` between the checkpoint and the run that goes on.
        allowed: of `--resume_allow`.
        where: the checkpoint.

    Raises:
        ValueError: with both values of each difference, and the way out.
    """
    check_setting_names(allowed)
    if fixed := {name: pair for name, pair in found.items() if name in FIXED}:
        seen = "; it has trained on rows that the fold would validate on" if "validation_rows" in fixed else ""
        raise ValueError(
            f"{where} was trained with other settings, which its weights cannot go on with: "
            f"{describe_differences(found)}{seen}: give the same ones, or train anew with --overwrite true"
        )
    if others := {name: pair for name, pair in found.items() if name not in allowed}:
        raise ValueError(
            f"{where} was trained with other settings: {describe_differences(others)}: give the same ones, train "
            f"anew with --overwrite true, or go on with the new ones by --resume_allow {' '.join(found)}"
        )


def check_setting_names(allowed: Collection[str]) -> None:
    """Raise ValueError if a name of `--resume_allow` is one that no difference can have.

    Raises:
        ValueError: with the nearest name.
    """
    for name in allowed:
        require_known(name, (SHAPING | DERIVED) - FIXED, "--resume_allow", "setting")


def _shortened(value: Any) -> str:
    return text if len(text := str(value)) <= 80 else f"{text[:77]}..."


def _short(value: Any) -> str | None:
    """Name a long value by the sha256 of its JSON."""
    return (
        None if value is None else f"sha256 {hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()}"
    )


def _content(value: Any) -> Any:
    """Name a file or a folder by its content; anything else by itself."""
    if isinstance(value, dict):
        return _short(value)
    local = isinstance(value, str) and os.path.exists(value)
    return f"sha256 {sha256_of(Path(value))}" if local else value


def _parent(described: Mapping[str, Any] | None) -> str | None:
    """Name a parent run or a teacher by what it is; where it lies does not matter."""
    if described is None:
        return None
    runs = described.get("runs", [described])
    return " and ".join(f"{run['task']} {'+'.join(run['folds'])} of {run.get('finished')}" for run in runs)
