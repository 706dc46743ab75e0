"""Arguments of a training: the flags of its objective; a recipe, flags, or options in Python read as one set."""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from product_relevance.data.arguments import DataArguments
from product_relevance.models.arguments import ModelArguments
from product_relevance.utils import tasks
from product_relevance.utils.options import Parser, RaisingParser, option, read_options
from product_relevance.utils.recipes import find_recipe, load_recipe, split_recipe

if TYPE_CHECKING:
    from transformers import TrainingArguments

    Arguments = tuple[ModelArguments, DataArguments, "ObjectiveArguments", TrainingArguments]

# Functions of product_relevance/training/losses.py, which imports torch.
OBJECTIVES = ("cross_entropy", "r_drop", "bootstrap", "early_learning", "mean_teacher", "distill", "dpo")


@dataclass
class ObjectiveArguments:
    """What is minimised; label smoothing is the Trainer's own --label_smoothing_factor."""

    _argument_group_name = "what is minimised; label smoothing is the Trainer's own --label_smoothing_factor"

    stage: str = option(
        "relevance",
        "relevance: train on pairs. language_model: warm start on texts without labels",
        ["relevance", "language_model"],
    )
    objective: str = option("cross_entropy", "what is minimised: docs/how-to/objectives.md", list(OBJECTIVES))
    r_drop_strength: float = option(1.0, "r_drop: weight of the disagreement between two passes (for reproduction)")
    own_share: float = option(0.2, "bootstrap: weight of the model's own probability; the label has the rest")
    early_learning_strength: float = option(
        1.0, "early_learning: how strongly the model is held to its own earlier answers"
    )
    target_momentum: float = option(0.7, "early_learning: share of the earlier answers in their running mean")
    ema_decay: float = option(0.999, "mean_teacher: share of the earlier weights in their running mean")
    teacher_temperature: float = option(2.5, "mean_teacher: softens the answers of both")
    teacher: str | None = option(None, "distill: teacher run or stack; its folds score the training rows")
    unlabelled_file: str | None = option(
        None, "distill: more records to learn from, by the teacher alone; their labels are not read"
    )
    teacher_share: float = option(0.5, "distill, mean_teacher: weight of the teacher; the label has the rest")
    dpo_beta: float = option(0.1, "dpo: how strongly the model is held to the model without adapter")

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"--objective {self.objective}: expected one of {', '.join(OBJECTIVES)}")
        if self.stage != "relevance" and self.objective != "cross_entropy":
            raise ValueError(f"--stage {self.stage} reads no labels: leave --objective out")
        if (self.objective == "distill") != (self.teacher is not None):
            raise ValueError("--objective distill and --teacher RUN go together")
        if self.unlabelled_file and self.teacher is None:
            raise ValueError("--unlabelled_file needs a teacher: add --objective distill --teacher RUN")
        if not 0 < self.teacher_share <= 1:
            raise ValueError(f"--teacher_share {self.teacher_share}: expected more than 0, and 1 at most")
        for name in ("own_share", "target_momentum", "ema_decay"):
            if not 0 < (value := getattr(self, name)) < 1:
                raise ValueError(f"--{name} {value}: expected more than 0, and less than 1")
        for name in ("r_drop_strength", "early_learning_strength", "teacher_temperature", "dpo_beta"):
            if (value := getattr(self, name)) <= 0:
                raise ValueError(f"--{name} {value}: expected more than 0")


def metric_names(task: str) -> list[str]:
    """Return what `--metric_for_best_model` may be: figures of the watched rows, of both tasks also by task."""
    figures = ["f1", "macro_f1", "f1_at_half", "auc"]
    by_task = [f"{name}_{one}" for name in figures for one in tasks.task_names(task)] if task == tasks.BOTH else []
    return [*figures, *by_task, "loss"]


KINDS = (ModelArguments, DataArguments, ObjectiveArguments)

# What a training sets unlike transformers.TrainingArguments; a recipe or a flag replaces each.
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


