"""How noisy labels are, estimated from pairs that were judged more than once, and the best AUC that they allow.

Two copies of a pair that are judged apart, each wrong with the same probability e, disagree with probability
d = 2 e (1 - e). So e = (1 - sqrt(1 - 2 d)) / 2. Scores that know every true label reach an AUC of 1 - (a + b) / 2 on
such labels: a is the share of wrong labels among the relevant rows, b that among the others (Menon et al. 2015,
"Learning from Corrupted Binary Labels via Class-Probability Estimation", corollary 3).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from product_relevance.evaluation.intervals import wilson_interval

ALL = "all"


@dataclass(frozen=True)
class LabelNoise:
    """The noise of labels that repeated pairs show.

    Attributes:
        language: Code, or ALL.
        copies: Pairs of rows that are copies of each other.
        disagreeing: Those of them with two labels.
        positive_share: Share of the rows with label 1.
    """

    language: str
    copies: int
    disagreeing: int
    positive_share: float

    @property
    def error(self) -> float:
        """The share of wrong labels."""
        return error_rate(self.disagreeing / self.copies)

    @property
    def error_interval(self) -> tuple[float, float]:
        """The 95% interval of `error`, as Wilson's of the disagreement gives it."""
        low, high = wilson_interval([self.disagreeing], [self.copies])
        return error_rate(float(low[0])), error_rate(float(high[0]))

    @property
    def ceiling(self) -> float:
        """The highest AUC that a perfect model reaches on these labels."""
        return auc_ceiling(self.error, self.positive_share)

    @property
    def ceiling_interval(self) -> tuple[float, float]:
        """The 95% interval of `ceiling`."""
        low, high = self.error_interval
        return auc_ceiling(high, self.positive_share), auc_ceiling(low, self.positive_share)


def error_rate(disagreement: float) -> float:
    """Return the share of wrong labels where this share of the copies disagrees; 0.5 from a disagreement of 0.5 on."""
    return float(1 - np.sqrt(1 - 2 * min(disagreement, 0.5))) / 2


def auc_ceiling(error: float, positive_share: float) -> float:
    """Return the AUC of a perfect model on noisy labels.

    Args:
        error: Share of wrong labels, the same for relevant and other pairs, from 0 to 0.5.
        positive_share: Share of the noisy labels that are 1, above 0 and below 1.

    Returns:
        From 0.5 to 1.
    """
    if error >= 0.5:
        return 0.5
    clean = float(np.clip((positive_share - error) / (1 - 2 * error), 0, 1))  # share of pairs that are relevant
    wrong_ones, wrong_zeros = (1 - clean) * error / positive_share, clean * error / (1 - positive_share)
    return 1 - (min(wrong_ones, 1) + min(wrong_zeros, 1)) / 2


def estimate_noise(
    labels: Sequence[int | None], languages: Sequence[str], repeated: Iterable[Sequence[int]]
) -> list[LabelNoise]:
    """Estimate the noise of labels over all rows and in each language that has repeated pairs.

    Args:
        labels: 0 or 1 of each row; None where there is none.
        languages: Code of each row.
        repeated: The rows of each pair that stands in several rows.

    Returns:
        First that of all rows, then each language's; nothing where no pair is repeated or one label is missing. Of k
        rows of one pair each two count as copies.
    """
    copies, disagreeing = defaultdict[str, int](int), defaultdict[str, int](int)
    for rows in repeated:
        relevant = sum(labels[row] == 1 for row in rows)
        for code in (ALL, languages[rows[0]]):
            copies[code] += len(rows) * (len(rows) - 1) // 2
            disagreeing[code] += relevant * (len(rows) - relevant)
    values: dict[str, list[int]] = {code: [] for code in copies}
    for label, code in zip(labels, languages, strict=True):
        for key in {ALL, code} & values.keys():
            if label is not None:
                values[key].append(label)
    order = sorted(copies, key=lambda code: (code != ALL, code))
    return [
        LabelNoise(code, copies[code], disagreeing[code], float(np.mean(values[code])))
        for code in order
        if 0 < np.mean(values[code]) < 1
    ]


def noise_lines(found: Sequence[LabelNoise]) -> list[str]:
    """Return one line of text for each estimate."""
    return [_line_of(one) for one in found]


def _line_of(one: LabelNoise) -> str:
    (low, high), (least, most) = one.error_interval, one.ceiling_interval
    errors = f"{one.error:.1%} of the labels wrong [{low:.1%}, {high:.1%}]"
    counts = f"{one.disagreeing:,} of {one.copies:,} repeated pairs disagree"
    return f"{one.language:<4}{counts}: {errors}, AUC at most {one.ceiling:.3f} [{least:.3f}, {most:.3f}]"
