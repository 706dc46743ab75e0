"""Measure each stage from records to tokens: `python benchmarks/speed/bench_data.py --rows 300000`."""

import json
import logging
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
from measurement import keep

from product_relevance.data.records import read_records
from product_relevance.utils.files import json_line
from product_relevance.utils.options import Parser
from product_relevance.utils.tasks import TARGET_FIELD

SAMPLE = Path(__file__).resolve().parents[2] / "sample" / "train_QC.txt"
LIMIT = 60  # CPU seconds that a stage may take for 300,000 rows
Work = Callable[[], object]


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="how many rows to measure with")
    parser.add_argument("--input", type=Path, default=SAMPLE, help="records to repeat up to that number")
    parser.add_argument("--seed", type=int, default=0, help="of the permutation")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--keep", help="name under benchmarks/results/ to keep the figures by")
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


def read(path: Path, task: str) -> pd.DataFrame:
    """Read and check the records."""
    return read_records(path, task=task, role="any")


def clean(path: Path, task: str) -> Work:
    """Clean both texts."""
    from product_relevance.data import columns
    from product_relevance.text import cleaning

    frame = read(path, task)
    return lambda: columns.add_columns(frame, [columns.Step("clean", cleaning.clean_columns, {"lowercase": False})])


def identify(path: Path, task: str) -> Work:
    """Identify the language of what is labelled English."""
    from product_relevance.data import columns
    from product_relevance.text import languages

    frame = read(path, task).assign(query=lambda records: records["origin_query"])
    return lambda: columns.add_columns(
        frame, [columns.Step("language", languages.fix_language, {"method": "identify"})]
    )


def fold(path: Path, task: str) -> Work:
    """Assign three folds by query."""
    from product_relevance.data import folds

    frame = read(path, task)
    return lambda: folds.assign_folds(frame)


def negatives(path: Path, task: str) -> Work:
    """Mine hard negatives among random vectors, see bench_negatives.py; the encoder's time is not in it."""
    import bench_negatives

    rows = len(read(path, task))
    frame, encode = bench_negatives.made_records(rows, 5_000, 0), bench_negatives.random_encoder(0)
    return lambda: bench_negatives.mine_one_per_positive(frame, encode)


def tokenise(path: Path, task: str) -> Work:
    """Tokenise the pairs with the tokenizer of the embedded e5-small, XLM-R's with 250,002 tokens."""
    from product_relevance.models.modeling import load_tokenizer
    from product_relevance.models.pair_encoder import encode_pairs

    frame, tokenizer = read(path, task), load_tokenizer("embedded:e5-small")
    return lambda: encode_pairs(tokenizer, frame["origin_query"].tolist(), frame["target"].tolist(), 128)


STAGES = {
    "reading": lambda path, task: lambda: read(path, task),
    "cleaning": clean,
    "languages": identify,
    "folds": fold,
    "negatives": negatives,
    "tokenising": tokenise,
}


def measure(stage: str, path: Path, task: str, rows: int) -> dict[str, float]:
    """Run one stage on a file of records, in this process.

    Returns:
        rows, seconds, CPU seconds (the machine may be shared), rows/s, and the process's peak memory in MiB: what
        the stage was given counts, so no stage is below what its input takes.
    """
    work = STAGES[stage](path, task)
    started, used = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "rows_per_second": round(rows / seconds),
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
    """Run each stage in a fresh process and print the table, then the same as one line of JSON."""
    args = make_parser().parse_args()
    logging.basicConfig(level=logging.ERROR)
    if args.rows < 1 or not args.input.is_file():
        sys.exit(f"found --rows {args.rows} and --input {args.input}, expected at least one row and a file of records")
    results, fresh = {}, multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.txt"
        task = repeat_rows(args.input, args.rows, path, args.seed)
        for stage in args.stages:
            with ProcessPoolExecutor(1, mp_context=fresh) as pool:
                results[stage] = pool.submit(measure, stage, path, task, args.rows).result()
            print(stage, results[stage], file=sys.stderr, flush=True)
    print_table(results)
    slow = [stage for stage, result in results.items() if result["cpu_seconds"] > LIMIT]
    print(f"over {LIMIT} CPU seconds: {', '.join(slow) or 'none'}")
    figures = {"benchmark": "data", "task": task, "cores": os.cpu_count(), "stages": results}
    if args.keep:
        keep(args.keep, figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