def parse_arguments(argv: list[str] | None = None) -> "Arguments":
    """Parse `[RECIPE] [--flag value ...]`; a flag wins over the recipe, the recipe over the defaults.

    Args:
        argv: command line without the program's name; `sys.argv[1:]` when None.

    Returns:
        The arguments by class.

    Raises:
        ValueError: unknown flag or recipe key, or a value outside its range.
    """
    recipe, flags = split_recipe(list(sys.argv[1:] if argv is None else argv))
    return _make_arguments(_read_recipe(recipe) | vars(_parser().parse_args(flags)))


def read_arguments(recipe: str | Path | None, options: Mapping[str, Any]) -> "Arguments":
    """Take a recipe and options by name, as Python has them; an option wins over the recipe.

    Args:
        recipe: YAML file, or the name of a shipped recipe; None without one.
        options: names of flags to values; None as a value takes a key of the recipe away.

    Returns:
        The arguments by class.

    Raises:
        ValueError: unknown option or recipe key, or a value of another type or outside its range.
    """
    from_recipe = _read_recipe(None if recipe is None else find_recipe(str(recipe)))
    kept = {name: value for name, value in from_recipe.items() if name not in options}
    return _make_arguments(kept | read_options(_kinds(), dict(options), "RunConfig", "option"))


def _kinds() -> tuple[type, ...]:
    from transformers import TrainingArguments

    return (*KINDS, TrainingArguments)


def _parser() -> RaisingParser:
    return RaisingParser(_kinds(), description="Fine-tune a base for product-search relevance.", allow_abbrev=False)


def _read_recipe(recipe: Path | None) -> dict[str, Any]:
    return read_options(_kinds(), load_recipe(recipe), str(recipe), "key") if recipe else {}


def _make_arguments(given: dict[str, Any]) -> "Arguments":
    """Fill in the defaults of a training, and check what one class of arguments alone cannot check."""
    _check_batch(given)
    if (pairs := _share_of_a_device(given)) is not None:
        given["per_device_train_batch_size"] = pairs
    if _takes_bf16(given):
        given["bf16"] = True
    if "deepspeed" in given:
        from product_relevance.training import build_locks

        build_locks.watch_build_locks()  # before its first extension is built, as soon as there are TrainingArguments
    model_args, data_args, objective, training = _parser().parse_dict(TRAINING_DEFAULTS | given)
    if training.hub_token:
        raise ValueError("hub_token: a token never goes into arguments; set HF_TOKEN or run `hf auth login`")
    _check_precision(model_args, training)
    _check_checkpointing(training)
    _check_metric(data_args, training)
    _check_grades(model_args, data_args, objective)
    if data_args.global_batch_size and training.auto_find_batch_size:
        raise ValueError(
            "--auto_find_batch_size would change the batch that --global_batch_size asks for: leave it out; "
            "--tokens_per_forward keeps a step within memory at the same batch"
        )
    return model_args, data_args, objective, training


def _check_checkpointing(training: "TrainingArguments") -> None:
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


def _check_batch(given: Mapping[str, Any]) -> None:
    if {"global_batch_size", "gradient_accumulation_steps"} <= given.keys():
        raise ValueError(
            "--global_batch_size and --gradient_accumulation_steps: found both, expected one of them: accumulation "
            "follows from --global_batch_size and the number of processes, so leave it out"
        )


def _share_of_a_device(given: Mapping[str, Any]) -> int | None:
    """Return a device's whole share of `--global_batch_size`, where the batch is split by tokens and not by pairs.

    That is the case on a GPU, and wherever `--tokens_per_forward` is given, unless a number of pairs was chosen or the
    processes have to forward equally often. None leaves the default of the Trainer.
    """
    import torch

    on_gpu = torch.cuda.is_available() and not given.get("use_cpu")
    by_tokens = on_gpu or given.get("tokens_per_forward") is not None
    in_step = given.get("deepspeed") or given.get("fsdp") or given.get("stage") == "language_model"
    if "per_device_train_batch_size" in given or not by_tokens or in_step:
        return None
    pairs, rest = divmod(given.get("global_batch_size") or 0, int(os.environ.get("WORLD_SIZE", 1)))
    return pairs if pairs and not rest else None  # what does not divide is refused where the batch is split


