"""Measure the first stage over a catalogue: `python benchmarks/speed/rank_catalogue.py --titles 1000 10000`."""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import measurement
import numpy as np
from bench_data import peak_mib

from product_relevance.ensemble.retrieval.vector_search import Nearest, open_index, search_exactly
from product_relevance.evaluation.reports.markdown_tables import metrics_table
from product_relevance.utils.options import Parser
from product_relevance.utils.shipped import shipped_path

KINDS = ("exact", "usearch")
BLOCK = 16_384  # vectors that are made at a time
QUERY_WEIGHT, NOISE = 0.8, 0.3  # of a made vector: how near it is to the title that it is made of


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    sizes = "sizes of the catalogues; above --encode vectors are made of encoded ones, and the time is extrapolated"
    parser.add_argument("--titles", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000], help=sizes)
    parser.add_argument("--encode", type=int, default=10_000, help="titles that are encoded with e5-small")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--index", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", metavar="NAME", help="keep the figures as benchmarks/results/NAME.json")
    return parser


def made_titles(rows: int, seed: int) -> list[str]:
    """Make titles of 6 to 14 words of the sample's titles."""
    lines = (shipped_path("sample") / "train_QI.txt").read_text(encoding="utf-8").splitlines()
    words = sorted({word for line in lines for word in json.loads(line)["item_title"].split()})
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, rng.integers(6, 15))) for _ in range(rows)]


def encode_titles(titles: list[str]) -> tuple[np.ndarray, float]:
    """Encode titles with the embedded e5-small, without its cache; return the vectors and the CPU seconds."""
    from product_relevance.models.sentence_encoder import load_encoder

    with tempfile.TemporaryDirectory() as folder:
        encode = load_encoder(cache_dir=folder)
        encode(["warm"], "passage")
        started = time.process_time()
        return encode(titles, "passage"), time.process_time() - started


def made_vectors(encoded: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Make more unit vectors of encoded ones: the mean of two with noise, block by block.

    Args:
        encoded: Unit vectors (titles, dimensions).
        rows: How many to make.
        rng: Draws the two and the noise.
    """
    vectors = np.empty((rows, encoded.shape[1]), np.float32)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        one, other = (encoded[rng.integers(0, len(encoded), count)] for _ in range(2))
        noise = rng.standard_normal((count, encoded.shape[1]), dtype=np.float32) / np.sqrt(encoded.shape[1])
        vectors[start : start + count] = _unit(QUERY_WEIGHT * one + (1 - QUERY_WEIGHT) * other + NOISE * noise)
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def measure_search(vectors_file: str, rows: int, kind: str, arguments: dict) -> dict:
    """Search a catalogue once, in a process of its own, so that the peak of memory is that of this search.

    Args:
        vectors_file: Encoded titles, as numpy keeps them.
        rows: Size of the catalogue.
        kind: exact or usearch.
        arguments: queries, candidates and seed.

    Returns:
        The row of the table, without the seconds of encoding; seconds are those of the CPU, as the machine may be
        shared: with one thread (OMP_NUM_THREADS=1) they are what a clock shows on an idle one.
    """
    rng, encoded = np.random.default_rng(arguments["seed"]), np.load(vectors_file)
    queries = made_vectors(encoded, arguments["queries"], rng)
    vectors = encoded[:rows] if rows <= len(encoded) else made_vectors(encoded, rows, rng)
    count, started = min(arguments["candidates"], rows), time.process_time()
    search = open_index(vectors) if kind == "usearch" else None
    built, started = time.process_time() - started, time.process_time()
    found = search_exactly(vectors, queries, count) if search is None else search(queries, count)
    seconds, peak = time.process_time() - started, own_peak_mib()
    recall = 1.0 if search is None else recall_of(found, search_exactly(vectors, queries, count))
    figures = {"build s": round(built, 1), "ms per query": round(1000 * seconds / len(queries), 2)}
    return {"titles": rows, "index": kind} | figures | {"recall": round(recall, 4), "peak MiB": round(peak)}


def own_peak_mib() -> float:
    """Return the peak of this process's memory in MiB; on Linux getrusage counts that of its parent, too."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_mib()
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10


def recall_of(found: Nearest, exact: Nearest) -> float:
    """Return the share of the nearest vectors that a search found, over all queries."""
    shared = [len(np.intersect1d(some, every)) for some, every in zip(found.places, exact.places, strict=True)]
    return float(np.sum(shared) / exact.places.size)


def run(arguments) -> Iterator[dict]:
    """Encode and search catalogues of each size; yields a row per size and index."""
    options = {name: getattr(arguments, name) for name in ("queries", "candidates", "seed")}
    titles = made_titles(arguments.encode, arguments.seed)
    encoded, seconds = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        vectors_file = str(Path(folder) / "vectors.npy")
        for rows in sorted(arguments.titles):
            if (count := min(rows, arguments.encode)) > encoded:
                vectors, seconds = encode_titles(titles[:count])
                np.save(vectors_file, vectors)
                encoded = count
            encoding = {"encoding s": round(seconds * rows / encoded, 1), "encoded": f"{encoded:,}"}
            for kind in arguments.index:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    found = pool.submit(measure_search, vectors_file, rows, kind, options).result()
                yield found | encoding


def main() -> None:
    """Print the table row by row, then all of it in markdown."""
    arguments = make_parser().parse_args()
    rows = []
    for row in run(arguments):
        print(json.dumps(row), flush=True)
        rows.append(row)
    print(f"\n{metrics_table(rows, [*rows[0]])}")
    if arguments.keep:
        figures = {"benchmark": "rank_catalogue", "results": rows} | vars(arguments)
        print(f"kept in {measurement.keep(arguments.keep, figures).relative_to(measurement.ROOT)}")


if __name__ == "__main__":
    main()
