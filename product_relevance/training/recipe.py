"""Read a YAML file, flags, or both, as the arguments of one training."""

import argparse
import sys

from product_relevance.data.arguments import DataArguments
from product_relevance.models.arguments import ModelArguments
from product_relevance.training.arguments import ObjectiveArguments, metric_names
from product_relevance.utils.options import Parser, RaisingParser, read_options
from product_relevance.utils.recipes import load_recipe, split_recipe

KINDS = (ModelArguments, DataArguments, ObjectiveArguments)

# What this script sets unlike transformers.TrainingArguments; a recipe or a flag replaces each.
TRAINING_DEFAULTS = {
    "output_dir": "runs/relevance",
    "train_sampling_strategy": "group_by_length",
    "eval_strategy": "steps",
    "eval_steps": 0.2,
    "save_strategy": "steps",
    "save_steps": 0.2,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "f1",
    "logging_steps": 10,
    "per_device_eval_batch_size": 64,
    "ddp_find_unused_parameters": False,
    "report_to": "none",
}


def parse_arguments(argv: list[str] | None = None):
    """Parse `[RECIPE.yaml] [--flag value ...]`; a flag wins over the recipe, the recipe over the defaults.

    Args:
        argv: command line without the program's name; `sys.argv[1:]` when None.

    Returns:
        (ModelArguments, DataArguments, ObjectiveArguments, transformers.TrainingArguments)

    Raises:
        ValueError: unknown flag or recipe key, or a value outside its range.
    """
    from transformers import TrainingArguments

    types = (*KINDS, TrainingArguments)
    recipe, flags = split_recipe(list(sys.argv[1:] if argv is None else argv))
    parser = RaisingParser(types, description="Fine-tune a base for product-search relevance.", allow_abbrev=False)
    given = read_options(types, load_recipe(recipe), str(recipe), "key") if recipe else {}
    given |= vars(parser.parse_args(flags))
    _check_batch(given)
    if _takes_bf16(given):
        given["bf16"] = True
    if "deepspeed" in given:
        from product_relevance.training import build_locks

        build_locks.watch()  # before its first extension is built, as soon as there are TrainingArguments
    parsed = parser.parse_dict(TRAINING_DEFAULTS | given)
    if parsed[-1].hub_token:
        raise ValueError("hub_token: a token never goes into arguments; set HF_TOKEN or run `hf auth login`")
    _check_precision(parsed[0], parsed[-1])
    _check_checkpointing(parsed[-1])
    _check_metric(parsed[1], parsed[-1])
    if parsed[1].global_batch_size and parsed[-1].auto_find_batch_size:
        raise ValueError(
            "--auto_find_batch_size would change the batch that --global_batch_size asks for: leave it out; "
            "--tokens_per_forward keeps a step within memory at the same batch"
        )
    return parsed


def _check_checkpointing(training) -> None:
    """Take the checkpoints that need no gradient at the inputs, which would keep all layers below an adapter, too."""
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):  # before and after 5.23
        if not hasattr(training, name):
            continue
        options = dict(getattr(training, name) or {})
        if options.setdefault("use_reentrant", False):
            raise ValueError(
                f"--{name}: found use_reentrant true, expected false: such checkpoints need gradients in all layers, "
                "also where no adapter is; leave it out"
            )
        if training.gradient_checkpointing:
            setattr(training, name, options)


def _check_batch(given: dict) -> None:
    if {"global_batch_size", "gradient_accumulation_steps"} <= given.keys():
        raise ValueError(
            "--global_batch_size and --gradient_accumulation_steps: found both, expected one of them: accumulation "
            "follows from --global_batch_size and the number of processes, so leave it out"
        )


def _check_precision(model_args: ModelArguments, training) -> None:
    """Refuse weights that are trained in 16 bits, where small updates are lost; DeepSpeed keeps copies in 32."""
    half = model_args.dtype in ("bfloat16", "float16") and not training.deepspeed
    if half and (model_args.adapter == "none" or not (training.bf16 or training.fp16)):
        raise ValueError(
            f"--dtype {model_args.dtype}: what is trained would be kept in 16 bits, where small updates round to "
            "nothing; leave --dtype out and give --bf16 true"
        )


def _check_metric(data_args: DataArguments, training) -> None:
    """Refuse a metric that no evaluation gives, one that is read the wrong way round, and stopping by none."""
    if training.metric_for_best_model is not None:
        name = training.metric_for_best_model.removeprefix("eval_")
        if name not in (known := metric_names(data_args.task)):
            raise ValueError(f"--metric_for_best_model {name}: expected one of {', '.join(known)}")
        if training.greater_is_better != (name != "loss"):
            raise ValueError(
                f"--greater_is_better {training.greater_is_better}: found it with --metric_for_best_model {name}, "
                "which would keep the worst checkpoint; leave it out"
            )
    if data_args.early_stopping_patience is not None and training.eval_strategy == "no":
        raise ValueError(
            "--early_stopping_patience: nothing is scored under --eval_strategy no: give --eval_strategy steps, or "
            "leave it out"
        )


def check_reports(training) -> None:
    """Refuse a service to report to that is missing, of which the Trainer says nothing until the first fold begins.

    Raises:
        ValueError: an unknown service, or one whose package is missing.
    """
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in set(training.report_to) - set(get_available_reporting_integrations()):
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"--report_to {name}: expected none, or one of {', '.join(INTEGRATION_TO_CALLBACK)}")
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"--report_to {name}: {reason} Or leave --report_to out") from None


def _takes_bf16(given: dict) -> bool:
    """Return whether to train in bf16: on a GPU that has it, unless a precision or the CPU was chosen."""
    import torch

    chosen = {"bf16", "fp16", "use_cpu"} & given.keys()
    return not chosen and torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def help_text() -> str:
    """Return the help of the three dataclasses here, without importing transformers."""
    defaults = "\n".join(f"  --{key:<30}{value}" for key, value in TRAINING_DEFAULTS.items())
    parser = Parser(
        KINDS,
        usage="train_relevance.py [RECIPE.yaml] [--flag value ...]",
        description="Fine-tune a base for product-search relevance, one fold at a time. Every flag of\n"
        "transformers.TrainingArguments works too (--help_all lists them), and every flag may stand in the recipe.",
        epilog=f"TrainingArguments that differ from transformers here:\n{defaults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser.format_help()
