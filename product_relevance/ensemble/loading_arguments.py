"""How the folds of an ensemble become scores: settings that are rarely changed."""

from dataclasses import dataclass

# Averaging weights is not averaging probabilities. On the 450 QC and 297 QI answers of sample/, mean weights of two
# e5-small runs that were off by 0.096 and 0.044 on the canaries lost 0.015 and 0.039 of AUC, and changed 1% and 16% of
# the decisions: too far to pass unasked.
MAX_DISAGREEMENT = 0.02
MERGES = ("probabilities", "weights")
ATTENTIONS = ("padded", "packed")


@dataclass(frozen=True, kw_only=True)
class LoadingArguments:
    """How the folds of an ensemble become scores.

    Attributes:
        merge: `probabilities`, the mean of the folds' probabilities; `weights`, one model with the mean of the folds'
            weights, so one pass instead of one per fold.
        max_disagreement: with `weights`, how far a canary's probability may be from the folds' mean; with dtype fp8,
            from that in bfloat16.
        attention: `padded` rows, or rows `packed` side by side: for flash or flex attention, on decoders.
        reasoning_tokens: let the model write down at most that many tokens of reasoning before each answer, where the
            run's prompt has a place for them; slow, and thresholds were chosen without it.

    Raises:
        ValueError: an unknown merge or attention.
    """

    merge: str = "probabilities"
    max_disagreement: float = MAX_DISAGREEMENT
    attention: str = "padded"
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        if self.merge == "vote":
            raise ValueError("merge 'vote': the folds vote when they predict; give vote='majority' to `predict`")
        if self.merge not in MERGES:
            raise ValueError(f"merge {self.merge!r}: expected one of {', '.join(MERGES)}")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention {self.attention!r}: expected one of {', '.join(ATTENTIONS)}")
