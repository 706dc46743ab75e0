"""Compare graded with binary training on rows with four grades, by nDCG@10 and quadratic kappa out of fold.

python benchmarks/ablation/graded.py chorus_graded_en.csv --output runs/graded

Each way is trained with each seed on the same folds by query. All are judged on the same rows: nDCG@10 by the grades,
and quadratic kappa of the score at thresholds that were fitted on the other folds. Intervals are of the difference to
binary training, means over the seeds, from 1,000 paired draws of queries. A finished run is kept.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import logsigmoid, softplus

from product_relevance.evaluation import intervals
from product_relevance.evaluation.grades import decide_grades, draw_kappas, fit_grade_thresholds, measure_grades
from product_relevance.models.heads import classifier
from product_relevance.training import losses
from product_relevance.utils.options import Parser

GRADES, RELEVANT_FROM = 4, 2
RECIPE = "e5-small-qi"
OPTIONS = {
    "columns": ["query=query", "target=product_title", "label=grade"],
    "on_duplicates": "keep",
    "input_style": "original",
    "language_fix": "none",
    "max_length": 64,
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "save_strategy": "no",
    "logging_steps": 50,
}
WAYS = ("binary", "classes", "soft classes", "cumulative link")


class CumulativeLink(classifier.Float32Linear):
    """One score and K - 1 ordered thresholds (McCullagh 1980), given as the K log-probabilities that they make.

    It is the layer of K outputs that the package has, computed otherwise: the first row of its weight is the score,
    its bias holds the first threshold and then what each next one is higher by. So it is saved as that layer is.
    """

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities of shape (n, K)."""
        score = states.float() @ self.weight[0].float()
        first, gaps = self.bias[:1].float(), softplus(self.bias[1:-1].float())
        at = torch.cat([first, gaps]).cumsum(0)
        above = score.unsqueeze(-1) - at  # logits of a grade above k, falling
        between = logsigmoid(above[:, :-1]) + logsigmoid(-above[:, 1:]) + torch.log1p(-torch.exp(-gaps))
        return torch.cat([logsigmoid(-above[:, :1]), between, logsigmoid(above[:, -1:])], dim=-1)

    @torch.no_grad()
    def start(self, shares: np.ndarray) -> None:
        """Begin with thresholds that give each grade its share of the rows, shape (K,), at the score 0."""
        below = torch.tensor(np.cumsum(shares)[:-1]).logit().float()
        self.bias[0], self.bias[1:-1] = below[0], torch.log(torch.expm1(below.diff()))


@contextmanager
def patched(place, name: str, value):
    """Put a value in the place of a function for a while."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


@contextmanager
def trained_as(way: str, shares: np.ndarray):
    """Let the package train one of the ways that are compared."""
    from product_relevance.models import modeling

    def with_link(model):
        model.classifier.__class__ = CumulativeLink
        model.classifier.start(shares)
        return plain(model)

    plain: Callable = modeling.compute_in_float32
    head = with_link if way == "cumulative link" else plain
    loss = losses.ordinal if way in ("soft classes", "binary") else losses.cross_entropy
    with patched(modeling, "compute_in_float32", head), patched(losses, "ordinal", loss):
        yield


def train_way(way: str, seed: int, arguments: argparse.Namespace, shares: np.ndarray) -> Path:
    """Train one way with one seed, unless that is done; return the run folder."""
    from product_relevance.training.run_config import RunConfig
    from product_relevance.training.train import train

    folder = Path(arguments.output) / f"{way.replace(' ', '-')}-{seed}"
    if (folder / "run.json").is_file():
        return folder
    options = OPTIONS | {"train_file": arguments.file, "num_folds": arguments.folds, "seed": seed}
    options |= {"num_train_epochs": arguments.epochs, "output_dir": str(folder), "overwrite": True}
    if way == "binary":
        options["label_map"] = [f"{grade}={int(grade >= RELEVANT_FROM)}" for grade in range(GRADES)]
    else:
        options |= {"grades": GRADES, "relevant_from": RELEVANT_FROM}
    with trained_as(way, shares):
        train(RunConfig.from_recipe(RECIPE, **options))
    return folder


def judge(oof: pd.DataFrame, rows: pd.DataFrame) -> dict:
    """Measure out-of-fold scores: nDCG@10 of each query, and the grade of each row by the other folds' thresholds."""
    scores = oof.set_index(oof["id"].astype(int)).loc[rows.index]
    decided = np.zeros(len(rows), int)
    for fold in scores["fold"].unique():
        here = (scores["fold"] == fold).to_numpy()
        limits = fit_grade_thresholds(rows["grade"][~here], scores["score"][~here], GRADES)
        decided[here] = decide_grades(scores["score"][here], limits)
    return {"ndcg": ndcg_of(rows, scores["score"].to_numpy()), "decided": decided, "score": scores["score"].to_numpy()}


