"""Measure vLLM's prefix caching against this package's shared prefixes: same weights, same token ids, same threads.

OMP_NUM_THREADS=1 python benchmarks/speed/bench_vllm.py --engine_python .venv-engines/bin/python
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measurement
import numpy as np
import psutil
import torch
from bench_predict import SAMPLE
from bench_rank import MAX_LENGTH, texts_of
from tqdm.auto import tqdm

from product_relevance.ensemble.published import canaries
from product_relevance.models import modeling
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import predict_logits
from product_relevance.serving.engines.engine_process import EngineProcess, require_vllm
from product_relevance.serving.export.one_logit import join_logits, name_for_engines
from product_relevance.serving.export.onnx_export import score_logits
from product_relevance.serving.export.transformers_export import save_tokenizer
from product_relevance.utils.options import Parser

COLUMNS = ("pairs_per_cpu_second", "cpu_seconds", "seconds", "max_difference")
# A block is what vLLM's cache keeps or shares as a whole; a prefix shorter than one is computed again.
SETTINGS = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 128}
# vLLM's threads are those of OMP_NUM_THREADS, as torch's here, and its cache takes 2 GiB
ENVIRONMENT = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "2"}
SIDES = {"vllm": {}, "vllm, blocks of 16": {"block_size": 16}}
CLOCK = 0.01  # seconds; a shorter use of the CPU reads as nothing

Score = Callable[[list[list[int]]], np.ndarray]


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--model", default="embedded:gemma-3-270m", help="decoder base with an untrained head")
    parser.add_argument("--engine_python", default="python", help="python of the environment that has vLLM")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 10, 100, 1000], help="a query")
    parser.add_argument("--pairs", type=int, default=200, help="of each size, at least one query's (default 200)")
    parser.add_argument("--rows", type=Path, default=SAMPLE, help="records (default: sample)")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    parser.set_defaults(shape=None)
    return parser


def save_reranker(name: str, folder: Path):
    """Save a base with an untrained head of one logit as `relevance export` writes it.

    Returns:
        (model, tokenizer)
    """
    torch.manual_seed(0)
    tokenizer = modeling.load_tokenizer(name)
    model = modeling.load_classifier(name, tokenizer, ClassifierOptions(dtype="float32")).eval()
    join_logits(model)
    model.save_pretrained(folder, save_original_format=False)
    name_for_engines(folder)
    save_tokenizer(tokenizer, MAX_LENGTH + 1, folder)
    return model, tokenizer


def rows_of(tokenizer, file: Path, sizes: list[int], pairs: int) -> dict[int, list[list[int]]]:
    """Return token ids for each number of targets, query by query.

    A token of each size's own stands behind the first, so that no cache knows a prefix from the size before.
    """
    found = {}
    for mark, targets in enumerate(sizes):
        texts = texts_of(file, max(1, pairs // targets), targets)
        found[targets] = [[row[0], 100 + mark, *row[1:]] for row in encode_pairs(tokenizer, *texts, MAX_LENGTH)]
    return found


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it started and that still run."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def measure(score: Score, rows: dict[int, list[list[int]]]) -> dict[int, tuple[float, float, np.ndarray]]:
    """Score each size once after a warm-up on rows without a common prefix.

    Returns:
        Of each size the seconds, CPU seconds and probabilities.
    """
    first = next(iter(rows.values()))[:32]
    score([[row[0], *reversed(row[1:])] for row in first])
    found = {}
    for targets, ids in tqdm(rows.items(), desc="targets", unit="size"):
        started, used = time.perf_counter(), cpu_seconds()
        scores = score(ids)
        found[targets] = time.perf_counter() - started, cpu_seconds() - used, scores
    return found


def run(arguments) -> dict:
    """Measure all sides, one after the other; return what the last line of stdout holds."""
    version, found = require_vllm(arguments.engine_python), {}
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = save_reranker(arguments.model, Path(folder))
        rows, pad_id = rows_of(tokenizer, arguments.rows, arguments.targets, arguments.pairs), tokenizer.pad_token_id
        found["ours"] = measure(lambda ids: score_logits(predict_logits(model, ids, pad_id)), rows)
        model = None  # its memory is the engines'
        for side, settings in SIDES.items():
            engine = EngineProcess(arguments.engine_python, Path(folder), SETTINGS | settings)
            found[side] = measure(lambda ids, by=engine: np.array(by.score(ids)), rows)
            engine.close()
    results = [
        _line(side, targets, found[side][targets], found["ours"][targets][2]) for targets in rows for side in found
    ]
    about = measurement.described("vllm", arguments, "cpu", "float32")
    return about | {"vllm": version, "results": results}


def _line(side: str, targets: int, measured: tuple[float, float, np.ndarray], expected: np.ndarray) -> dict:
    seconds, cpu, scores = measured
    gap = canaries.largest_difference(scores, expected)
    if not gap <= canaries.EXACT:
        raise ValueError(f"{side}: probabilities up to {gap:.2g} away from ours; expected {canaries.EXACT} at most")
    line = {"side": side, "targets": targets, "pairs": len(scores)}
    cpu = max(cpu, CLOCK)
    line |= {"pairs_per_cpu_second": round(len(scores) / cpu, 1), "cpu_seconds": round(cpu, 2)}
    return line | {"seconds": round(seconds, 2), "max_difference": gap}


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), ("side", "targets", "pairs"), COLUMNS)


if __name__ == "__main__":
    main()
