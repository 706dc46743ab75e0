"""Two runs on one labelled file: each scored as it would be in use, then compared row by row."""

from pathlib import Path

import numpy as np
import pandas as pd

from product_relevance.data.sources.tables import Source
from product_relevance.ensemble.files.judge_file import judge_file
from product_relevance.ensemble.scoring_arguments import ScoringArguments
from product_relevance.evaluation.comparison import Comparison, Judged, compare_models
from product_relevance.utils.files import atomic_write

SHOWN = ("id", "task", "language", "origin_query", "target", "label")


def compare_on_file(a: ScoringArguments, b: ScoringArguments, source: str | Source) -> tuple[Comparison, pd.DataFrame]:
    """Score a labelled file with two runs, one after the other, and compare them.

    Args:
        a, b: The runs and how they are loaded; each decides by its own thresholds and reads its own translations.
        source: Labelled records.

    Returns:
        The comparison of B with A; and the rows whose decision differs, with their texts, both scores and both
        decisions, those first whose scores moved most.

    Raises:
        ValueError: Bad records, records without labels, or runs of different tasks.
    """
    one, other = (judge_file(asked.load(), source, asked) for asked in (a, b))
    frame, of_a, of_b = one.frame, *(Judged(judged.scores, judged.relevant) for judged in (one, other))
    if frame["task"].tolist() != other.frame["task"].tolist():
        raise ValueError(f"{a.model}, {b.model}: found runs of different tasks, expected the same task")
    labels = frame["label"].to_numpy(int)
    found = compare_models(labels, one.queries, of_a, of_b)
    table = frame[[*SHOWN]].assign(
        score_a=of_a.scores, score_b=of_b.scores, prediction_a=of_a.relevant * 1, prediction_b=of_b.relevant * 1
    )
    changed = table[of_a.relevant != of_b.relevant]
    order = np.argsort(-(changed["score_a"] - changed["score_b"]).abs().to_numpy(), kind="stable")
    return found, changed.iloc[order].reset_index(drop=True)


def write_changed(changed: pd.DataFrame, path: str) -> None:
    """Write the rows that changed as CSV, under a temporary name first.

    Raises:
        ValueError: The path is no .csv.
    """
    if Path(path).suffix.lower() != ".csv":
        raise ValueError(f"--changed {path}: expected a name that ends in .csv")
    with atomic_write(path) as file:
        changed.to_csv(file, index=False, lineterminator="\n")
