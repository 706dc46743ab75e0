"""Measure how long mining of hard negatives takes: `python benchmarks/speed/bench_negatives.py --rows 300000`."""

import json
import os
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from bench_data import peak_mib, print_table

from product_relevance.preparation.augmentation.negatives import Encoder, HardNegativeOptions, mine_hard_negatives
from product_relevance.utils.options import Parser

DIMENSIONS = 384  # of e5-small


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--targets", type=int, default=5_000, help="distinct category paths")
    parser.add_argument("--encode", type=int, default=0, help="also time e5-small on so many texts")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def made_records(rows: int, targets: int, seed: int) -> pd.DataFrame:
    """Make prepared records: distinct queries, four levels of categories, 69% positive as the competition's QC."""
    rng = np.random.default_rng(seed)
    paths = [f"root {i % 40},second {i % 400},third {i % 2000},leaf {i}" for i in range(targets)]
    queries = [f"query {i} of words" for i in range(rows)]
    target = [paths[i] for i in rng.integers(0, targets, rows)]
    label = pd.array(rng.random(rows) < 0.69, dtype="Int8")
    frame = pd.DataFrame({"id": np.arange(rows), "task": "QC", "language": "en", "origin_query": queries})
    frame = frame.assign(query=queries, target=target, clean_target=target, translated_query=queries, label=label)
    return frame.assign(fold=np.arange(rows) % 3)


def random_encoder(seed: int) -> Encoder:
    """Return an encoder of texts as random unit vectors, which stand in for a real one's."""
    rng = np.random.default_rng(seed)

    def encode(texts: Sequence[str], side: str) -> np.ndarray:
        vectors = rng.standard_normal((len(texts), DIMENSIONS), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    return encode


def mine_one_per_positive(frame: pd.DataFrame, encode: Encoder) -> pd.DataFrame:
    """Mine one hard negative per positive."""
    return mine_hard_negatives(frame, encode, HardNegativeOptions(band=(0.05, 0.15), margin=-1))


def measure_mining(rows: int = 300_000, targets: int = 5_000, seed: int = 0) -> dict[str, float]:
    """Mine one hard negative per positive among random unit vectors, which stand in for the encoder.

    Args:
        rows: Records.
        targets: Distinct targets.
        seed: Of records and vectors.

    Returns:
        rows, negatives made, seconds, CPU seconds (the machine may be shared), rows/s, the process's peak in MiB.
    """
    frame, encode = made_records(rows, targets, seed), random_encoder(seed)
    started, used = time.perf_counter(), time.process_time()
    made = mine_one_per_positive(frame, encode)
    seconds = time.perf_counter() - started
    return {
        "rows": rows,
        "negatives": len(made) - len(frame),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "rows_per_second": round(rows / seconds),
        "peak_mib": round(peak_mib(), 1),
    }


def measure_encoding(texts: int) -> dict[str, float]:
    """Encode distinct queries of the sample's kind with embedded e5, without the cache on disk."""
    import tempfile

    from product_relevance.models.sentence_encoder import load_encoder

    with tempfile.TemporaryDirectory() as folder:
        encode = load_encoder(cache_dir=folder)
        started, used = time.perf_counter(), time.process_time()
        encode([f"zapatillas running mujer {i}" for i in range(texts)], "query")
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return {
        "rows": texts,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "rows_per_second": round(texts / seconds),
    }


def main() -> None:
    """Run the stages and print the table, then the same as one line of JSON."""
    args = make_parser().parse_args()
    results = {"mining": measure_mining(args.rows, args.targets, args.seed)}
    if args.encode:
        blank = dict.fromkeys(results["mining"], 0)
        results["encoding"] = blank | measure_encoding(args.encode) | {"peak_mib": round(peak_mib(), 1)}
    print_table(results)
    print(json.dumps({"benchmark": "negatives", "targets": args.targets, "cores": os.cpu_count(), "stages": results}))


if __name__ == "__main__":
    main()
