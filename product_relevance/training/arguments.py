"""Flags and recipe keys of what a training minimises, and how its batches are divided."""

from dataclasses import dataclass

from product_relevance.utils import tasks
from product_relevance.utils.options import option

# Functions of product_relevance/training/losses.py, which imports torch.
OBJECTIVES = ("cross_entropy", "r_drop", "distill", "dpo")


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
    teacher: str | None = option(None, "distill: teacher run or stack; its folds score the training rows")
    unlabelled_file: str | None = option(
        None, "distill: more records to learn from, by the teacher alone; their labels are not read"
    )
    teacher_share: float = option(0.5, "distill: weight of the teacher; the label has the rest")
    dpo_beta: float = option(0.1, "dpo: how strongly the model is held to the model without adapter")

    def __post_init__(self):
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
        if self.r_drop_strength <= 0 or self.dpo_beta <= 0:
            raise ValueError("--r_drop_strength and --dpo_beta: expected more than 0")


def metric_names(task: str) -> list[str]:
    """Return what `--metric_for_best_model` may be: figures of the watched rows, of both tasks also by task."""
    figures = ["f1", "macro_f1", "f1_at_half", "auc"]
    by_task = [f"{name}_{one}" for name in figures for one in tasks.names(task)] if task == tasks.BOTH else []
    return [*figures, *by_task, "loss"]


def accumulation(pairs: int, per_device: int, processes: int) -> int:
    """Return how many batches of a device make its share of a step of `--global_batch_size` pairs.

    Args:
        pairs: of a step, over all processes.
        per_device: `--per_device_train_batch_size`.
        processes: that train.

    Raises:
        ValueError: the pairs are no multiple of what all processes take at a time.
    """
    times, rest = divmod(pairs, per_device * processes)
    if rest == 0 and times:
        return times
    share, rest = divmod(pairs, processes)
    fitting = next((n for n in range(min(per_device, share), 0, -1) if share % n == 0), 0) if rest == 0 else 0
    way_out = f"--per_device_train_batch_size {fitting}" if fitting else "another number of processes"
    raise ValueError(
        f"--global_batch_size {pairs}: found --per_device_train_batch_size {per_device} on {processes} processes, "
        f"which is {per_device * processes} pairs at a time; expected a multiple of that: give {way_out}, or another "
        "--global_batch_size"
    )
