"""Measure how fast records are read and checked: `python benchmarks/bench_data.py --rows 300000`."""

import argparse
import json
import logging
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from product_relevance.files import json_line
from product_relevance.records import TARGET_FIELD, read_records

SAMPLE = Path(__file__).resolve().parent.parent / "sample" / "train_QC.txt"


def make_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="how many rows to measure with")
    parser.add_argument("--input", type=Path, default=SAMPLE, help="records to repeat up to that number")
    parser.add_argument("--seed", type=int, default=0, help="of the permutation")
    return parser


def repeat_rows(source: Path, rows: int, output: Path, seed: int = 0) -> str:
    """Write a competition-size file out of a small one: repeated, permuted, with new ids and distinct queries.

    Args:
        source: A file of labelled records.
        rows: How many to write.
        output: Where to write them, as JSON lines.
        seed: Of the permutation.

    Returns:
        The task.
    """
    records = read_records(source, role="any")
    task = records.attrs["task"]
    records = records.rename(columns={"target": TARGET_FIELD[task]})
    fields = ["task", "language", "origin_query", TARGET_FIELD[task], *(["label"] if "label" in records else [])]
    base = records[fields].to_dict("records")
    order = list(range(rows))
    random.Random(seed).shuffle(order)
    with open(output, "wb") as file:
        for number, position in enumerate(order, start=1):
            row = base[position % len(base)]
            query = f"{row['origin_query']} {position // len(base)}"
            file.write(json_line({"id": number, **row, "origin_query": query}))
    return task


def measure_reading(path: Path, task: str) -> dict[str, float]:
    """Read and check one file; report rows, seconds, rows/s, MB/s and the process's peak memory in MiB."""
    started = time.perf_counter()
    rows = len(read_records(path, task=task, role="any"))
    seconds = time.perf_counter() - started
    megabytes = path.stat().st_size / 1e6
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds),
        "megabytes_per_second": round(megabytes / seconds, 1),
        "peak_mib": round(peak_mib(), 1),
    }


def peak_mib() -> float:
    """Peak resident memory of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, Linux KiB


def print_table(results: dict[str, dict[str, float]]) -> None:
    """Print one line a stage."""
    columns = list(next(iter(results.values())))
    print(f"{'stage':<12}" + "".join(f"{column:>22}" for column in columns))
    for stage, result in results.items():
        print(f"{stage:<12}" + "".join(f"{result[column]:>22,}" for column in columns))


def main() -> None:
    """Run the stages and print the table, then the same as one line of JSON."""
    args = make_parser().parse_args()
    logging.basicConfig(level=logging.ERROR)
    if args.rows < 1 or not args.input.is_file():
        sys.exit(f"found --rows {args.rows} and --input {args.input}, expected at least one row and a file of records")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.txt"
        task = repeat_rows(args.input, args.rows, path, args.seed)
        results = {"read_jsonl": measure_reading(path, task)}
    print_table(results)
    print(json.dumps({"benchmark": "data", "task": task, "cores": os.cpu_count(), "stages": results}))


if __name__ == "__main__":
    main()
