"""Canaries: a few pairs whose scores travel with an ensemble, so that a copy that scores otherwise is noticed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

logger = logging.getLogger(__name__)

# Hand-written. Capitals, several levels and several scripts, so that a changed template changes a score.
_QC = (
    ("Zapatos rojos de mujer", "shoes,women's shoes", "es"),
    ("wireless Headphones", "consumer electronics,earphones & headphones", "en"),
    ("usb kabel 2m", "pet products,dog supplies,Dog Beds", "de"),
    ("イヤホン ケース", "consumer electronics,earphone accessories", "ja"),
    ("robe d'été Femme", "women's clothing,dresses", "fr"),
    ("มือถือ ซัมซุง", "home & garden,kitchen,Kettles", "th"),
    ("ساعة ذكية", "consumer electronics,smart electronics,smart watches", "ar"),
    ("lampa LED do salonu", "lights & lighting,led lamps", "pl"),
)
_QI = (
    ("Zapatos rojos de mujer", "Women's Red High Heels, Pointed Toe Pumps", "es"),
    ("wireless Headphones", "Bluetooth 5.3 Headphones Over-Ear, 40h", "en"),
    ("usb kabel 2m", "Orthopaedic Dog Bed, washable, 90x70 cm", "de"),
    ("イヤホン ケース", "シリコン イヤホンケース 耐衝撃 Pro 2 対応", "ja"),
    ("robe d'été Femme", "Robe longue à fleurs, manches courtes", "fr"),
    ("มือถือ ซัมซุง", "Electric Kettle 1.7 L Stainless Steel", "th"),
    ("ساعة ذكية", "Smart Watch 1.9 inch, heart rate, IP68", "ar"),
    ("lampa LED do salonu", "Lampa sufitowa LED 24W, ciepła biel", "pl"),
)
# How far a score may move: in float32, and where a base in 16 bits rounds each layer otherwise on each device and
# library (bfloat16 moved the canaries of an e5-small run by up to 0.004).
EXACT, ROUNDED = 1e-3, 5e-2
# Between a base in nf4 and in float32 the scores of an e5-small run moved by up to 0.18 (150 rows).
FOUR_BITS = 0.3


def canary_pairs(task: str) -> list[tuple[str, str, str]]:
    """Return the canaries of a task: (query, target, language)."""
    return list(_QC if task == "QC" else _QI)


@dataclass(frozen=True, kw_only=True)
class CanaryScores:
    """What an ensemble gave for the canaries, as ensemble.json holds it.

    Attributes:
        pairs: n rows of query, target, language.
        scores: n means over the folds.
        folds: by name of the fold its n scores.
        dtype: of the base.
    """

    pairs: list[list[str]]
    scores: list[float]
    folds: dict[str, list[float]]
    dtype: str


def measure_canaries(ensemble, chosen: Sequence | None = None) -> CanaryScores:
    """Score the canaries with an ensemble.

    Args:
        ensemble: a RelevanceEnsemble.
        chosen: (query, target, language) rows; those of its task when None.

    Returns:
        The scores of each fold and their means.
    """
    rows = [list(row) for row in chosen or canary_pairs(ensemble.run.task)]
    scores = ensemble.predict_folds([(query, target) for query, target, _ in rows], [code for *_, code in rows])
    folds = {name: scores[:, i].tolist() for i, name in enumerate(ensemble.folds)}
    return CanaryScores(pairs=rows, scores=scores.mean(axis=1).tolist(), folds=folds, dtype=ensemble.dtype)


def check_canaries(ensemble, expected: CanaryScores) -> CanaryScores:
    """Score the canaries again and compare one fold at a time.

    Args:
        ensemble: a RelevanceEnsemble with the same folds.
        expected: from `measure_canaries`, as published.

    Returns:
        The new measurement.

    Raises:
        ValueError: from `compare_canaries`.
    """
    found = measure_canaries(ensemble, expected.pairs)
    compare_canaries(found, expected)
    return found


def compare_canaries(found: CanaryScores, expected: CanaryScores) -> None:
    """Compare two measurements of the same canaries.

    Raises:
        ValueError: other folds, or a fold's score that moved too far: EXACT under float32, else ROUNDED or FOUR_BITS.
    """
    if found.folds.keys() != expected.folds.keys():
        raise ValueError(f"canaries: found folds {list(found.folds)}, expected {list(expected.folds)}")
    dtypes = {found.dtype, expected.dtype}
    limit = FOUR_BITS if "nf4" in dtypes else EXACT if dtypes == {"float32"} else ROUNDED
    for name, scores in expected.folds.items():
        moved = np.abs(np.subtract(found.folds[name], scores))
        if not moved.max() <= limit:  # also where it is not a number
            row = int(moved.argmax())
            raise ValueError(
                f"canary {row} of {name}: scored {found.folds[name][row]:.4f} as {found.dtype}, expected "
                f"{scores[row]:.4f} as {expected.dtype} within {limit}: template, base or adapter are not what was "
                "published, or a library computes otherwise; compare the versions in ensemble.json with those here"
            )


def largest_difference(scores_a: Sequence[float], scores_b: Sequence[float]) -> float:
    """Return the largest absolute difference between two lists of n probabilities."""
    return float(np.abs(np.subtract(scores_a, scores_b)).max())


def require_agreement(
    found: Sequence[float], exact: Sequence[float], change: str, instead: str, limit: float
) -> float:
    """Compare the scores of a model that was changed for speed with those from before, on the same canaries.

    Args:
        found: probabilities after the change, n values.
        exact: probabilities before it, n values.
        change: what was done, and what it differs from, for the message.
        instead: what to take in its place, for the message.
        limit: how far a probability may differ.

    Returns:
        The largest difference, which is logged.

    Raises:
        ValueError: it is above the limit.
    """
    gap = largest_difference(found, exact)
    line = f"{change} by up to {gap:.4f} on {len(exact)} canary pairs (limit {limit})"
    if not gap <= limit:
        raise ValueError(f"{line}: {instead}, or raise max_disagreement if that is good enough")
    logger.warning(line)
    return gap
