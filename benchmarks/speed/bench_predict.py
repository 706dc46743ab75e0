"""Measure scoring beside two other ways, on equal weights: `python benchmarks/speed/bench_predict.py --model RUN`."""

import tempfile
import time
from pathlib import Path
from statistics import median

import implementations
import measurement
import numpy as np
import random_models
import torch
from bench_data import peak_mib
from tqdm.auto import tqdm

from product_relevance.data.records import read_records
from product_relevance.ensemble.published import canaries
from product_relevance.models import modeling
from product_relevance.models.loading import checkpoints
from product_relevance.text.templates import PairFacts
from product_relevance.utils.options import Parser

SAMPLE = Path(__file__).resolve().parents[2] / "sample" / "train_QC.txt"
SIDES = ("ours", "first_team", "cross_encoder")
COLUMNS = ("pairs_per_second", "tokens_per_second", "cpu_seconds", "padding", "mfu", "peak_mib", "max_difference")


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--model", default="embedded:e5-small", help="run folder, or a base with an untrained head")
    base.add_argument("--shape", choices=sorted(random_models.SHAPES), help="random weights and tokens")
    parser.add_argument("--rows", type=Path, default=SAMPLE, help="records, repeated with numbers (default: sample)")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000], help="sizes, for a growth curve several")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--repeats", type=int, default=3, help="rounds over the sides; medians are shown (default 3)")
    parser.add_argument("--max_length", type=int, default=128, help="tokens per pair, of a base (a run has its own)")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def load(name: str, folder: Path, device: str, dtype: str, max_length: int):
    """Load one classifier: of a run the mean of its folds' weights, of a base an untrained head.

    Returns:
        (scorer, the run's ensemble or None). A pooled head has no plain folder.
    """
    # here, since a machine that measures shapes alone has not all that these need
    from product_relevance.ensemble.ensemble import RelevanceEnsemble
    from product_relevance.ensemble.loading_arguments import LoadingArguments
    from product_relevance.ensemble.locate import read_run
    from product_relevance.serving.export.export_options import ExportOptions
    from product_relevance.serving.export.transformers_export import export_classifier, save_tokenizer

    if not (Path(name) / "run.json").is_file():
        torch.manual_seed(0)
        tokenizer = modeling.load_tokenizer(name)
        modeling.load_classifier(name, tokenizer).save_pretrained(folder, save_original_format=False)
        save_tokenizer(tokenizer, max_length, folder)
        return plain(folder, device, dtype, max_length), None
    run = read_run(name, None)
    if "prompt" in run.template:
        raise ValueError(f"{name}: answers yes or no; expected a run with a head of two labels")
    ensemble = RelevanceEnsemble.from_pretrained(
        name, device=device, dtype=dtype, loading=LoadingArguments(merge="weights", max_disagreement=1.0)
    )  # a mean that scores otherwise is as fast
    if run.pooling == "auto":
        export_classifier(name, str(folder), ExportOptions(max_disagreement=1.0, overwrite=True))
        return plain(folder, device, dtype, run.max_length), ensemble
    model = ensemble.model if run.adapter is None else ensemble.model.merge_and_unload(safe_merge=True)
    return implementations.Scorer(model.eval(), ensemble.encoder.tokenizer, run.max_length), ensemble


def plain(folder: Path, device: str, dtype: str, max_length: int) -> implementations.Scorer:
    """Load a plain transformers classifier."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.split_special_tokens = True
    return implementations.Scorer(model.to(device).eval(), tokenizer, max_length, str(folder))


def distinct_pairs(file: Path, pairs: int, ensemble=None) -> tuple[list[str], list[str]]:
    """Return so many pairs of texts: the records, then again with a number behind the query, as a run writes them."""
    frame = read_records(file, role="any")
    frame = frame[frame["defect"] == ""].drop_duplicates(["origin_query", "target"])
    times = -(-pairs // len(frame))
    queries = [q if not i else f"{q} {i}" for i in range(times) for q in frame["origin_query"]][:pairs]
    targets = (frame["target"].tolist() * times)[:pairs]
    if ensemble is None:
        return queries, targets
    languages = (frame["language"].tolist() * times)[:pairs]
    return ensemble.encoder.template.render(queries, targets, PairFacts(languages), ensemble.taxonomy)


def measure(
    way, scorer: implementations.Scorer, counted, texts: list[str], targets: list[str]
) -> tuple[dict, np.ndarray]:
    """Score once.

    Returns:
        (seconds, CPU seconds, tokens forwarded and real, growth of memory in MiB; probabilities)
    """
    before = reset_peak(scorer.device)
    started, used = time.perf_counter(), time.process_time()
    with implementations.counting(counted, scorer.tokenizer.pad_token_id) as tokens:
        scores = way(scorer, texts, targets)
    measurement.synchronize(scorer.device)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return {"seconds": seconds, "cpu": cpu, **tokens, "peak_mib": peak(scorer.device) - before}, scores


def reset_peak(device: str) -> float:
    """Forget the peak of memory, and return what is in use now in MiB."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return 0.0  # on a GPU the weights count too
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")
    return peak(device)


