"""Measure what an ensemble of three folds costs beside one pass, on random weights, and how many decisions are equal.

python benchmarks/speed/bench_folds.py --shape tiny

Decisions are compared with the mean of the folds' probabilities, each adapter beside the base, at the median score.
On a run with labels `bench_ensemble.py` measures the same ways, and F1.
"""

import tempfile
import time
from pathlib import Path

import measurement
import numpy as np
import random_models
import torch

from product_relevance.ensemble import fold_models as folds
from product_relevance.models import adapters
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.loading import checkpoints
from product_relevance.models.predictor import predict_logits
from product_relevance.utils.options import Parser

FOLDS = 3
TRAINED = 8  # one layer of so many, the upper ones, where `--lora_layers` trains few
MOVED, OWN = 0.02, 0.1  # deviation of lora_B, and the part of it that a fold has of its own
MOST, EQUAL = 1.3, 0.995  # goals: passes at most, and the least share of equal decisions
GOALS = ("shared_layers", "mean_weights")  # ways that the first goal is of
COLUMNS = ("seconds", "ratio", "pairs_per_second", "max_difference", "equal_decisions")


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(random_models.SHAPES), default="tiny", help="random weights")
    parser.add_argument("--pairs", type=int, default=1000, help="so many random pairs (default 1000)")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def write_folds(model, folder: Path, layers: int | None = None) -> dict[str, Path]:
    """Write an adapter for each fold: most of it is what all have, as if they had learned from like data.

    Args:
        model: base with its head.
        folder: for the adapters.
        layers: so many upper ones get an adapter; all if None.

    Returns:
        Folder of each fold.
    """
    torch.manual_seed(0)
    model = adapters.add_adapter(model, ModelArguments("base", lora_dropout=0.0, lora_layers=layers))
    learned = {name: weight for name, weight in model.named_parameters() if "lora_B" in name}
    common = {name: torch.randn_like(weight) * MOVED for name, weight in learned.items()}
    found = {f"fold-{i}": folder / f"fold-{i}" for i in range(FOLDS)}
    for path in found.values():
        for name, weight in learned.items():
            weight.data = common[name] + torch.randn_like(weight) * MOVED * OWN
        model.save_pretrained(path, save_embedding_layers=False)
    adapters.remove_adapter(model)
    return found


def timed(score, ids: list[list[int]], device: str) -> tuple[np.ndarray, float]:
    """Return what a way gives for the rows, and its seconds after a warm-up."""
    score(ids[:8])
    measurement.synchronize(device)
    started = time.perf_counter()
    found = score(ids)
    measurement.synchronize(device)
    return found, time.perf_counter() - started


def by_fold(models: folds.FoldModels, merge_from: float = float("inf"), shared: int = 0):
    """Return a way that scores all folds, with so many shared layers: mean probabilities of shape (n,)."""

    def score(ids: list[list[int]]) -> np.ndarray:
        models.merge_from, models.shared_layers = merge_from, shared
        return models.predict_shares(ids, 0)[..., 1].mean(axis=1)

    return score


def row_of(way: str, found: np.ndarray, seconds: float, exact: np.ndarray, once: float) -> dict:
    """Return the columns of a way, beside the exact scores of the same folds and the seconds of one pass."""
    threshold = np.median(exact)
    return {
        "way": way,
        "seconds": round(seconds, 4),
        "ratio": round(seconds / once, 4),
        "pairs_per_second": round(len(found) / seconds, 1),
        "max_difference": float(abs(found - exact).max()),
        "equal_decisions": float(((found >= threshold) == (exact >= threshold)).mean()),
    }


def measure_upper(model, ids: list[list[int]], folder: Path, once: float) -> list[dict]:
    """Measure folds whose adapters lie on the upper layers only: pass by pass, and the layers below once."""
    count = max(1, len(adapters.layer_stack(model)[1]) // TRAINED)
    models = folds.FoldModels(model, write_folds(model, folder, count), whole=False)
    models.load_adapters()
    device, shared = str(models.device), models.shared_layers
    exact, seconds = timed(by_fold(models), ids, device)
    rows = [row_of("upper_beside", exact, seconds, exact, once)]
    rows.append(row_of("shared_layers", *timed(by_fold(models, shared=shared), ids, device), exact, once))
    adapters.remove_adapter(models.model)
    return rows


def measure_all(model, ids: list[list[int]], folder: Path, once: float) -> list[dict]:
    """Measure folds with adapters on all layers: beside the base, merged one after the other, mean weights."""
    found = write_folds(model, folder)
    models = folds.FoldModels(model, found, whole=False)
    models.load_adapters()
    device = str(models.device)
    exact, seconds = timed(by_fold(models), ids, device)
    rows = [row_of("beside", exact, seconds, exact, once)]
    rows.append(row_of("merged_in_turn", *timed(by_fold(models, merge_from=0), ids, device), exact, once))
    mean = folds.FoldModels(adapters.remove_adapter(models.model), found, whole=False)
    mean.merge_weights(folder)
    return [*rows, row_of("mean_weights", *timed(by_fold(mean), ids, device), exact, once)]


def look_at(rows: list[dict]) -> list[str]:
    """Return where the goals are missed."""
    slow = [row for row in rows if row["way"] in GOALS and row["ratio"] > MOST]
    lines = [f"{row['way']}: {row['ratio']:.2f} passes, the goal is {MOST} at most" for row in slow]
    other = [row for row in rows if row["equal_decisions"] < EQUAL]
    return lines + [
        f"{row['way']}: {row['equal_decisions']:.2%} equal decisions, expected {EQUAL:.1%}" for row in other
    ]


def run(arguments) -> dict:
    """Measure all ways on the same rows; return what the last line of stdout holds."""
    device = checkpoints.choose_device(arguments.device)
    dtype = checkpoints.choose_dtype(arguments.dtype, device)
    model, vocabulary = random_models.build(arguments.shape, device, getattr(torch, dtype))
    ids = random_models.random_rows(arguments.pairs, vocabulary)
    _, once = timed(lambda rows: predict_logits(model, rows, 0), ids, device)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_upper(model, ids, Path(folder) / "upper", once)
        rows += measure_all(model, ids, Path(folder) / "all", once)
    about = measurement.described("folds", arguments, device, dtype)
    return about | {"folds": FOLDS, "one_pass": round(once, 4), "results": rows, "look_at": look_at(rows)}


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), ("way",), COLUMNS)


if __name__ == "__main__":
    main()
