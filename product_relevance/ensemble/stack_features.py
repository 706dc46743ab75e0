"""What a stack may read beside scores: how a pair stands among the pairs of its query, and the words its texts share.

A file of records lists the rivals of each pair: the other targets of its query. No label is read.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
import pandas as pd

from product_relevance.evaluation.calibration import to_logit
from product_relevance.text.cleaning import normalise_text

# Names of the columns of each kind. Scores are logits here, the mean over the runs.
KINDS = {
    "group": ("over_mean", "under_best", "rank", "rivals"),
    "lexical": ("shared_words", "covered_words", "covered_trigrams"),
}
WORD = re.compile(r"\w+")


def check_features(kinds: Iterable[str]) -> None:
    """Raise ValueError for a kind that is none of `KINDS`."""
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"--features: found {', '.join(sorted(unknown))}, expected among {', '.join(KINDS)}")


def name_features(kinds: Iterable[str]) -> list[str]:
    """Return the names of the columns that `make_features` makes."""
    return [name for kind in kinds for name in KINDS[kind]]


def make_features(
    kinds: Iterable[str], scores: np.ndarray, queries: Sequence[str], targets: Sequence[str]
) -> np.ndarray:
    """Make the features of pairs.

    Args:
        kinds: Among `KINDS`.
        scores: Probabilities of each run, shape (n, runs).
        queries: n texts; all rows of a query must be here, or its group is another one.
        targets: n texts.

    Returns:
        Shape (n, features), in the order of `name_features`.
    """
    makers: dict[str, Callable[[], np.ndarray]] = {
        "group": lambda: group_features(to_logit(scores).mean(axis=1), queries),
        "lexical": lambda: lexical_features(queries, targets),
    }
    return np.column_stack([np.zeros((len(queries), 0)), *(makers[kind]() for kind in kinds)])


def group_features(logits: np.ndarray, queries: Sequence[str]) -> np.ndarray:
    """Compare each pair with the pairs of the same query.

    Args:
        logits: Shape (n,).
        queries: n texts; what `normalise_text` makes alike is one query.

    Returns:
        Shape (n, 4): the score less the mean of its query, less the best of it, the share of its rivals that score
        higher (ties count half), and the logarithm of the number of pairs. A pair without rivals has zeros.
    """
    keys = pd.Series([normalise_text(query) for query in queries])
    groups = pd.Series(np.asarray(logits, dtype=float)).groupby(pd.factorize(keys)[0])
    size = groups.transform("size").to_numpy()
    above = groups.rank(ascending=False).to_numpy() - 1
    over, under = logits - groups.transform("mean").to_numpy(), logits - groups.transform("max").to_numpy()
    return np.column_stack([over, under, above / np.maximum(size - 1, 1), np.log(size)])


def lexical_features(queries: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """Compare the words and letters of queries with those of their targets.

    Returns:
        Shape (n, 3): the Jaccard coefficient of the words, the share of the query's words that the target has, and the
        share of the query's letter trigrams that it has. A text without words has zeros.
    """
    words, trigrams = cache(_words), cache(_trigrams)
    rows = [
        (
            _share(words(query) & words(target), words(query) | words(target)),
            _share(words(query) & words(target), words(query)),
            _share(trigrams(query) & trigrams(target), trigrams(query)),
        )
        for query, target in zip(queries, targets, strict=True)
    ]
    return np.array(rows, dtype=float).reshape(-1, len(KINDS["lexical"]))


def _words(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(normalise_text(text)))


def _trigrams(text: str) -> frozenset[str]:
    padded = [f" {word} " for word in _words(text)]
    return frozenset(word[i : i + 3] for word in padded for i in range(len(word) - 2))


def _share(part: frozenset[str], whole: frozenset[str]) -> float:
    return len(part) / len(whole) if whole else 0.0
