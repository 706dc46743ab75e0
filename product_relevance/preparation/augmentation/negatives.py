"""Negatives made from positives: hard ones that lie near the query in meaning, easy ones that lie far from it."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from product_relevance.data.provenance import append_rows, draw_share
from product_relevance.preparation.augmentation.nearest_neighbors import DIGITS, nearest_in_band
from product_relevance.preparation.augmentation.negative_candidates import Plan, Positives, choose

logger = logging.getLogger(__name__)

UNITS = ("similarity", "quantile")
# Cosines of e5 (see `mine_hard_negatives`), above those of random pairs and below those of the nearest targets.
BANDS = {"QC": (0.80, 0.84), "QI": (0.82, 0.86)}
EASY_BELOW = 0.80
TRIES = 30  # random targets looked at before a positive goes without an easy negative
CHUNK = 10_000

# Texts and their side ("query" or "passage") -> unit vectors, as encoder.load_encoder gives it.
Encoder = Callable[[Sequence[str], str], np.ndarray]


def mine_hard_negatives(
    frame: pd.DataFrame,
    encode: Encoder,
    plan: Plan | None = None,
    *,
    band: tuple[float, float] | None = None,
    unit: str = "similarity",
    margin: float | None = 0.01,
    pool: int = 20,
    veto=None,
    veto_limit: float = 0.5,
    relatives: bool = False,
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
        plan: How many negatives, and from which targets; None: the defaults.
        band: Least and greatest similarity of query and negative; None takes e5's for the task.
        unit: Of the band: "similarity" (cosine), or "quantile" of the cosines of the positives.
        margin: How much less similar the negative is at least than the row's own positive; None: not asked.
        pool: A negative is drawn among this many nearest targets in the band; 1 takes the nearest.
        veto: A `RelevanceEnsemble` or anything with its `predict`, best not trained on these rows.
        veto_limit: Probability above which a pair is not taken.
        relatives: Allow ancestors and descendants of the query's positives (QC).

    Returns:
        The records followed by the negatives (method "hard_negative", `detail` their similarity).

    Raises:
        ValueError: An option out of its range, or folds that do not fit the plan.
    """
    if pool < 1:
        raise ValueError(f"pool: found {pool}, expected at least 1 target to draw among")
    check_limits(band or (), unit)
    positives = Positives(frame, plan or Plan())
    band = band or BANDS["QC" if positives.catalogue.is_paths else "QI"]
    near, similar = _nearest(positives, encode, band, unit, margin, pool, relatives)
    pools = [[place for place in row if place >= 0] for row in near.tolist()]
    logger.info("%d of %d positives have targets in the band", sum(map(bool, pools)), len(pools))

    def propose(i: int, key: str, used: set[int]) -> int | None:
        left = [place for place in pools[i] if place not in used]
        return left[int(draw_share(positives.plan.seed, "hard", key) * len(left))] if left else None

    chosen = choose(positives, propose, _veto(positives, veto, veto_limit))
    scores = [similar[i, pools[i].index(place)] for i, place in chosen]
    return _append(positives, chosen, [f"similarity {score:.{DIGITS}f}" for score in scores], "hard_negative")