def _check_precision(model_args: ModelArguments, training: "TrainingArguments") -> None:
    """Raise ValueError for weights trained in 16 bits, which lose small updates; DeepSpeed keeps copies in 32."""
    half = model_args.dtype in ("bfloat16", "float16") and not training.deepspeed
    if half and (model_args.adapter == "none" or not (training.bf16 or training.fp16)):
        raise ValueError(
            f"--dtype {model_args.dtype}: what is trained would be kept in 16 bits, where small updates round to "
            "nothing; leave --dtype out and give --bf16 true"
        )


def _check_grades(model_args: ModelArguments, data_args: DataArguments, objective: ObjectiveArguments) -> None:
    """Raise ValueError for what knows relevant and irrelevant only."""
    if data_args.grades == 2:
        return
    in_the_way = {
        "--head yes_no answers with two words: take --head classifier": model_args.head == "yes_no",
        f"--objective {objective.objective} is of two labels: leave it out": objective.objective != "cross_entropy",
        f"--task {tasks.BOTH} has no thresholds of grades: train each task alone": data_args.task == tasks.BOTH,
    }
    for reason in (reason for reason, found in in_the_way.items() if found):
        raise ValueError(f"--grades {data_args.grades}: {reason}, or keep --grades 2")


def _check_metric(data_args: DataArguments, training: "TrainingArguments") -> None:
    """Raise ValueError for an unknown name, a metric read the wrong way round, and early stopping by none."""
    if training.metric_for_best_model is not None:
        name = training.metric_for_best_model.removeprefix("eval_")
        if name not in (known := metric_names(data_args.task)):
            raise ValueError(f"--metric_for_best_model {name}: expected one of {', '.join(known)}")
        if training.greater_is_better != (name != "loss"):
            raise ValueError(
                f"--greater_is_better {training.greater_is_better}: found it with --metric_for_best_model {name}, "
                "which would keep the worst checkpoint; leave it out"
            )
    if data_args.ranking_measures:
        from product_relevance.evaluation.ranking import parse_measures

        parse_measures(data_args.ranking_measures, flag="--ranking_measures")
    if data_args.early_stopping_patience is not None and training.eval_strategy == "no":
        raise ValueError(
            "--early_stopping_patience: nothing is scored under --eval_strategy no: give --eval_strategy steps, or "
            "leave it out"
        )


def check_reports(training: "TrainingArguments") -> None:
    """Check before anything is read that each service of `--report_to` can be used.

    Raises:
        ValueError: an unknown service, or one whose package is missing.
    """
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    services = {training.report_to} if isinstance(training.report_to, str) else set(training.report_to or ())
    for name in services - set(get_available_reporting_integrations()):
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"--report_to {name}: expected none, or one of {', '.join(INTEGRATION_TO_CALLBACK)}")
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"--report_to {name}: {reason} Or leave --report_to out") from None


def _takes_bf16(given: Mapping[str, Any]) -> bool:
    """Return whether to train in bf16: on a GPU that has it, unless a precision or the CPU was chosen."""
    import torch

    chosen = {"bf16", "fp16", "use_cpu"} & given.keys()
    return not chosen and torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def help_text() -> str:
    """Return the help of the three dataclasses here, without importing transformers."""
    defaults = "\n".join(f"  --{key:<30}{value}" for key, value in TRAINING_DEFAULTS.items())
    parser = Parser(
        KINDS,
        usage="%(prog)s [RECIPE] [--flag value ...]",
        description="Fine-tune a base for product-search relevance, one fold at a time. Every flag of\n"
        "transformers.TrainingArguments works too (--help_all lists them), and every flag may stand in the recipe.\n"
        "RECIPE is a .yaml file, or the name of a shipped recipe, as quickstart.",
        epilog=f"TrainingArguments that differ from transformers here:\n{defaults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser.format_help()