def peak(device: str) -> float:
    """Return the peak of memory since `reset_peak` in MiB; where a system cannot reset it, of the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")]
    return found[0] if found else peak_mib()


def compare(
    scorer: implementations.Scorer, sides: dict, texts: list[str], targets: list[str], repeats: int, limit: float
) -> dict:
    """Score with each side in turn, `repeats` times.

    Args:
        scorer: a ways.Scorer.
        sides: name to (way, the module whose forwards are counted); the first one is what the others are held to.
        texts: n first texts.
        targets: n second texts.
        repeats: rounds, of which medians are given.
        limit: how far probabilities may differ.

    Returns:
        Per side the figures of `COLUMNS` without mfu.

    Raises:
        ValueError: sides that read other tokens, or whose probabilities differ.
    """
    rounds, scores = {name: [] for name in sides}, {}
    for _ in range(repeats):
        for name, (way, counted) in sides.items():
            found, scores[name] = measure(way, scorer, counted, texts, targets)
            rounds[name].append(found)
    first, figures = next(iter(sides)), {}
    tokens = sum(map(len, scorer.encode(texts, targets)))
    for name, runs in rounds.items():
        real, gap = runs[0]["real"], canaries.largest_difference(scores[name], scores[first])
        if real > tokens or (real < tokens and name != "ours") or not gap <= limit:  # ours may share prefixes
            raise ValueError(
                f"{name}: {real} tokens and probabilities up to {gap:.2g} from those of {first}; expected {tokens} "
                f"tokens and probabilities within {limit}"
            )
        figures[name] = summary(runs, len(texts), tokens) | {"max_difference": gap}
    return figures


def summary(runs: list[dict], pairs: int, tokens: int) -> dict:
    """Return the figures of one side: medians over its rounds."""
    seconds, real = median(run["seconds"] for run in runs), runs[0]["real"]
    return {
        "pairs_per_second": round(pairs / seconds, 1),
        "tokens_per_second": round(tokens / seconds),
        "forwarded_per_second": real / seconds,
        "cpu_seconds": round(median(run["cpu"] for run in runs), 3),
        "padding": round(runs[0]["forwarded"] / real, 4),
        "peak_mib": round(max(run["peak_mib"] for run in runs), 1),
    }


def run(arguments) -> dict:
    """Measure all sizes; print one line a side and size.

    Returns:
        What the last line of stdout holds.
    """
    device = checkpoints.choose_device(arguments.device)
    dtype = checkpoints.choose_dtype(arguments.dtype, device)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.shape:
            model, vocabulary = random_models.build(arguments.shape, device, getattr(torch, dtype))
            scorer, texts = (
                implementations.TokenScorer(model, 0),
                random_models.random_rows(max(arguments.pairs), vocabulary),
            )
            targets = texts
        else:
            scorer, ensemble = load(arguments.model, Path(folder) / "model", device, dtype, arguments.max_length)
            texts, targets = distinct_pairs(arguments.rows, max(arguments.pairs), ensemble)
        sides = {
            "ours": (implementations.ours, scorer.model),
            "first_team": (implementations.first_team, scorer.model),
        }
        if scorer.folder is not None and "cross_encoder" in arguments.sides:
            sides["cross_encoder"] = implementations.cross_encoder(scorer)
        sides = {name: sides[name] for name in sides if name in arguments.sides}
        limit = measurement.largest_difference(dtype)
        for way, counted in sides.values():  # the first forward of each warms up
            measure(way, scorer, counted, texts[:32], targets[:32])
        flop, best = 2 * random_models.matmul_weights(scorer.model), measurement.matmul_peak(device, dtype)
        rows = []
        for size in tqdm(arguments.pairs, desc="sizes", unit="size"):
            found = compare(scorer, sides, texts[:size], targets[:size], arguments.repeats, limit)
            for name, figures in found.items():
                figures["mfu"] = round(figures["forwarded_per_second"] * flop / best, 4)
                rows.append({"side": name, "pairs": size} | {column: figures[column] for column in COLUMNS})
    return measurement.described("predict", arguments, device, dtype) | {
        "peak_gflops": round(best / 1e9, 1),
        "results": rows,
    }


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), ("side", "pairs"), COLUMNS)


if __name__ == "__main__":
    main()
