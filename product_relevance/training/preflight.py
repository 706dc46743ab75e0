"""Check records and arguments before the first fold trains, so that no fold fails hours later."""

import logging
from typing import Any

import pandas as pd

from product_relevance.data.splits import Split
from product_relevance.evaluation.reports.report import weights_line
from product_relevance.training.arguments import ObjectiveArguments
from product_relevance.training.run_config import RunConfig
from product_relevance.training.run_data import sample_evaluation_rows

logger = logging.getLogger(__name__)
WEIGHT = "weight"  # field of the records


def check_rows(frame: pd.DataFrame, splits: list[Split], config: RunConfig) -> None:
    """Check that each fold has something to learn from and to be compared by.

    Args:
        frame: records with columns and `query_group`.
        splits: of `make_splits`.
        config: of the run.

    Raises:
        ValueError: training rows of one label only, or watched rows on which the metric is not defined.
    """
    training, objective = config.training, config.objective
    for split in splits:
        _require_two_labels(split.name, frame.iloc[split.train], objective)
        if training.eval_strategy != "no" and len(split.valid):
            queries = frame["query_group"].to_numpy()
            rows = sample_evaluation_rows(queries, split.valid, config.data.eval_rows)
            check_metric(split.name, frame.iloc[rows].groupby("task")["label"], training.metric_for_best_model)
    validated = [label for split in splits for label in frame["label"].iloc[split.valid].unique()]
    if len(set(validated)) == 1:
        logger.warning(
            "all validation rows are labelled %d: threshold, F1 and AUC of this run say nothing about the other label",
            validated[0],
        )


def _require_two_labels(fold: str, rows: pd.DataFrame, objective: ObjectiveArguments) -> None:
    alone = rows["label"].nunique() == 1 and objective.objective != "distill"
    for task, labels in rows.groupby("task")["label"]:
        found = f"{fold}: all {len(labels)} {task} rows to train on are labelled {int(labels.iloc[0])}"
        if labels.nunique() == 1 and alone:
            raise ValueError(
                f"{found}; expected rows of both labels in --train_file: a model of one label answers it always, and "
                "its F1 is 1 or 0 whatever it learned"
            )
        if labels.nunique() == 1:
            logger.warning("%s: of the other one the model learns nothing from them", found)


def check_metric(fold: str, watched, metric: str | None) -> None:
    """Check that a metric distinguishes checkpoints on the rows that are scored while a fold trains.

    Args:
        fold: its name.
        watched: labels of these rows, grouped by task.
        metric: `--metric_for_best_model`; a name of `arguments.metric_names`.

    Raises:
        ValueError: rows of one label only, on which AUC is not defined and the best F1 is always 1 or 0.
    """
    name = (metric or "loss").removeprefix("eval_")
    if name == "loss":
        return
    wanted = name.rpartition("_")[2]
    labels = {task: set(values) for task, values in watched}
    if wanted in ("QC", "QI"):
        labels = {wanted: labels.get(wanted, set())}
    for task, found in labels.items():
        if len(found) < 2:
            what = f"only rows labelled {int(min(found))}" if found else "no row"
            raise ValueError(
                f"--metric_for_best_model {name}: found {what} of {task} among the rows of {fold} that are scored "
                "while it trains, expected both labels: raise --eval_rows, give --metric_for_best_model loss, or give "
                "--eval_strategy no --load_best_model_at_end false"
            )


def weight_range(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Return, and log, the smallest and largest weight of the records, which scale the loss; None where all are 1.

    Raises:
        ValueError: all weights are 0.
    """
    if WEIGHT not in frame:
        return None
    values = frame[WEIGHT].astype(float)
    if values.max() == 0:
        raise ValueError(f"{frame.attrs.get('source')}: field '{WEIGHT}': found 0 in all rows: no row has a loss")
    if (values == 1).all():
        return None
    found: dict[str, Any] = {"field": WEIGHT, "min": float(values.min()), "max": float(values.max())}
    logger.info("%s: the loss of each row is multiplied by it", weights_line(found))
    return found
