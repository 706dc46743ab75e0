"""One query's targets in the order of a model's scores."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def rank_pairs(
    predict: Callable[..., np.ndarray],
    query: str,
    targets: Sequence[str],
    language: str | None = None,
    translation: str | None = None,
) -> list[dict[str, Any]]:
    """Score the pairs of one query and order them.

    Args:
        predict: Of a RelevanceEnsemble or RelevanceStack.
        query: Raw text.
        targets: Category paths or item titles.
        language, translation: Of the query, as `predict` reads them.

    Returns:
        Dicts `index` (place in `targets`), `score`, `target`; best first, equal scores in the order of `targets`.
    """
    languages = None if language is None else [language] * len(targets)
    translations = None if translation is None else [translation] * len(targets)
    scores = predict([(query, target) for target in targets], languages, translations)
    order = np.argsort(-scores, kind="stable")
    return [{"index": int(i), "score": float(scores[i]), "target": targets[i]} for i in order]
