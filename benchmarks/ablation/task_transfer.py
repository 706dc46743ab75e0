"""Measure runs on tasks, their own and others.

python benchmarks/ablation/task_transfer.py RUN... --files dev_QC.txt dev_QI.txt

The matrix shows what a model learns from one task for the other, and whether one model of both is worth two. AUC needs
no threshold. macro-F1 is taken at the run's own threshold, which for a task it was not trained on is that of the other
task, and beside it at the best threshold of these rows (optimistic).
"""

import copy
import gc
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from product_relevance.data.folds import query_groups
from product_relevance.data.records import read_records
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.files.predict_file import score_records
from product_relevance.evaluation.metrics import best_threshold, scores_report
from product_relevance.evaluation.reports.report import metrics_table
from product_relevance.training.run_data import sample_evaluation_rows
from product_relevance.utils.options import Parser
from product_relevance.utils.tasks import task_names

FIGURES = {"auc": "AUC", "macro_f1": "macro-F1", "best_macro_f1": "(best threshold)"}


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders or Hub ids")
    parser.add_argument("--files", nargs="+", required=True, help="labelled records, one file per task")
    parser.add_argument("--rows", type=int, default=10**9, help="about so many of each file, whole queries at a time")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def read(file: str, rows: int):
    """Read labelled records, or a fixed subset of their queries.

    Raises:
        ValueError: bad records, or rows without a label.
    """
    frame = read_records(file, role="any")
    if "label" not in frame or frame["label"].isna().any():
        raise ValueError(f"{file}: found rows without a label, expected one in each")
    chosen = sample_evaluation_rows(query_groups(frame), np.arange(len(frame)), rows)
    part = frame.iloc[chosen].reset_index(drop=True)
    part.attrs = frame.attrs
    return part


def for_task(ensemble: RelevanceEnsemble, task: str) -> RelevanceEnsemble:
    """Return the ensemble for a task, also for one that it was not trained on: here alone that is no mistake.

    Its template then renders the other kind of target as it renders its own; the words of a prompt stay as they are.
    """
    if task in task_names(ensemble.run.task):
        return ensemble.of_task(task)
    other = copy.copy(ensemble)
    other.encoder = replace(ensemble.encoder, template=replace(ensemble.encoder.template, task=task))
    return other


def measure(ensemble: RelevanceEnsemble, frame) -> dict:
    """Score records of a task and measure the scores."""
    one = for_task(ensemble, frame.attrs["task"])
    scores, labels = score_records(one, frame)[0], frame["label"].to_numpy(int)
    figures = scores_report(labels, scores, one.thresholds["macro_f1"])
    found = {key: figures[key] for key in ("rows", "positive", "auc", "macro_f1", "floor_macro_f1")}
    return found | {"best_macro_f1": best_threshold(labels, scores, "macro_f1")[1]}


def table(cells: list[dict]) -> str:
    """Lay the matrix out: one line per run, with the figures of each task."""
    rows, columns = {}, {"run": "run", "trained_on": "trained on"}
    for cell in cells:
        row = rows.setdefault(cell["run"], {key: cell[key] for key in ("run", "trained_on")})
        row |= {f"{cell['task']} {key}": cell[key] for key in FIGURES}
        columns |= {f"{cell['task']} {key}": f"{cell['task']} {title}" for key, title in FIGURES.items()}
    lowest = {"run": "floor: all relevant"}
    for cell in cells:
        lowest |= {f"{cell['task']} auc": 0.5, f"{cell['task']} macro_f1": cell["floor_macro_f1"]}
    return metrics_table([*rows.values(), lowest], columns)


def main(argv: list[str] | None = None) -> None:
    """Print the matrix as a table, and last a line of JSON."""
    arguments = make_parser().parse_args(argv)
    frames, cells = [read(file, arguments.rows) for file in arguments.files], []
    for name in arguments.runs:
        ensemble = RelevanceEnsemble.from_pretrained(name, device=arguments.device)
        about = {"run": Path(name).name, "trained_on": ensemble.run.task}
        cells += [about | {"task": frame.attrs["task"]} | measure(ensemble, frame) for frame in frames]
        del ensemble
        gc.collect()
    print(table(cells))
    if arguments.keep:
        sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
        import measurement

        print(f"wrote {measurement.keep(arguments.keep, {'cells': cells})}")
    print(json.dumps({"cells": cells}))


if __name__ == "__main__":
    main()
