"""Measure what scale, ridge and the number of remembered pairs do to a kernel: out-of-fold AUC, seconds per fold.

python benchmarks/ablation/kernel_grid.py train_QC.txt --scales 1 2 5 --ridges 0.1 1 --rows 1000 16000
"""

import json
import sys
import time
from collections.abc import Iterable
from itertools import product

import numpy as np
from sklearn.metrics import roc_auc_score

from product_relevance.utils.options import Parser


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("train_file", help="records with labels")
    parser.add_argument("--task", default="QC", choices=["QC", "QI"])
    parser.add_argument("--scales", type=float, nargs="+", default=[2.0], help="how fast likeness falls")
    parser.add_argument("--ridges", type=float, nargs="+", default=[0.1], help="strength of the ridge")
    parser.add_argument("--rows", type=int, nargs="+", default=[16_000], help="pairs that it remembers at most")
    parser.add_argument("--folds", type=int, default=1, help="how many of the three folds are fitted")
    parser.add_argument("--recipe", default="kernel-qc", help="of the other settings")
    parser.add_argument("--bf16", action="store_true", help="compute the vectors in bfloat16")
    return parser


def measure(arguments) -> Iterable[dict]:
    """Encode the records once, then fit a kernel with each of the settings, and score what it did not see.

    Raises:
        ValueError: bad records.
    """
    from product_relevance import RunConfig
    from product_relevance.data import loading
    from product_relevance.data.folds import query_groups
    from product_relevance.data.splits import make_splits
    from product_relevance.models.heads.kernel import KernelOptions, fit_kernel
    from product_relevance.training import run
    from product_relevance.training.base_model import BaseModelPool
    from product_relevance.training.kernel_fold import make_fit
    from product_relevance.training.run_data import RunData

    options = {"train_file": arguments.train_file, "task": arguments.task, "use_cpu": True, "bf16": arguments.bf16}
    config = RunConfig.from_recipe(arguments.recipe, **options)
    frame = loading.load_columns(config.data)
    splits = make_splits(frame, config.data)[: arguments.folds]
    frame["query_group"] = query_groups(frame)
    encoder = run.make_encoder(config, loading.make_template(config.data, None, frame), loading.make_taxonomy(frame))
    data = RunData(frame, run.encode_records(encoder, frame), config.data.task_mixing, config.data.eval_rows)
    fit = make_fit(BaseModelPool(config.model, config.training, encoder), data, encoder)
    labels = frame["label"].to_numpy(int)
    for scale, ridge, rows in product(arguments.scales, arguments.ridges, arguments.rows):
        scores, start = np.full(len(labels), np.nan), time.perf_counter()
        for split in splits:
            asked = KernelOptions(scale, ridge, rows, config.training.seed)
            fitted = fit_kernel(fit.sides[split.train], labels[split.train], fit.groups[split.train], asked)
            scores[split.valid] = fitted.kernel.predict_logits(fit.sides[split.valid])[:, 1]
        seconds, kept = (time.perf_counter() - start) / len(splits), ~np.isnan(scores)
        auc = float(roc_auc_score(labels[kept], scores[kept]))
        yield {"scale": scale, "ridge": ridge, "rows": len(fitted.rows), "auc": auc, "seconds": round(seconds, 1)}


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments, found = make_parser().parse_args(argv), []
    try:
        print("| scale | ridge | remembered pairs | AUC | seconds per fold |\n|---|---|---|---|---|")
        for row in measure(arguments):
            found.append(row)
            print("| {scale:g} | {ridge:g} | {rows:,} | {auc:.4f} | {seconds} |".format(**row), flush=True)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(json.dumps({"benchmark": "kernel grid", "folds": arguments.folds, "rows": found}))


if __name__ == "__main__":
    main()
