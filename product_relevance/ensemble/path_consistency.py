"""Scores that agree with the category tree: a path is never less relevant to a query than one below it."""

from functools import cache

import numpy as np
import pandas as pd

from product_relevance.data.folds import query_keys
from product_relevance.text.cleaning import clean_path, normalise
from product_relevance.text.taxonomy import PLAIN, Taxonomy, join_path, split_path


def consistent(frame: pd.DataFrame, scores: np.ndarray, known: Taxonomy | None = None) -> tuple[np.ndarray, int, int]:
    """Raise each path's score to the highest of the paths below it, among the rows of one query and language.

    What is relevant to a part of a category is relevant to the category, so its probability is a lower bound of that
    of every path above. The path below keeps its score: training files hold leaves, and a model knows least about
    the paths above them (docs/explanation/thresholds.md).

    Args:
        frame: records of `read_records`; item titles and rows without a usable query or target stay as they are.
        scores: probabilities, shape (n,).
        known: tree to look paths in the other rendering up in.

    Returns:
        (scores of shape (n,), pairs of a path and one below it, rows that were raised)
    """
    split = cache(lambda path: _node(path, known))
    usable = ((frame["task"] == "QC") & (frame["defect"] == "")).to_numpy()
    nodes = [split(path) if taken else () for path, taken in zip(frame["target"], usable, strict=True)]
    keys = list(zip(frame["language"], query_keys(frame)[0], nodes, strict=True))
    places: dict[tuple, list[int]] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    found, pairs = np.array(scores, dtype=float), 0
    for i, (language, query, node) in enumerate(keys):
        for depth in range(1, len(node)):
            for above in places.get((language, query, node[:depth]), ()):
                found[above] = max(found[above], scores[i])
                pairs += 1
    return found, pairs, int((found > scores).sum())


def _node(path: str, known: Taxonomy | None) -> tuple[str, ...]:
    form = known.form if known is not None else PLAIN
    levels = form.split(clean_path(join_path(split_path(path, known), form)))
    return tuple(normalise(level) for level in levels)
