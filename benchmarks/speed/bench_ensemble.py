"""Measure ways to score an ensemble: their cost, agreement, F1 and AUC.

python benchmarks/speed/bench_ensemble.py RUN FILE

All are compared with the mean of the folds' probabilities, one pass per fold with its adapter beside the base.
Decisions are at the threshold that is stored for each way.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from unittest import mock

import measurement
import numpy as np
import pandas as pd
import torch

from product_relevance.data import loading
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.files.predict_file import read_records_for
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.evaluation import metrics, probabilities
from product_relevance.models.adapters import layer_stack
from product_relevance.models.batching import batch_limits, pad_rows
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import ForwardLimits, score_in_batches
from product_relevance.text.templates import PairFacts
from product_relevance.utils.options import Parser

COLUMNS = ("passes", "seconds", "cpu_seconds", "max_diff", "mean_diff", "changed", "f1", "auc")


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("run", help="folder or Hub id of a run with several folds")
    parser.add_argument("file", help="labelled records that no fold was trained on")
    parser.add_argument(
        "--student", help="also a run that was distilled from it (train_relevance.py --objective distill)"
    )
    parser.add_argument("--rows", type=int, default=2000, help="so many of the file's, drawn by --seed (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="of the base: auto, bfloat16, float32, nf4")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def labelled(ensemble: RelevanceEnsemble, args) -> tuple[RelevanceEnsemble, pd.DataFrame]:
    """Return the ensemble of the file's task and the rows to score, with their columns made.

    Raises:
        ValueError: bad records, or rows without a label.
    """
    ensemble, frame = read_records_for(ensemble, args.file, "any")
    if "label" not in frame or frame["label"].isna().any():
        raise ValueError(f"{args.file}: rows without a label; F1 and AUC need labels")
    frame = frame[frame["defect"] == ""]
    frame = frame.sample(min(args.rows, len(frame)), random_state=args.seed)
    return ensemble, loading.add_run_columns(frame, ensemble.run.columns)


def pairs_of(frame: pd.DataFrame) -> tuple:
    """Return pairs, languages, translations and tasks, as `predict_folds` takes them."""
    pairs = list(zip(frame["origin_query"], frame["target"], strict=True))
    return pairs, *(frame[name].tolist() for name in ("language", "translated_query", "task"))


def as_it_is(ensemble: RelevanceEnsemble, frame: pd.DataFrame) -> np.ndarray:
    """Score every fold as the ensemble does by itself; shape (n, K)."""
    pairs, languages, translations, tasks = pairs_of(frame)
    return ensemble.predict_folds(pairs, languages, translations, tasks=tasks)


def fold_by_fold(ensemble: RelevanceEnsemble, frame: pd.DataFrame, merge_from: float = float("inf")) -> np.ndarray:
    """Score every fold in a pass of its own, its adapter beside the base; shape (n, K)."""
    with mock.patch.multiple(ensemble.fold_models, shared_layers=0, merge_from=merge_from):
        return as_it_is(ensemble, frame)


def merged_in_turn(ensemble: RelevanceEnsemble, frame: pd.DataFrame) -> np.ndarray:
    """Score every fold in a pass of its own, its adapter merged into the base; shape (n, K)."""
    return fold_by_fold(ensemble, frame, merge_from=0)


def mixed_batch(ensemble: RelevanceEnsemble, frame: pd.DataFrame) -> np.ndarray:
    """Score each pair K times in one batch, each copy with its own adapter (PEFT's adapter_names); shape (n, K).

    Raises:
        ValueError: whole models, or a kind of adapter for which PEFT has no mixed batch (DoRA).
    """
    if ensemble.run.adapter is None:
        raise ValueError("needs adapters")
    pairs, *extra = pairs_of(frame)
    sides = ensemble.encoder.template.render(*zip(*pairs, strict=True), PairFacts(*extra), ensemble.taxonomy)
    ids = encode_pairs(ensemble.encoder.tokenizer, *sides, ensemble.run.max_length)
    folds, pad_id, device = list(ensemble.folds), ensemble.encoder.tokenizer.pad_token_id, ensemble.device

    def forward(rows: list[list[int]]) -> torch.Tensor:
        batch = {
            name: value.repeat_interleave(len(folds), 0).to(device) for name, value in pad_rows(rows, pad_id).items()
        }
        logits = ensemble.model(**batch, adapter_names=folds * len(rows)).logits.float()
        return logits.view(len(rows), len(folds), 2)

    budget = batch_limits(device.type)[0] // len(folds)  # as many tokens per forward as the other ways have
    logits = score_in_batches(forward, ids, (len(folds), 2), ForwardLimits(device.type, budget))
    return probabilities.to_probabilities(logits.reshape(-1, 2)).reshape(-1, len(folds))


def timed(score: Callable, ensemble: RelevanceEnsemble, frame: pd.DataFrame) -> tuple[np.ndarray, dict[str, float]]:
    """Score after a warm-up; CPU seconds beside the clock's, since the machine may be shared."""
    score(ensemble, frame[:4])
    measurement.synchronize(str(ensemble.device))
    started, used = time.perf_counter(), time.process_time()
    scores = score(ensemble, frame)
    measurement.synchronize(str(ensemble.device))
    return scores, {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used}


def shared_passes(ensemble: RelevanceEnsemble) -> float:
    """Return what the shared layers once and the others K times cost, in passes through all layers."""
    layers, folds = len(layer_stack(ensemble.model)[1]), len(ensemble.folds)
    shared = ensemble.fold_models.shared_layers
    return (shared + folds * (layers - shared)) / layers


class Table:
    """One line a way, each beside the mean of the folds."""

    def __init__(self, frame: pd.DataFrame):
        self.labels, self.languages = frame["label"].to_numpy(int), frame["language"].tolist()
        self.lines: dict[str, dict] = {}
        self.scores = self.calls = None

    def add(self, way: str, ensemble, folds: np.ndarray, cost: dict, passes: float, vote: str = "mean") -> None:
        """Add a way from the probabilities of its folds, shape (n, K), and from what they cost."""
        scores, limits = ensemble.combine(folds, vote), ensemble.rule.row_thresholds(self.languages, "f1", vote)
        calls = scores >= limits
        if self.scores is None:
            self.scores, self.calls = scores, calls
        found, away = (
            metrics.scores_report(self.labels, scores, 0.5, metrics.RowFacts(row_thresholds=limits)),
            np.abs(scores - self.scores),
        )
        self.lines[way] = {"passes": passes, **cost, "max_diff": float(away.max()), "mean_diff": float(away.mean())}
        self.lines[way] |= {"changed": int((calls != self.calls).sum()), "f1": found["f1"], "auc": found["auc"]}

    def __str__(self) -> str:
        lines = [f"{'way':<16}" + "".join(f"{column:>13}" for column in COLUMNS)]
        for way, line in self.lines.items():
            shown = [line[c] if isinstance(line[c], int) else f"{line[c]:.4f}" for c in COLUMNS]
            lines.append(f"{way:<16}" + "".join(f"{value:>13}" for value in shown))
        return "\n".join(lines)


def measure(args, options: dict) -> tuple[Table, dict[str, str]]:
    """Score the rows in every way that the run allows.

    Returns:
        (the table, why the ways that are not in it are not)

    Raises:
        ValueError: no run, bad records, or rows without labels.
    """
    whole = RelevanceEnsemble.from_pretrained(args.run, **options)
    ensemble, frame = labelled(whole, args)
    table, left_out, count = Table(frame), {}, len(whole.folds)
    found = timed(fold_by_fold, whole, frame)
    table.add("K passes", ensemble, *found, count)
    table.add("vote", ensemble, *found, count, "majority")
    table.add("merged in turn", ensemble, *timed(merged_in_turn, whole, frame), count)
    if whole.fold_models.shared_layers:
        table.add("shared layers", ensemble, *timed(as_it_is, whole, frame), shared_passes(whole))
    else:
        left_out["shared layers"] = "it needs a run of train_relevance.py --lora_layers"
    try:
        table.add("mixed batch", ensemble, *timed(mixed_batch, whole, frame), count)
    except ValueError as error:
        left_out["mixed batch"] = str(error)
    try:
        mean = LoadingArguments(merge="weights", max_disagreement=1.0)
        merged = RelevanceEnsemble.from_pretrained(args.run, **options, loading=mean)
        table.add("mean weights", merged, *timed(as_it_is, merged, frame), 1)
    except ValueError as error:
        left_out["mean weights"] = str(error)
    if args.student:
        student = RelevanceEnsemble.from_pretrained(args.student, **options)
        own, rows = labelled(student, args)
        table.add("student", own, *timed(as_it_is, student, rows), len(student.folds))
    return table, left_out


def main() -> None:
    """Measure, print the table, then the same as one line of JSON."""
    args = make_parser().parse_args()
    logging.basicConfig(level=logging.ERROR)
    try:
        table, left_out = measure(args, {"device": args.device, "dtype": args.dtype})
    except ValueError as error:
        sys.exit(str(error))
    print(table)
    for way, reason in left_out.items():
        print(f"{way}: left out, {reason}")
    figures = {"benchmark": "ensemble", "rows": len(table.labels), "threads": torch.get_num_threads()}
    figures |= {"ways": table.lines, "left_out": left_out}
    if args.keep:
        measurement.keep(args.keep, figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
