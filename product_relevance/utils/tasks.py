"""Name the tasks of a run: QC, QI, or both with a share of the loss each; read one task out of a run of both."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from product_relevance.utils.run_record import FinishedRunRecord

TASKS = ("QC", "QI")
BOTH = ",".join(TASKS)
CHOICES = (*TASKS, BOTH)
# The field of a record that holds the target, and how texts call it.
TARGET_FIELD = {"QC": "category_path", "QI": "item_title"}
TARGET_NAMES = {"QC": "category path", "QI": "item title", BOTH: "category path or item title"}
# Of both tasks.
LABELS = {0: "irrelevant", 1: "relevant"}
# What run.json of a run of both tasks holds by task; a fold's metrics as well.
BY_TASK = ("thresholds", "thresholds_from", "metrics")
Run = TypeVar("Run", bound=FinishedRunRecord)


def task_names(task: str) -> tuple[str, ...]:
    """Return the single tasks that a task stands for."""
    return tuple(task.split(","))


def name_labels(grades: int) -> dict[int, str]:
    """Return the name of each label: of two irrelevant and relevant, of more `grade 0` and so on."""
    return LABELS if grades == 2 else {grade: f"grade {grade}" for grade in range(grades)}


def mixing_exponent(mixing: str) -> float:
    """Return the power of a task's rows that its share of the loss grows with.

    Args:
        mixing: proportional (1), equal (0), or a temperature T from 1 up (1 / T): Raffel et al., arXiv 1910.10683,
            section 3.5.2.

    Raises:
        ValueError: anything else.
    """
    try:
        temperature = {"proportional": 1.0, "equal": math.inf}.get(mixing) or float(mixing)
    except ValueError:
        temperature = math.nan
    if not temperature >= 1:
        raise ValueError(f"--task_mixing {mixing}: expected proportional, equal, or a temperature from 1 up")
    return 1 / temperature


def mixing_weights(tasks: Sequence[str], mixing: str) -> list[float]:
    """Weigh rows so that each task has its share of the loss.

    Sampling tasks at these rates has the same expected gradient; weights need no draw, and lose or repeat no row.

    Args:
        tasks: of n rows, QC or QI.
        mixing: as in `mixing_exponent`.

    Returns:
        n weights with mean 1; all 1 where mixing is proportional.
    """
    weight = {task: part["share"] * len(tasks) / part["rows"] for task, part in task_shares(tasks, mixing).items()}
    return [weight[task] for task in tasks]


def task_shares(tasks: Sequence[str], mixing: str) -> dict[str, dict[str, float]]:
    """Return rows and share of the loss of each task; arguments as in `mixing_weights`."""
    rows = dict(sorted(Counter(tasks).items()))
    wanted = {task: n ** mixing_exponent(mixing) for task, n in rows.items()}
    return {task: {"rows": n, "share": wanted[task] / sum(wanted.values())} for task, n in rows.items()}


def select_task(run: Run, task: str | None) -> Run:
    """Return what a run says of one of its tasks, in the form of a run of that task alone.

    Args:
        run: of one task or of both.
        task: one of its tasks; None where it has one only.

    Raises:
        ValueError: no such task, or None for a run of both.
    """
    known = task_names(run.task)
    if task is None and len(known) > 1:
        raise ValueError(
            f"this run was trained on {' and '.join(known)}, each with its own thresholds: name one, as "
            "of_task('QC'), or take it out with `relevance take RUN QC --output FOLDER`"
        )
    if task is not None and task not in known:
        raise ValueError(f"task {task}: this run was trained on {' and '.join(known)} only")
    if len(known) == 1:
        return run
    data = {key: value for key, value in run.data.items() if key != "tasks"} | run.data["tasks"][task]
    folds = [fold | {"metrics": fold["metrics"].get(task)} if fold.get("metrics") else fold for fold in run.folds]
    alone = {"task": task, "template": {**run.template, "task": task}, "data": data, "folds": folds}
    return replace(run, **alone, **{key: getattr(run, key)[task] for key in BY_TASK})
