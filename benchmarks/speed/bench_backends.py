"""Measure ways to compute one classifier on a CPU: `python benchmarks/speed/bench_backends.py RUN FILE`.

torch in float32, torch in bfloat16, ONNX Runtime on the graphs of `relevance export --onnx`, and OpenVINO where it is
installed, on the same batches of tokens. All are held against torch in float32; decisions are at the median of its
scores, where most pairs lie.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import measurement
import numpy as np
import torch
from bench_ensemble import labelled, pairs_of

from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.evaluation import metrics
from product_relevance.models.batching import batch_limits, budget_batches, pad_rows
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.serving.export import onnx_export
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.onnx_export import NAMES
from product_relevance.serving.export.transformers_export import export_classifier
from product_relevance.text.templates import PairFacts
from product_relevance.utils.options import Parser

COLUMNS = ("pairs_per_second", "cpu_seconds", "max_difference", "mean_difference", "changed", "f1", "auc")


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("run", help="folder or Hub id of a run of train_relevance.py --pooling auto")
    parser.add_argument("file", help="labelled records that no fold was trained on")
    parser.add_argument("--rows", type=int, default=1000, help="so many of the file's, drawn by --seed (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="rounds over the ways; medians are shown (default 3)")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def of_torch(folder: Path, dtype: str) -> Callable:
    """Return a function from a batch of tensors to logits, by torch."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()

    def forward(batch: dict[str, torch.Tensor]) -> np.ndarray:
        with torch.inference_mode():
            return model(**batch).logits.float().numpy()

    return forward


def of_onnxruntime(path: Path) -> Callable:
    """Return the same by ONNX Runtime, with as many threads as torch has."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(["logits"], {name: tensor.numpy() for name, tensor in batch.items()})[0]


def of_openvino(path: Path, dtype: str) -> Callable:
    """Return the same by OpenVINO; float32 must be asked for where the CPU has bfloat16."""
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = openvino.Core().compile_model(path, "CPU", hints)
    return lambda batch: model({name: tensor.numpy() for name, tensor in batch.items()})[0]


def ways(run: str, folder: Path) -> dict[str, Callable]:
    """Export the run with both graphs, and load each way."""
    for kind in NAMES:
        export_classifier(run, str(folder / kind), ExportOptions(onnx=kind, max_disagreement=1.0))
    plain, quantised = folder / "float32/onnx" / NAMES["float32"], folder / "int8/onnx" / NAMES["int8"]
    made = {f"torch {dtype}": of_torch(folder / "float32", dtype) for dtype in ("float32", "bfloat16")}
    made |= {"onnx float32": of_onnxruntime(plain), "onnx int8": of_onnxruntime(quantised)}
    try:
        import openvino  # noqa: F401
    except ModuleNotFoundError:
        return made
    return made | {"ov float32": of_openvino(plain, "f32"), "ov int8": of_openvino(quantised, "f32")}


def scored(forward: Callable, batches: list, rows: int) -> tuple[np.ndarray, float, float]:
    """Return the probability of each row, the seconds by the clock and the CPU's."""
    started, used = time.perf_counter(), time.process_time()
    found = np.zeros(rows)
    for picked, batch in batches:
        found[picked] = onnx_export.score_logits(forward(batch))
    return found, time.perf_counter() - started, time.process_time() - used


def measure(args) -> dict:
    """Score the rows by every way, in rounds."""
    if args.repeats < 1:
        raise ValueError(f"--repeats {args.repeats}: expected 1 at least")
    mean = LoadingArguments(merge="weights", max_disagreement=1.0)
    ensemble = RelevanceEnsemble.from_pretrained(args.run, device="cpu", loading=mean)
    ensemble, frame = labelled(ensemble, args)
    pairs, languages, translations, tasks = pairs_of(frame)
    sides = ensemble.encoder.template.render(
        *zip(*pairs, strict=True), PairFacts(languages, translations, tasks), ensemble.taxonomy
    )
    ids = encode_pairs(ensemble.encoder.tokenizer, *sides, ensemble.run.max_length)
    picked = budget_batches([len(row) for row in ids], *batch_limits("cpu"))
    batches = [(rows, pad_rows([ids[i] for i in rows], ensemble.encoder.tokenizer.pad_token_id)) for rows in picked]
    labels = frame["label"].to_numpy(int)
    with tempfile.TemporaryDirectory() as name:
        forwards, taken, scores = ways(args.run, Path(name)), {}, {}
        for forward in forwards.values():
            scored(forward, batches[-2:], len(ids))  # warms up
        for _ in range(args.repeats):
            for way, forward in forwards.items():
                scores[way], *seconds = scored(forward, batches, len(ids))
                taken.setdefault(way, []).append(seconds)
    first, results = scores["torch float32"], []
    threshold = float(np.median(first))
    for way, found in scores.items():
        seconds, cpu = (median(column) for column in zip(*taken[way], strict=True))
        moved = np.abs(found - first)
        line = {"way": way, "pairs_per_second": len(ids) / seconds, "cpu_seconds": cpu}
        line |= {"max_difference": float(moved.max()), "mean_difference": float(moved.mean())}
        line |= {"changed": float(((found >= threshold) != (first >= threshold)).mean())}
        report = metrics.scores_report(labels, found, threshold)
        results.append(line | {name: report[name] for name in ("f1", "auc")})
    about = {"benchmark": "bench_backends", "model": Path(args.run).name, "threads": torch.get_num_threads()}
    return about | {"rows": len(ids), "tokens": sum(map(len, ids)), "cut": threshold, "results": results}


def main(argv: list[str] | None = None) -> None:
    """Print the table and one line of JSON."""
    measurement.report(measure, make_parser().parse_args(argv), ("way",), COLUMNS)


if __name__ == "__main__":
    main()
