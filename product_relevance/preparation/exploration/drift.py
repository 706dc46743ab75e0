"""Compare a file of records with another one: unknown paths, and how far languages, labels and lengths moved."""

import numpy as np
import pandas as pd

from product_relevance.preparation.exploration.statistics import EXAMPLES, labels_of
from product_relevance.text.path_format import form_of
from product_relevance.text.taxonomy import Taxonomy


def find_unseen_paths(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Look the paths of one file up in the tree of another.

    Args:
        first: Records (QC) whose tree is known.
        second: Records (QC) to look up.

    Returns:
        (paths and rows that are known completely, partially, or not at all; the unknown paths of most rows)
    """
    report = Taxonomy.from_paths(first["target"], form_of(first)).report(second["target"])
    order = ["complete", "partial", "none"]
    counts = report.groupby("match").agg(paths=("path", "size"), rows=("rows", "sum")).reindex(order, fill_value=0)
    counts = counts.reset_index().rename(columns={"match": "known"})
    counts["share of rows"] = counts["rows"] / max(len(second), 1)
    return counts, report[report["match"] != "complete"].head(EXAMPLES)


def measure_drift(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Measure how far the second file is from the first, both as `statistics.add_measures` returns them.

    Returns:
        what, first, second, distance. The first rows say what the files share (no distance: a full overlap is the
        one thing not to miss, and would show as 0). The distance of languages is the total variation (the share of
        rows that would have to change), of lengths and overlaps the Kolmogorov-Smirnov statistic, else the
        difference.
    """
    rows = []
    for text in ("query", "target"):
        known = [_known(one, other, text) for one, other in ((first, second), (second, first))]
        rows.append((f"rows whose {text} is in the other file, too", *known, None))
    labels = [labels_of(frame).mean() for frame in (first, second)]
    rows.append(("relevant", *labels, abs(labels[1] - labels[0])))
    unseen = float((~second["language"].isin(set(first["language"]))).mean())
    rows.append(("rows in a language that the first has not", 0.0, unseen, _total_variation(first, second)))
    for what, column in (
        ("query, median characters", "query_characters"),
        ("target, median characters", "target_characters"),
        ("overlap of words, median", "overlap"),
    ):
        sides = [frame[column].to_numpy() for frame in (first, second)]
        rows.append((what, *(float(np.median(side)) for side in sides), kolmogorov_smirnov(*sides)))
    return pd.DataFrame(rows, columns=["what", "first", "second", "distance"])


def describe_shared_queries(first: pd.DataFrame, second: pd.DataFrame) -> str:
    """Say how many rows of the second file have a query of the first: of a dev or test file there should be none."""
    known = second["query_key"].isin(first["query_key"].unique())
    queries = second.loc[known, "query_key"].nunique()
    return f"{known.sum():,} of {len(second):,} rows ({known.mean():.1%}) have one of {queries:,} shared queries"


def _known(one: pd.DataFrame, other: pd.DataFrame, text: str) -> float:
    return float(one[f"{text}_key"].isin(other[f"{text}_key"].unique()).mean())


def compare_languages(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Set the languages of two files side by side: share of rows, and share of relevant ones among them."""
    columns = {}
    for name, frame in (("first", first), ("second", second)):
        columns[f"rows, {name}"] = frame["language"].value_counts(normalize=True)
        columns[f"relevant, {name}"] = labels_of(frame).groupby(frame["language"]).mean()
    table = pd.DataFrame(columns).rename_axis("language")
    shares = table.columns[table.columns.str.startswith("rows")]
    table[shares] = table[shares].fillna(0.0)
    order = ["rows, first", "rows, second", "relevant, first", "relevant, second"]
    return table[order].sort_values(order[:2], ascending=False, kind="stable").reset_index()


def kolmogorov_smirnov(left: np.ndarray, right: np.ndarray) -> float:
    """Return the largest distance between two cumulative distributions, 0 to 1; for values with ties too."""
    points = np.unique(np.concatenate([left, right]))
    below = [np.searchsorted(np.sort(side), points, side="right") / len(side) for side in (left, right)]
    return float(np.abs(below[0] - below[1]).max())


def _total_variation(first: pd.DataFrame, second: pd.DataFrame) -> float:
    shares = [frame["language"].value_counts(normalize=True) for frame in (first, second)]
    return float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)
