"""Names of flags in other tools and in older versions: what they are called here, or why there is none."""

import difflib
from collections.abc import Collection, Iterable

CLOSE = 0.6  # likeness from which a name counts as a misspelling, as difflib has it
OURS_FIRST = 0.1  # likeness that one of our names has ahead of one of the Trainer's

# Ours: what transformers 4, LLaMA-Factory, Axolotl, Lightning, PEFT's examples, sentence-transformers and TEI call it.
_NAMES = {
    "model_name_or_path": "model base_model model_name model_id model_path base_model_name_or_path",
    "model_revision": "revision",
    "max_length": "max_seq_length max_seq_len cutoff_len block_size sequence_len model_max_length",
    "dtype": "torch_dtype load_dtype",
    "attn_implementation": "flash_attn use_flash_attn flash_attention use_flash_attention_2",
    "pooling": "pooling_mode pooling_strategy",
    "prompt": "template prompt_template",
    "adapter": "use_lora use_peft finetuning_type tuner_type train_type peft_type",
    "lora_r": "lora_rank lora_dim rank r",
    "lora_alpha": "alpha",
    "lora_dropout": "lora_dropout_rate",
    "lora_target_modules": "target_modules lora_target lora_modules",
    "quantization": "load_in_4bit load_in_8bit use_4bit quantization_bit",
    "train_file": "dataset dataset_name dataset_path data_path data_files data_file train_path train_data file",
    "lowercase": "do_lower_case",
    "num_folds": "n_splits num_splits n_folds k_folds folds",
    "fold_seed": "split_seed",
    "held_out_languages": "eval_languages validation_languages",
    "label_smoothing_factor": "label_smoothing",
    "global_batch_size": "batch_size total_batch_size effective_batch_size",
    "per_device_train_batch_size": "per_gpu_train_batch_size train_batch_size micro_batch_size",
    "per_device_eval_batch_size": "per_gpu_eval_batch_size eval_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation grad_accum accumulate_grad_batches",
    "num_train_epochs": "epochs num_epochs max_epochs",
    "learning_rate": "lr",
    "lr_scheduler_type": "lr_scheduler scheduler",
    "warmup_steps": "warmup_ratio num_warmup_steps",
    "weight_decay": "wd",
    "max_grad_norm": "gradient_clip_val gradient_clipping grad_clip clip_grad_norm",
    "optim": "optimizer",
    "bf16": "mixed_precision",
    "use_cpu": "no_cuda cpu",
    "seed": "seed_everything random_seed random_state",
    "output_dir": "output output_path out_dir save_dir default_root_dir",
    "output": "output_dir output_file output_path out submission",
    "eval_strategy": "evaluation_strategy",
    "eval_steps": "evaluation_steps eval_interval val_check_interval",
    "save_steps": "save_interval checkpointing_steps",
    "logging_steps": "log_interval log_every_n_steps",
    "train_sampling_strategy": "group_by_length",
    "threshold": "cut",
    "threshold_of": "cut_of",
    "early_stopping_patience": "early_stopping patience",
    "report_to": "logger use_wandb",
    "resume_from_checkpoint": "resume",
    "overwrite": "overwrite_output_dir overwrite_output force",
    "max_pairs": "max_client_batch_size",
    "max_queue": "max_concurrent_requests",
    "batch_window_ms": "batch_window",
}
_MORE = {"warmup_ratio": ", which takes a share of all steps, too, as 0.1"}
_LABELS = "there are always two labels, irrelevant and relevant"
_VALIDATION = "each fold validates on rows of the training file; `relevance evaluate` measures on another one"
_GONE = "transformers has it no longer; leave it out"
_WEIGHTS = (
    "classes have no weights: they gained nothing on real rows, and thresholds are chosen out of fold; leave it out"
)
_REASONS = {
    **dict.fromkeys(("num_labels", "num_classes", "id2label", "label2id", "problem_type"), _LABELS),
    **dict.fromkeys(("validation_file", "eval_file", "test_file", "eval_dataset", "val_file"), _VALIDATION),
    **dict.fromkeys(("val_size", "test_size", "validation_split", "validation_split_percentage"), _VALIDATION),
    **dict.fromkeys(("save_safetensors", "fp16_opt_level", "half_precision_backend", "jit_mode_eval"), _GONE),
    **dict.fromkeys(("use_mps_device", "overwrite_cache", "push_to_hub_model_id", "tpu_num_cores"), _GONE),
    **dict.fromkeys(("class_weights", "class_weight", "pos_weight"), _WEIGHTS),
    **dict.fromkeys(("token", "use_auth_token"), "a token never goes into arguments; set HF_TOKEN"),
    **dict.fromkeys(("tokenizer_name", "config_name"), "tokenizer and config are those of the base"),
    "batch_size": "batches are made by tokens, as many as the free memory takes",
    "cache_dir": "HF_HOME in the environment says where downloads are kept",
    "consistent_ancestors": "it is gone, for it changed no score on real records; leave it out",
    "logging_dir": "TENSORBOARD_LOGGING_DIR in the environment says it: train_relevance.py --report_to tensorboard",
    "merged": "an export is always one merged model; leave it out",
    "trust_remote_code": "code of a repository is never run",
}


def explain_name(name: str, known: Collection[str], dash: str = "") -> str:
    """Say what a name of another tool is here; "" for a name that no table has.

    Args:
        name: With underscores, without dashes in front.
        known: Names that may be given here; only these are named.
        dash: In front of a name, as "--".
    """
    for ours, theirs in _NAMES.items():
        if ours in known and name in theirs.split():
            return f"here it is {dash}{ours}{_MORE.get(name, '')}"
    return _REASONS.get(name, "")


def require_known(
    name: object, known: Iterable[str], where: str, what: str = "name", first: Collection[str] = ()
) -> None:
    """Raise ValueError if a name is unknown, with the nearest known one (of `first` before the others).

    Raises:
        ValueError: It is unknown.
    """
    known = list(known)
    if name not in known:
        raise ValueError(f"{where}: unknown {what} {name!r}{suggest_name(str(name), known, first)}")


def suggest_name(name: str, known: Collection[str], first: Collection[str] = (), dash: str = "") -> str:
    """Say what an unknown name may mean: a name of another tool, or a misspelt one; "" where nothing is near."""
    name = name.replace("-", "_")
    if meaning := explain_name(name, known, dash):
        return f"; {meaning}"

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, other, name).ratio()

    near = [other for other in sorted(known) if likeness(other) >= CLOSE]
    best = max(near, key=lambda other: likeness(other) + OURS_FIRST * (other in first), default=None)
    return f"; did you mean {dash}{best}?" if best else ""
