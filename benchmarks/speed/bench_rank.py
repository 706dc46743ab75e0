"""Measure the scoring of many targets per query, with shared prefixes and without.

python benchmarks/speed/bench_rank.py --targets 64
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import measurement
import numpy as np
import random_models
import torch
from bench_predict import SAMPLE, peak, reset_peak
from tqdm.auto import tqdm

from product_relevance.data.records import read_records
from product_relevance.ensemble.published import canaries
from product_relevance.evaluation.probabilities import to_probabilities
from product_relevance.models import modeling
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.loading import checkpoints
from product_relevance.models.modeling import evaluation_mode
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import ForwardLimits, predict_logits, score_in_batches
from product_relevance.utils.options import Parser

COLUMNS = ("pairs_per_second", "cpu_seconds", "tokens_forwarded", "peak_mib", "max_difference")
PREFIX, SUFFIX = 25, 20  # tokens of a pair with --shape: query with instruction and translation, and target
MAX_LENGTH = 128  # tokens of a pair with --model


class Loaded(NamedTuple):
    """A model, its pad token, and what gives rows of token ids for numbers of queries and targets."""

    model: torch.nn.Module
    pad_id: int
    rows_of: Callable[[int, int], list[list[int]]]


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--model", default="embedded:gemma-3-270m", help="base with an untrained head")
    base.add_argument("--shape", choices=sorted(random_models.SHAPES), help="random weights and tokens")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 2, 4, 8, 64, 1000], help="a query")
    parser.add_argument("--pairs", type=int, default=1000, help="of each size, at least one query's (default 1000)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over the sides; medians are shown (default 3)")
    parser.add_argument("--rows", type=Path, default=SAMPLE, help="records (default: sample)")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def shared(model, ids: list[list[int]], pad_id: int) -> np.ndarray:
    """Score as the package does: each prefix once where that pays."""
    return predict_logits(model, ids, pad_id)


def whole(model, ids: list[list[int]], pad_id: int) -> np.ndarray:
    """Score in the same batches of sorted rows, no prefix shared."""
    device = next(model.parameters()).device

    def forward(rows):
        return model(**{key: value.to(device) for key, value in pad_rows(rows, pad_id).items()}).logits.float()

    with evaluation_mode(model):
        return score_in_batches(forward, ids, (model.config.num_labels,), ForwardLimits(device.type))


@torch.inference_mode()
def plain_loop(model, ids: list[list[int]], pad_id: int, batch: int = 32) -> np.ndarray:
    """Score in the order of arrival, 32 rows at a time, each padded to the longest of its batch."""
    device, logits = next(model.parameters()).device, []
    for start in range(0, len(ids), batch):
        rows = {key: value.to(device) for key, value in pad_rows(ids[start : start + batch], pad_id).items()}
        logits.append(model(**rows).logits.float().cpu().numpy())
    return np.concatenate(logits)


SIDES = {"shared": shared, "whole": whole, "plain_loop": plain_loop}


def texts_of(file: Path, queries: int, targets: int) -> tuple[list[str], list[str]]:
    """Return pairs, query by query: the records' texts, with a number behind where there are not enough."""
    frame = read_records(file, role="any")
    columns = [frame[frame["defect"] == ""][name].drop_duplicates().tolist() for name in ("origin_query", "target")]
    first, second = map(_repeated, columns, (queries, targets))
    return [query for query in first for _ in second], second * queries


def _repeated(texts: list[str], size: int) -> list[str]:
    return [texts[i] if i < len(texts) else f"{texts[i % len(texts)]} {i}" for i in range(size)]


def random_ids(queries: int, targets: int, vocabulary: int) -> list[list[int]]:
    """Return random rows, query by query, PREFIX tokens of it give or take ten; 0 is the pad token and never drawn."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(PREFIX - 10, PREFIX + 11, queries)
    first = [rng.integers(1, vocabulary, length).tolist() for length in lengths]
    second = rng.integers(1, vocabulary, (targets, SUFFIX)).tolist()
    return [[*query, *target] for query in first for target in second]


def load(arguments, device: str, dtype: str) -> Loaded:
    """Load the model that the flags ask for."""
    if arguments.shape:
        model, vocabulary = random_models.build(arguments.shape, device, getattr(torch, dtype))
        return Loaded(model, 0, lambda queries, targets: random_ids(queries, targets, vocabulary))
    torch.manual_seed(0)
    tokenizer = modeling.load_tokenizer(arguments.model)
    model = modeling.load_classifier(arguments.model, tokenizer, ClassifierOptions(dtype=dtype)).to(device).eval()

    def rows_of(queries: int, targets: int) -> list[list[int]]:
        return encode_pairs(tokenizer, *texts_of(arguments.rows, queries, targets), MAX_LENGTH)

    return Loaded(model, tokenizer.pad_token_id, rows_of)


def measure(way, loaded: Loaded, ids: list[list[int]]) -> tuple[dict, np.ndarray]:
    """Score once.

    Returns:
        (seconds, CPU seconds, padded tokens forwarded, growth of memory in MiB; probabilities)
    """
    device, forwarded = str(next(loaded.model.parameters()).device), []
    hook = loaded.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, positional: forwarded.append(positional[0].numel())
    )
    before, started, used = reset_peak(device), time.perf_counter(), time.process_time()
    try:
        scores = to_probabilities(way(loaded.model, ids, loaded.pad_id))
    finally:
        hook.remove()
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    found = {"seconds": seconds, "cpu": cpu, "forwarded": sum(forwarded), "peak_mib": peak(device) - before}
    return found, scores


def compare(loaded: Loaded, ids: list[list[int]], repeats: int, limit: float) -> dict[str, dict]:
    """Score the same rows with each side in turn; ValueError where their probabilities differ by more than `limit`."""
    rounds, scores = {name: [] for name in SIDES}, {}
    for _ in range(repeats):
        for name, way in SIDES.items():
            found, scores[name] = measure(way, loaded, ids)
            rounds[name].append(found)
    figures = {}
    for name, runs in rounds.items():
        gap = canaries.largest_difference(scores[name], scores["plain_loop"])
        if not gap <= limit:
            raise ValueError(
                f"{name}: probabilities up to {gap:.2g} away from the plain loop; expected {limit} at most"
            )
        figures[name] = {
            "pairs_per_second": round(len(ids) / median(run["seconds"] for run in runs), 1),
            "cpu_seconds": round(median(run["cpu"] for run in runs), 3),
            "tokens_forwarded": runs[0]["forwarded"],
            "peak_mib": round(max(run["peak_mib"] for run in runs), 1),
            "max_difference": gap,
        }
    return figures


def run(arguments) -> dict:
    """Measure all numbers of targets; return what the last line of stdout holds."""
    device = checkpoints.choose_device(arguments.device)
    dtype = checkpoints.choose_dtype(arguments.dtype, device)
    loaded = load(arguments, device, dtype)
    limit = measurement.largest_difference(dtype)
    compare(loaded, loaded.rows_of(2, 16), 1, limit)  # the first forward of each warms up
    rows = []
    for targets in tqdm(arguments.targets, desc="targets", unit="size"):
        ids = loaded.rows_of(max(1, arguments.pairs // targets), targets)
        for name, figures in compare(loaded, ids, arguments.repeats, limit).items():
            rows.append({"side": name, "targets": targets, "pairs": len(ids)} | figures)
    return measurement.described("rank", arguments, device, dtype) | {"results": rows}


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), ("side", "targets", "pairs"), COLUMNS)


if __name__ == "__main__":
    main()
