"""Measure compiled layers with free shapes beside graphs for lengths in buckets: graphs, padding and seconds.

python benchmarks/speed/bench_lengths.py --shape tiny --device cpu

A bucket has one shape: its rows are padded to its length, and its last batch to as many rows as the others have.
"""

import time
from collections.abc import Iterator

import measurement
import numpy as np
import random_models
import torch
import torch._inductor.config
from torch._dynamo.utils import counters

from product_relevance.evaluation.probabilities import to_probabilities
from product_relevance.models import adapters
from product_relevance.models.batching import budget_batches, pad_rows
from product_relevance.models.loading import checkpoints
from product_relevance.utils.options import Parser

COLUMNS = ("graphs", "padding", "first_seconds", "seconds", "max_difference")
ROWS = 512  # of a batch at most


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(random_models.SHAPES), default="tiny", help="random weights")
    parser.add_argument("--pairs", type=int, default=3000, help="so many random pairs (default 3000)")
    parser.add_argument("--buckets", type=int, nargs="+", default=[16, 32, 64], help="lengths are multiples of these")
    parser.add_argument("--tokens", type=int, default=2048, help="padded tokens of a forward pass (default 2048)")
    parser.add_argument("--backend", default="inductor", help="of torch.compile (default inductor)")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def batches_of(ids: list[list[int]], bucket: int, tokens: int) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
    """Yield batches of rows, longest first: places of the rows, and what the model takes, with more rows at its end.

    Args:
        ids: n rows.
        bucket: lengths are multiples of it; 0 pads each batch to its longest row only.
        tokens: padded tokens of a batch at most.
    """
    lengths = np.array([len(row) for row in ids])
    if not bucket:
        for rows in budget_batches(lengths, tokens, ROWS):
            yield rows, pad_rows([ids[i] for i in rows], 0)
        return
    padded = -(-lengths // bucket) * bucket
    for length in sorted(set(padded.tolist()), reverse=True):
        places, count = np.flatnonzero(padded == length), max(1, tokens // length)
        for start in range(0, len(places), count):
            rows = places[start : start + count]
            # the last batch repeats a row, and each row is padded by hand
            full = [ids[i] for i in rows] + [ids[rows[-1]]] * (count - len(rows))
            batch = pad_rows([*full, [0] * length], 0)
            yield rows, {name: value[:-1] for name, value in batch.items()}


@torch.inference_mode()
def score(model, ids: list[list[int]], bucket: int, tokens: int) -> tuple[np.ndarray, float, int]:
    """Score all rows; the probabilities, seconds, and the tokens that went through the model."""
    device, found, forwarded = next(model.parameters()).device, np.empty((len(ids), 2), np.float32), 0
    started = time.perf_counter()
    for rows, batch in batches_of(ids, bucket, tokens):
        forwarded += batch["input_ids"].numel()
        logits = model(**{name: value.to(device) for name, value in batch.items()}, use_cache=False).logits
        found[rows] = logits[: len(rows)].float().cpu().numpy()
    return to_probabilities(found), time.perf_counter() - started, forwarded


def measure(arguments, ids: list[list[int]], bucket: int | None, build) -> dict:
    """Score twice with a fresh model: free shapes for bucket 0, one graph a bucket, no graph for None."""
    torch._dynamo.reset()
    counters.clear()
    model = build()
    if bucket is not None:
        for layer in adapters.layer_stack(model)[1]:
            layer.compile(dynamic=not bucket, backend=arguments.backend)
    _, first, _ = score(model, ids, bucket or 0, arguments.tokens)
    scores, seconds, forwarded = score(model, ids, bucket or 0, arguments.tokens)
    return {
        "way": "plain" if bucket is None else f"multiples_{bucket}" if bucket else "free_shapes",
        "graphs": counters["stats"]["unique_graphs"],
        "padding": round(forwarded / sum(map(len, ids)), 4),
        "first_seconds": round(first, 2),
        "seconds": round(seconds, 4),
        "scores": scores,
    }


def run(arguments) -> dict:
    """Measure layers as they are, free shapes and each kind of bucket; return what the last line of stdout holds."""
    device = checkpoints.choose_device(arguments.device)
    dtype = checkpoints.choose_dtype(arguments.dtype, device)
    torch._dynamo.config.recompile_limit = 64
    torch._inductor.config.force_disable_caches = True  # which would give one way the graphs of another

    def build():
        return random_models.build(arguments.shape, device, getattr(torch, dtype))[0]

    ids = random_models.random_rows(arguments.pairs, random_models.config_of(arguments.shape).vocab_size)
    rows = [measure(arguments, ids, bucket, build) for bucket in (None, 0, *arguments.buckets)]
    exact = rows[0]["scores"]
    for row in rows:
        row["max_difference"] = float(abs(row.pop("scores") - exact).max())
    return measurement.described("lengths", arguments, device, dtype) | {"pairs": len(ids), "results": rows}


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), ("way",), COLUMNS)


if __name__ == "__main__":
    main()
