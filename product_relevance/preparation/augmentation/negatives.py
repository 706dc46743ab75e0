"""Negatives made from positives: hard ones that lie near the query in meaning, easy ones that lie far from it."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from product_relevance.data.arguments import FoldArguments
from product_relevance.data.provenance import append_rows, draw_share
from product_relevance.preparation.augmentation.nearest_neighbors import DIGITS, Band, Eligible, nearest_in_band
from product_relevance.preparation.augmentation.negative_candidates import NegativeOptions, Positives, deal_targets
from product_relevance.utils.options import option

logger = logging.getLogger(__name__)

# Cosines of e5 (see `mine_hard_negatives`), above those of random pairs and below those of the nearest targets.
BANDS = {"QC": (0.80, 0.84), "QI": (0.82, 0.86)}
EASY_BELOW = 0.80
TRIES = 30  # random targets looked at before a positive goes without an easy negative
CHUNK = 10_000

# Texts and their side ("query" or "passage") -> unit vectors, as encoder.load_encoder gives it.
Encoder = Callable[[Sequence[str], str], np.ndarray]


class Judge(Protocol):
    """What a `RelevanceEnsemble` can do: give the probabilities of pairs."""

    def predict(self, pairs: list[tuple[str, str]], languages: list[str], translations: list[str]) -> np.ndarray:
        """Return the probability of each pair."""


@dataclass(kw_only=True)
class HardNegativeOptions(NegativeOptions):
    """Which targets near to a query are taken."""

    band: tuple[float, float] | None = option(None, "similarities of query and negative; by default e5's for the task")
    margin: float = option(0.01, "how much less similar than the positive a negative must be; -1: any")
    pool: int = option(20, "draw among so many of the nearest targets in the band; 1: take the nearest")
    veto_limit: float = option(0.5, "probability above which the ensemble of veto finds a target relevant")
    relatives: bool = option(False, "allow ancestors and descendants of positives (QC)")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_limits(*(self.band or ()))
        if self.pool < 1:
            raise ValueError(f"pool: found {self.pool}, expected at least 1 target to draw among")


@dataclass(kw_only=True)
class EasyNegativeOptions(NegativeOptions):
    """Which targets far from a query are taken."""

    max_similarity: float = option(EASY_BELOW, "highest similarity of query and negative (QI)")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_limits(self.max_similarity)


def mine_hard_negatives(
    frame: pd.DataFrame,
    encode: Encoder,
    options: HardNegativeOptions | None = None,
    folds: FoldArguments | None = None,
    veto: Judge | None = None,
) -> pd.DataFrame:
    """Append rows that pair a positive's query with a target near to it in meaning, with label 0.

    Nobody has judged such a pair. So a query never gets a target that it was paired with in any row of any fold, nor
    an ancestor or descendant of one of its positives; and the nearest targets, which most often are relevant too,
    are kept out by the band, the margin and the veto.

    e5 squeezes the cosines of short texts together. Medians over real rows, QC / QI: positives 0.816 / 0.871, labelled
    negatives 0.805 / 0.845, random targets 0.786 / 0.790, the nearest target 0.846 / 0.882.

    Args:
        frame: Records with `query`, `clean_target`, `label` and, where folds were assigned, `fold`.
        encode: Gives unit vectors of texts.
        options: How many negatives, and which targets; None: the defaults.
        folds: How the folds were made; None: by query.
        veto: Pairs that it finds relevant are not taken; best not trained on these rows.

    Returns:
        The records followed by the negatives (method "hard_negative", `detail` their similarity).

    Raises:
        ValueError: The folds are not made as `folds` says.
    """
    options = options or HardNegativeOptions()
    positives = Positives(frame, options, folds or FoldArguments())
    near, similar = _nearest(positives, encode, options)
    pools = [[place for place in row if place >= 0] for row in near.tolist()]
    logger.info("%d of %d positives have targets in the band", sum(map(bool, pools)), len(pools))

    def propose(i: int, key: str, used: set[int]) -> int | None:
        left = [place for place in pools[i] if place not in used]
        return left[int(draw_share(positives.options.seed, "hard", key) * len(left))] if left else None

    chosen = deal_targets(positives, propose, _accept(positives, veto, options.veto_limit))
    scores = [similar[i, pools[i].index(place)] for i, place in chosen]
    return _append(positives, chosen, [f"similarity {score:.{DIGITS}f}" for score in scores], "hard_negative")


def mine_easy_negatives(
    frame: pd.DataFrame,
    encode: Encoder | None = None,
    options: EasyNegativeOptions | None = None,
    folds: FoldArguments | None = None,
) -> pd.DataFrame:
    """Append rows that pair a positive's query with a random target far from it, with label 0.

    Targets are drawn as often as they are relevant elsewhere, so that a target alone does not give the label away.
    A path never shares its first level with a positive of the query. For QI, where negatives are the minority,
    the option `negative_share` makes up what is missing.

    Args:
        frame: As in `mine_hard_negatives`.
        encode: Gives unit vectors; needed for item titles, which have no categories; where it is there, paths are
            held to `max_similarity` too.
        options: How many negatives, and which targets; None: the defaults. The default of `max_similarity` is about
            e5's median of random pairs.
        folds: How the folds were made; None: by query.

    Returns:
        The records followed by the negatives (method "easy_negative").

    Raises:
        ValueError: Item titles without an encoder, or the folds are not made as `folds` says.
    """
    options = options or EasyNegativeOptions()
    positives = Positives(frame, options, folds or FoldArguments())
    if encode is None and not positives.catalogue.is_paths:
        raise ValueError("easy negatives of item titles (QI): found no encoder, expected one to find which are far")
    similarity = _similarity_of(positives, encode) if encode else None
    limit = _limits(positives, encode, (options.max_similarity,))[0] if encode else 1.0
    known, roots = positives.forbidden(relatives=False), positives.roots()
    allowed, fold_of = positives.same_fold()
    sums = [np.cumsum(positives.weights() * mask).tolist() for mask in allowed]
    is_paths, levels = positives.catalogue.is_paths, positives.catalogue.levels

    def fits(i: int, place: int, used: set[int]) -> bool:
        if place in used or place in known[i] or (is_paths and levels[place][0] in roots[i]):
            return False
        return similarity is None or similarity(i, place) <= limit

    def propose(i: int, key: str, used: set[int]) -> int | None:
        total = sums[fold_of[i]]
        if not total or not total[-1]:
            return None
        draws = (draw_share(positives.options.seed, "easy", key, n) for n in range(TRIES))
        places = (bisect_right(total, value * total[-1]) for value in draws)
        return next((place for place in places if fits(i, place, used)), None)

    chosen = deal_targets(positives, propose, lambda proposals: [True] * len(proposals))
    details = [f"similarity {similarity(*pair):.{DIGITS}f}" if similarity else "" for pair in chosen]
    return _append(positives, chosen, details, "easy_negative")


def _nearest(positives: Positives, encode: Encoder, options: HardNegativeOptions) -> tuple[np.ndarray, np.ndarray]:
    low, high = _limits(positives, encode, options.band or BANDS["QC" if positives.catalogue.is_paths else "QI"])
    highest = np.full(len(positives.rows), high, np.float32)
    if options.margin >= 0:
        highest = np.minimum(highest, _own_similarity(positives, encode) - np.float32(options.margin))
    allowed, fold_of = positives.same_fold()
    may_get = None if allowed.all() else lambda rows: allowed[fold_of[rows]]
    eligible = Eligible(positives.forbidden(not options.relatives), may_get)
    queries, targets = _queries(positives, encode), encode(positives.catalogue.clean, "passage")
    return nearest_in_band(queries, targets, Band(low, highest), options.pool, eligible)


def _queries(positives: Positives, encode: Encoder) -> np.ndarray:
    return encode(positives.frame["query"].iloc[positives.rows].tolist(), "query")


def _own_similarity(positives: Positives, encode: Encoder) -> np.ndarray:
    """Return the cosine of each positive's query and target."""
    codes, names = pd.factorize(positives.frame["clean_target"].fillna("").iloc[positives.rows])
    queries, targets = _queries(positives, encode), encode(names.tolist(), "passage")
    chunks = (slice(start, start + CHUNK) for start in range(0, len(codes), CHUNK))
    parts = [(queries[rows] * targets[codes[rows]]).sum(axis=1) for rows in chunks]
    return np.round(np.concatenate([*parts, np.zeros(0, np.float32)]), DIGITS)