def mine_easy_negatives(
    frame: pd.DataFrame,
    encode: Encoder | None = None,
    plan: Plan | None = None,
    *,
    max_similarity: float = EASY_BELOW,
    unit: str = "similarity",
) -> pd.DataFrame:
    """Append rows that pair a positive's query with a random target far from it, with label 0.

    Targets are drawn as often as they are relevant elsewhere, so that a target alone does not give the label away.
    A path never shares its first level with a positive of the query. For QI, where negatives are the minority,
    `Plan(negative_share=...)` makes up what is missing.

    Args:
        frame: As in `mine_hard_negatives`.
        encode: Gives unit vectors; needed for item titles, which have no categories; where it is there, paths are
            held to `max_similarity` too.
        plan: How many negatives, and from which targets; None: the defaults.
        max_similarity: Greatest similarity of query and negative; the default is about e5's median of random pairs.
        unit: Of `max_similarity`: "similarity" (cosine), or "quantile" of the cosines of the positives.

    Returns:
        The records followed by the negatives (method "easy_negative").

    Raises:
        ValueError: An option out of its range, item titles without an encoder, or folds that do not fit the plan.
    """
    check_limits((max_similarity,), unit)
    positives = Positives(frame, plan or Plan())
    if encode is None and not positives.catalogue.is_paths:
        raise ValueError("easy negatives of item titles (QI): found no encoder, expected one to find which are far")
    similarity = _similarity_of(positives, encode) if encode else None
    limit = _limits(positives, encode, (max_similarity,), unit)[0] if encode else 1.0
    known, roots = positives.forbidden(relatives=False), positives.roots()
    allowed, folds = positives.same_fold()
    sums = [np.cumsum(positives.weights() * mask).tolist() for mask in allowed]
    is_paths, levels = positives.catalogue.is_paths, positives.catalogue.levels

    def fits(i: int, place: int, used: set[int]) -> bool:
        if place in used or place in known[i] or (is_paths and levels[place][0] in roots[i]):
            return False
        return similarity is None or similarity(i, place) <= limit

    def propose(i: int, key: str, used: set[int]) -> int | None:
        total = sums[folds[i]]
        if not total or not total[-1]:
            return None
        draws = (draw_share(positives.plan.seed, "easy", key, n) for n in range(TRIES))
        places = (bisect_right(total, value * total[-1]) for value in draws)
        return next((place for place in places if fits(i, place, used)), None)

    chosen = choose(positives, propose, lambda proposals: [True] * len(proposals))
    details = [f"similarity {similarity(*pair):.{DIGITS}f}" if similarity else "" for pair in chosen]
    return _append(positives, chosen, details, "easy_negative")


def check_limits(limits: Sequence[float], unit: str) -> None:
    """Raise ValueError if a limit of similarity is out of range, before anything is encoded.

    Args:
        limits: A band, or a single limit.
        unit: One of UNITS.

    Raises:
        ValueError: Another unit, a quantile outside 0 to 1, or the higher end of a band first.
    """
    if unit not in UNITS:
        raise ValueError(f"unit: found {unit!r}, expected one of {', '.join(UNITS)}")
    if unit == "quantile" and not all(0 <= value <= 1 for value in limits):
        raise ValueError(f"quantiles: found {', '.join(map(str, limits))}, expected values from 0 to 1")
    if list(limits) != sorted(limits):
        raise ValueError(f"band: found {limits[0]} to {limits[1]}, expected the lower end first")


def _nearest(positives: Positives, encode: Encoder, band, unit: str, margin: float | None, pool: int, relatives: bool):
    low, high = _limits(positives, encode, band, unit)
    ceilings = np.full(len(positives.rows), high, np.float32)
    if margin is not None:
        ceilings = np.minimum(ceilings, _own_similarity(positives, encode) - np.float32(margin))
    allowed, folds = positives.same_fold()
    return nearest_in_band(
        _queries(positives, encode),
        encode(positives.catalogue.clean, "passage"),
        low,
        ceilings,
        pool,
        positives.forbidden(not relatives),
        None if allowed.all() else lambda rows: allowed[folds[rows]],
    )


def _queries(positives: Positives, encode: Encoder) -> np.ndarray:
    return encode(positives.frame["query"].iloc[positives.rows].tolist(), "query")


def _own_similarity(positives: Positives, encode: Encoder) -> np.ndarray:
    """Return the cosine of each positive's query and target."""
    codes, names = pd.factorize(positives.frame["clean_target"].fillna("").iloc[positives.rows])
    queries, targets = _queries(positives, encode), encode(names.tolist(), "passage")
    chunks = (slice(start, start + CHUNK) for start in range(0, len(codes), CHUNK))
    parts = [(queries[rows] * targets[codes[rows]]).sum(axis=1) for rows in chunks]
    return np.round(np.concatenate([*parts, np.zeros(0, np.float32)]), DIGITS)


def _limits(positives: Positives, encode: Encoder, values: Sequence[float], unit: str) -> list[float]:
    if unit == "similarity" or not len(positives.rows):
        return list(values)
    return np.round(np.quantile(_own_similarity(positives, encode), values), DIGITS).tolist()


def _similarity_of(positives: Positives, encode: Encoder) -> Callable[[int, int], float]:
    queries, targets = _queries(positives, encode), encode(positives.catalogue.clean, "passage")
    return lambda i, place: round(float(queries[i] @ targets[place]), DIGITS)


def _veto(positives: Positives, veto, limit: float):
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
    return append_rows(positives.frame, rows, changes, method, positives.plan.seed)
