"""Measure scoring in FP8 beside bfloat16, as the layers are written and compiled, and how many decisions are equal.

python benchmarks/speed/bench_float8.py --shape tiny --device cpu

A CPU emulates the products, which shows the mechanics and no speed. Decisions are compared at the median score.
"""

import time

import measurement
import numpy as np
import random_models
import torch
from bench_predict import peak, reset_peak

from product_relevance.evaluation.probabilities import to_probabilities
from product_relevance.models.compiled_layers import compile_layers
from product_relevance.models.loading import checkpoints
from product_relevance.models.loading.float8 import quantize_to_float8, require_float8
from product_relevance.models.predictor import predict_logits
from product_relevance.utils.options import Parser

EQUAL = 0.995  # the least share of equal decisions, a goal
COLUMNS = ("first_seconds", "pairs_per_second", "times_as_fast", "peak_mib", "max_difference", "equal_decisions")


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(random_models.SHAPES), default="tiny", help="random weights")
    parser.add_argument("--pairs", type=int, default=500, help="so many random pairs (default 500)")
    parser.add_argument("--backend", help="of torch.compile (default: inductor on a GPU, not compiled on a CPU)")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def measure(way: str, model, ids: list[list[int]], plain: dict | None) -> dict:
    """Score twice, where the first time compiles what it has to; compare with the figures of `plain`.

    Returns:
        Columns of the way, and its `scores`.
    """
    device, times = str(next(model.parameters()).device), []
    used = reset_peak(device)
    for _ in range(2):
        started = time.perf_counter()
        scores = to_probabilities(predict_logits(model, ids, 0))
        times.append(time.perf_counter() - started)
    found = {"way": way, "first_seconds": round(times[0], 2), "pairs_per_second": round(len(ids) / times[1], 1)}
    found |= {"peak_mib": round(peak(device) - used, 1), "scores": scores}
    plain = plain or found
    threshold = np.median(plain["scores"])
    found["times_as_fast"] = round(found["pairs_per_second"] / plain["pairs_per_second"], 4)
    found["max_difference"] = float(abs(scores - plain["scores"]).max())
    found["equal_decisions"] = float(((scores >= threshold) == (plain["scores"] >= threshold)).mean())
    return found


def look_at(rows: list[dict]) -> list[str]:
    """Return where FP8 changes decisions, or gains nothing once it is compiled."""
    lines = [f"{row['way']}: {row['equal_decisions']:.2%} equal decisions, expected {EQUAL:.1%}"
             for row in rows if row["equal_decisions"] < EQUAL]  # fmt: skip
    last = rows[-1]
    return lines + ([f"{last['way']}: no faster than bfloat16"] if last["times_as_fast"] <= 1 else [])


def run(arguments) -> dict:
    """Measure bfloat16, FP8, and FP8 compiled; return what the last line of stdout holds."""
    device = checkpoints.choose_device(arguments.device)
    about = measurement.described("float8", arguments, device, "bfloat16")
    if device != "cpu":
        try:
            require_float8(device)
        except ValueError as error:
            return about | {"skipped": str(error), "results": []}
    model, vocabulary = random_models.build(arguments.shape, device, torch.bfloat16)
    ids = random_models.random_rows(arguments.pairs, vocabulary)
    rows = [measure("bfloat16", model, ids, None)]
    layers = quantize_to_float8(model)
    rows.append(measure("fp8", model, ids, rows[0]))
    if backend := arguments.backend or ("inductor" if device != "cpu" else None):
        compile_layers(model, backend=backend)
        rows.append(measure("fp8_compiled", model, ids, rows[0]))
    for row in rows:
        del row["scores"]
    return about | {"layers": layers, "pairs": len(ids), "results": rows, "look_at": look_at(rows)}


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), ("way",), COLUMNS)


if __name__ == "__main__":
    main()
