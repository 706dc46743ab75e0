"""Score in FP8 only where that gives the scores of bfloat16, measured on the canary pairs of the run."""

from product_relevance.ensemble.published import canaries


def score_in_float8(ensemble, limit: float) -> float:
    """Let an ensemble score in FP8, if it then scores the canary pairs as before.

    Args:
        ensemble: a RelevanceEnsemble in bfloat16, ready to score.
        limit: how far a probability may move.

    Returns:
        The largest difference, which is logged.

    Raises:
        ValueError: it is above the limit; or folds that cannot be scored in FP8.
    """
    exact = canaries.measure_canaries(ensemble)
    layers = ensemble.fold_models.quantize_to_float8()
    found = canaries.measure_canaries(ensemble)
    change = f"dtype fp8: {layers} layers in FP8; probabilities differ from those in {exact.dtype}"
    return canaries.require_agreement(found.scores, exact.scores, change, "take bfloat16", limit)
