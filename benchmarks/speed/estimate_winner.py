"""Estimate memory and time of each step that reproduces the winner: arithmetic alone, nothing is measured.

python benchmarks/speed/estimate_winner.py
"""

from dataclasses import dataclass

import random_models
import torch

from product_relevance.models import adapters, memory
from product_relevance.models.arguments import ModelArguments
from product_relevance.utils.options import Parser

# bfloat16 FLOP/s of dense matrix products, from NVIDIA's data sheets; and the cards of each machine.
MACHINES = {"4xA100": (312e12, 4), "1xH200": (989e12, 1)}
ROWS = {"QC": (300_000, 100_000), "QI": (340_000, 65_000)}  # of the competition: to train on, to predict
FORWARD, FROZEN_BASE = 2, 4  # FLOP for each weight and token: scoring; training an adapter on a frozen base
TRANSLATOR = 10.7e9  # parameters of MADLAD-400-10B-MT
TRANSLATED_TOKENS = 24  # read and written for each query
FOLDS, EPOCHS, EVALUATIONS, EVAL_ROWS = 3, 5, 5, 5000  # of recipes/gemma-3-12b-*-reported.yaml
PAIRS, LONGEST = 8, 192  # pairs of a forward pass on each card, tokens of the longest pair


@dataclass(frozen=True)
class Step:
    """What one step forwards.

    Attributes:
        name: as on the page.
        flop: floating-point operations in all.
        share: of the peak of matrix products that is assumed to be reached.
        gib: memory of each card.
        spread: whether all cards of a machine work at it.
    """

    name: str
    flop: float
    share: float
    gib: float
    spread: bool = True

    def hours(self, machine: str) -> float:
        """Return the hours on a machine of MACHINES."""
        peak, cards = MACHINES[machine]
        return self.flop / (peak * self.share * (cards if self.spread else 1)) / 3600


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=45, help="of a pair, on average (default 45)")
    share = "of the peak of matrix products that training and scoring reach (default 0.4)"
    parser.add_argument("--share", type=float, default=0.4, help=share)
    decoding = "the same for the translator, which writes one token at a time (default 0.05)"
    parser.add_argument("--decoding_share", type=float, default=0.05, help=decoding)
    return parser


def steps(asked) -> list[Step]:
    """Return the steps of the page in order."""
    model, _ = random_models.build("gemma-3-12b", "meta", torch.bfloat16)
    model = adapters.add_adapter(model, ModelArguments("base"))
    for weight in (p for p in model.parameters() if p.requires_grad):
        weight.data = weight.data.float()  # as a run does
    need = memory.estimate_memory(model, PAIRS * LONGEST, half=True)
    training, scoring = need["total"] / memory.GIB, need["weights"] / memory.GIB
    a_pair = asked.tokens * random_models.matmul_weights(model)

    def train(name: str, trained: float, scored: float) -> Step:
        return Step(name, (FROZEN_BASE * trained + FORWARD * scored) * a_pair, asked.share, training)

    def stages(task: str, other: str) -> list[Step]:
        first, rows = ROWS[other][0], ROWS[task][0]
        scored = rows + FOLDS * EVALUATIONS * EVAL_ROWS  # each row once, by the fold that did not train on it
        return [
            train(f"train on all rows of {other}", first * EPOCHS, 0),
            train(f"train the folds of {task}", rows * (FOLDS - 1) * EPOCHS, scored),
            Step(f"predict {task}", FORWARD * ROWS[task][1] * FOLDS * a_pair, asked.share, scoring, spread=False),
        ]

    queries = sum(map(sum, ROWS.values()))
    flop = FORWARD * TRANSLATOR * TRANSLATED_TOKENS * queries
    translate = Step("translate", flop, asked.decoding_share, 2 * TRANSLATOR / memory.GIB, spread=False)
    return [translate, *stages("QC", "QI"), *stages("QI", "QC")]


def table(found: list[Step]) -> str:
    """Return the steps as a Markdown table."""
    lines = [
        f"| step | GiB on each card | {' | '.join(f'hours on {name}' for name in MACHINES)} |",
        "|---|---|---|---|",
    ]
    for step in found:
        hours = " | ".join(f"{step.hours(name):.1f}" for name in MACHINES)
        lines.append(f"| {step.name} | {step.gib:.0f} | {hours} |")
    sums = " | ".join(f"{sum(step.hours(name) for step in found):.0f}" for name in MACHINES)
    return "\n".join([*lines, f"| all | | {sums} |"])


def main() -> None:
    """Print the table."""
    print(table(steps(make_parser().parse_args())))


if __name__ == "__main__":
    main()
