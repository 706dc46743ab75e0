"""Positive F1 with all that is needed to judge it, as a module of the `evaluate` library."""

from typing import Any

import datasets
import evaluate
from numpy.typing import ArrayLike

from product_relevance.evaluation.metrics import RowFacts, best_threshold, scores_report

_DESCRIPTION = """
Binary relevance of (query, target) pairs: F1 of the positive class beside its floor (always answering "relevant"),
precision, recall, macro-F1, AUC, calibration, and the same per language and for seen against unseen languages.
"""

_INPUTS = """
Args:
    predictions: Probability of relevance of each pair, 0 to 1.
    references: Label of each pair, 0 or 1.
    threshold: A pair is called relevant when its probability is at least this. Without one, that with the best
        F1 on these very rows is used: fit for looking, not for reporting.
    languages: Language code of each pair.
    seen_languages: Codes the model was trained on; needs languages.
    queries: Query of each pair; with them every figure has a 95% interval, from a bootstrap over queries.

Returns:
    The dict of product_relevance.evaluation.metrics.scores_report.
"""


class RelevanceF1(evaluate.Metric):  # type: ignore[misc]  # the library has no types
    """Hand predictions and references to `product_relevance.evaluation.metrics`, the one implementation."""

    def _info(self) -> evaluate.MetricInfo:
        # float64, since float32 would move a score across a threshold that was chosen in float64.
        features = datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features
        )

    def _compute(
        self,
        predictions: ArrayLike,
        references: ArrayLike,
        threshold: float | None = None,
        **facts: Any,
    ) -> dict[str, Any]:
        if threshold is None:
            threshold, _ = best_threshold(references, predictions)
        return scores_report(references, predictions, threshold, RowFacts(**facts))
