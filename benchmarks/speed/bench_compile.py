"""Measure scoring and LoRA training with each layer compiled, beside the same layers as they are written.

python benchmarks/speed/bench_compile.py --shape tiny --backend aot_eager
"""

import time
from dataclasses import dataclass

import bench_train
import measurement
import random_models
import torch
from torch._dynamo.utils import counters

from product_relevance.ensemble.published import canaries
from product_relevance.evaluation.probabilities import to_probabilities
from product_relevance.models import adapters
from product_relevance.models.compiled_layers import compile_layers
from product_relevance.models.heads.classifier import compute_in_float32
from product_relevance.models.loading import checkpoints
from product_relevance.models.predictor import predict_logits
from product_relevance.utils.options import Parser

GRAPHS = 32  # that one layer may have before torch runs it as it is written
COLUMNS = ("first_seconds", "seconds", "pairs_per_second", "graphs", "peak_mib")


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(random_models.SHAPES), default="tiny", help="random weights")
    parser.add_argument("--steps", type=int, default=8, help=f"of training, {bench_train.STEP} pairs each (default 8)")
    parser.add_argument("--backend", help="of torch.compile (default: inductor; aot_eager needs no C++ compiler)")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="of the frozen base: auto, float32, bfloat16")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


@dataclass(frozen=True)
class Rows:
    """A model with a fresh adapter, its rows, and the padded tokens of a forward pass in training."""

    model: torch.nn.Module
    ids: list[list[int]]
    pad_id: int
    budget: int

    def score(self, ids: list[list[int]]) -> dict:
        """Score with the adapter merged; seconds, peak of memory in MiB and the probabilities."""
        device = str(next(self.model.parameters()).device)
        used, started = bench_train.reset_peak(device), time.perf_counter()
        with adapters.merged(self.model):
            found = to_probabilities(predict_logits(self.model, ids, self.pad_id))
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "peak_mib": bench_train.peak(device) - used, "found": found}

    def train(self, ids: list[list[int]]) -> dict:
        """Train our way; seconds, peak of memory in MiB and the mean loss."""
        found = bench_train.train(bench_train.WAYS["ours"], self.model, ids, self.pad_id, self.budget, False)
        return {"seconds": found["seconds"], "peak_mib": found["peak_mib"], "found": found["loss"]}


def measure(rows: Rows, kind: str) -> dict[str, dict]:
    """Score and train twice, where the first time compiles what it has to.

    Returns:
        Figures of both, with what was computed in `found`.
    """
    figures = {}
    for name, way in (("score", rows.score), ("train", rows.train)):
        before = counters["stats"]["unique_graphs"]
        first, again = way(rows.ids), way(rows.ids)
        figures[name] = {
            "way": f"{name}_{kind}",
            "first_seconds": round(first["seconds"], 2),
            "seconds": round(again["seconds"], 4),
            "pairs_per_second": round(len(rows.ids) / again["seconds"], 1),
            "graphs": counters["stats"]["unique_graphs"] - before,
            "peak_mib": round(max(first["peak_mib"], again["peak_mib"]), 1),
            "found": again["found"],
        }
    return figures


def require_agreement(plain: dict[str, dict], compiled: dict[str, dict], dtype: str) -> dict[str, float]:
    """Compare what was computed with and without graphs.

    Returns:
        The largest difference of a probability, and of the mean losses.

    Raises:
        ValueError: it is too large.
    """
    limits = {"score": measurement.largest_difference(dtype), "train": 1e-4 if dtype == "float32" else 2e-2}
    found = {
        name: canaries.largest_difference(plain[name].pop("found"), compiled[name].pop("found")) for name in limits
    }
    for name, gap in found.items():
        if not gap <= limits[name]:
            raise ValueError(f"{name}: {gap:.2g} away from the layers as they are; expected {limits[name]} at most")
    return found


def run(arguments) -> dict:
    """Measure without graphs, then with them; return what the last line of stdout holds."""
    device = checkpoints.choose_device(arguments.device)
    dtype = checkpoints.choose_dtype(arguments.dtype, device)
    arguments.model = None
    model, ids, pad_id = bench_train.load(arguments, arguments.steps * bench_train.STEP, device, dtype)
    rows = Rows(compute_in_float32(model), ids, pad_id, bench_train.default_budget(model, False))
    plain = measure(rows, "plain")
    torch._dynamo.config.recompile_limit = GRAPHS
    compile_layers(model, backend=arguments.backend or "inductor")
    compiled = measure(rows, "compiled")
    gaps = require_agreement(plain, compiled, dtype)
    gains = {name: round(plain[name]["seconds"] / compiled[name]["seconds"], 4) for name in plain}
    about = measurement.described("compile", arguments, device, dtype)
    about |= {"pairs": len(ids), "differences": gaps, "times_as_fast": gains}
    return about | {"results": [*plain.values(), *compiled.values()]}


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), ("way",), COLUMNS)


if __name__ == "__main__":
    main()