def ndcg_of(rows: pd.DataFrame, scores: np.ndarray) -> pd.Series:
    """Return nDCG@10 of each query, by ir-measures."""
    import ir_measures

    names = rows["query"].to_numpy(str), rows.index.astype(str)
    qrels = [ir_measures.Qrel(query, row, int(grade)) for query, row, grade in zip(*names, rows["grade"], strict=True)]
    run = [ir_measures.ScoredDoc(query, row, float(score)) for query, row, score in zip(*names, scores, strict=True)]
    found = ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, run)
    return pd.Series({each.query_id: each.value for each in found}).sort_index()


def compare(judged: dict[str, list[dict]], rows: pd.DataFrame) -> list[dict]:
    """Return a line for each way: means over the seeds, and paired differences to binary with 95% intervals."""
    queries = sorted(rows["query"].unique())
    times = intervals.draw_queries(np.arange(len(queries)))
    labels, relevant = rows["grade"].to_numpy(int), (rows["grade"] >= RELEVANT_FROM).to_numpy(int)
    drawn = {}
    for way, seeds in judged.items():
        ndcg = np.mean([seed["ndcg"][queries].to_numpy() for seed in seeds], axis=0)
        kappas = [draw_kappas(labels, seed["decided"], GRADES, rows["query"]) for seed in seeds]
        drawn[way] = {"ndcg": times @ ndcg / len(queries), "kappa": np.mean(kappas, axis=0)}
    lines = []
    for way, seeds in judged.items():
        measured = [measure_grades(labels, seed["decided"], GRADES, None) for seed in seeds]
        line = {"way": way, "ndcg": float(np.mean([seed["ndcg"].mean() for seed in seeds]))}
        line |= {name: float(np.mean([each[name] for each in measured])) for name in ("kappa", "macro_f1")}
        once = np.ones(len(rows), int)
        line["auc"] = float(np.mean([intervals.weighted_auc(relevant, seed["score"], once) for seed in seeds]))
        line["seeds"] = {
            "ndcg": [float(seed["ndcg"].mean()) for seed in seeds],
            "kappa": [each["kappa"] for each in measured],
        }
        for name in ("ndcg", "kappa") if way != "binary" else ():
            line[f"{name}_difference"] = intervals.percentile_interval(drawn[way][name] - drawn["binary"][name])
        lines.append(line)
    return lines


def to_markdown(lines: list[dict]) -> str:
    """Lay the lines out as a table; bold: the 95% interval excludes zero."""
    plain = next(line for line in lines if line["way"] == "binary")
    text = [
        "| training | nDCG@10 | against binary | kappa | against binary | macro-F1 | AUC at >= 2 |",
        "|---" * 7 + "|",
    ]
    for line in lines:
        cells = [line["way"]]
        for name in ("ndcg", "kappa"):
            cells += [f"{line[name]:.4f}", ""]
            if f"{name}_difference" in line:
                low, high = line[f"{name}_difference"]
                bold = "**" if low > 0 or high < 0 else ""
                cells[-1] = f"{bold}{line[name] - plain[name]:+.4f}{bold} [{low:+.4f}, {high:+.4f}]"
        text.append("| " + " | ".join([*cells, f"{line['macro_f1']:.4f}", f"{line['auc']:.4f}"]) + " |")
    return "\n".join(text)


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("file", help="CSV with query, product_title and grade (0 to 3)")
    parser.add_argument("--output", default="runs/graded", help="folder of the runs and of graded.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--folds", type=int, default=2)
    return parser


def main() -> None:
    """Train what is not trained yet, and compare."""
    arguments = make_parser().parse_args()
    rows = pd.read_csv(arguments.file)
    rows.index += 1  # the number of a row is its id
    shares = rows["grade"].value_counts(normalize=True).sort_index().to_numpy()
    judged: dict[str, list[dict]] = {way: [] for way in WAYS}
    for seed in arguments.seeds:
        for way in WAYS:
            folder = train_way(way, seed, arguments, shares)
            judged[way].append(judge(pd.read_parquet(folder / "oof.parquet"), rows))
    lines = compare(judged, rows)
    Path(arguments.output, "graded.json").write_text(json.dumps(lines, indent=2), encoding="utf-8")
    print(to_markdown(lines))


if __name__ == "__main__":
    main()