def _limits(positives: Positives, encode: Encoder, values: Sequence[float]) -> list[float]:
    if positives.options.unit == "similarity" or not len(positives.rows):
        return list(values)
    return np.round(np.quantile(_own_similarity(positives, encode), values), DIGITS).tolist()


def _similarity_of(positives: Positives, encode: Encoder) -> Callable[[int, int], float]:
    queries, targets = _queries(positives, encode), encode(positives.catalogue.clean, "passage")
    return lambda i, place: round(float(queries[i] @ targets[place]), DIGITS)


def _accept(positives: Positives, veto: Judge | None, limit: float) -> Callable[[list[tuple[int, int]]], list[bool]]:
    if veto is None:
        return lambda proposals: [True] * len(proposals)
    frame, targets = positives.frame, positives.catalogue.targets
    languages = frame["given_language" if "given_language" in frame else "language"]
    translations = frame["translated_query"] if "translated_query" in frame else frame["query"]

    def accept(proposals: list[tuple[int, int]]) -> list[bool]:
        rows = positives.rows[[i for i, _ in proposals]]
        queries = frame["origin_query"].iloc[rows]
        pairs = [(query, targets[place]) for query, (_, place) in zip(queries, proposals, strict=True)]
        scores = veto.predict(pairs, languages.iloc[rows].tolist(), translations.iloc[rows].tolist())
        return (np.asarray(scores) <= limit).tolist()

    return accept


def _append(positives: Positives, chosen: list[tuple[int, int]], details: list[str], method: str) -> pd.DataFrame:
    places, catalogue = [place for _, place in chosen], positives.catalogue
    changes = {
        "target": [catalogue.targets[place] for place in places],
        "clean_target": [catalogue.clean[place] for place in places],
        "label": [0] * len(chosen),
        "detail": details,
    }
    rows = [int(positives.rows[i]) for i, _ in chosen]
    return append_rows(positives.frame, rows, changes, method, positives.options.seed)
