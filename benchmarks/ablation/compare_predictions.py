"""Report which differences between finished predictions are real, by paired intervals over a labelled file's queries.

python benchmarks/ablation/compare_predictions.py dev_QC.txt plain.scores.parquet other.scores.parquet:fold-0
python benchmarks/ablation/compare_predictions.py train_QC.txt runs/a/oof.parquet runs/b/oof.parquet --scored_rows
"""

import json
import sys

import numpy as np
import pandas as pd

from product_relevance.evaluation import intervals
from product_relevance.utils.options import Parser

NAMES = {"auc": "AUC", "f1": "F1", "macro_f1": "macro-F1"}


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("labelled", help="records with labels")
    what = "what `relevance predict` wrote beside a submission, FILE:COLUMN for one fold, or out-of-fold scores; the "
    what += "first is the baseline"
    parser.add_argument("scores", nargs="+", metavar="FILE", help=what)
    parser.add_argument(
        "--threshold", type=float, help="one threshold for all; by default each file's own predictions"
    )
    parser.add_argument(
        "--scored_rows", action="store_true", help="compare on the records that all files have scored, as some folds"
    )
    return parser


def read(name: str, ids: pd.Series, threshold: float | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Read scores and decisions in the order of some ids.

    Args:
        name: Parquet of scores, and after a colon the column of one fold, whose decisions are not known.
        ids: of the labelled records.
        threshold: for the decisions, in place of the file's own.

    Returns:
        Scores, shape (n,), NaN where the file has none; decisions, bool, shape (n,), or None.

    Raises:
        ValueError: no such file or column.
    """
    path, _, column = name.partition(".parquet:")
    path = f"{path}.parquet" if column else path
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError):
        raise ValueError(f"{path}: found no Parquet, expected one that `relevance predict` wrote") from None
    wanted = column or "score"
    if not {"id", wanted} <= set(table):
        raise ValueError(f"{path}: found columns {', '.join(table)}, expected id and {wanted}")
    table = table.set_index(table["id"].astype(str)).reindex(ids.astype(str))
    scores = table[wanted].to_numpy(float)
    if threshold is not None:
        return scores, scores >= threshold
    return scores, None if column or "prediction" not in table else table["prediction"].to_numpy() == 1


def require_scores(name: str, scores: np.ndarray) -> None:
    """Raise ValueError if a record has no score."""
    if missing := int(np.isnan(scores).sum()):
        found = f"found {missing} of {len(scores)} records without a score"
        raise ValueError(f"{name}: {found}; to compare on the others, add --scored_rows")


def measure(labels: np.ndarray, scores: np.ndarray, called: np.ndarray | None, times: np.ndarray) -> dict:
    """Return each figure on all rows and then on each draw, shape (1 + draws,)."""
    found = {"auc": intervals.weighted_auc(labels, scores, times)}
    if called is not None:
        found |= {
            "f1": intervals.weighted_f1(labels, called, times),
            "macro_f1": intervals.weighted_macro_f1(labels, called, times),
        }
    return found


def compare(arguments) -> list[dict]:
    """Measure every file and its differences to the first.

    Raises:
        ValueError: bad records or scores.
    """
    from product_relevance.data.folds import query_groups
    from product_relevance.data.records import read_records

    frame = read_records(arguments.labelled, role="train")
    tables = [read(name, frame["id"], arguments.threshold) for name in arguments.scores]
    kept = np.ones(len(frame), dtype=bool)
    if arguments.scored_rows:
        kept = ~np.isnan([scores for scores, _ in tables]).any(axis=0)
    labels = frame["label"].to_numpy(int)[kept]
    times = np.vstack([np.ones(len(labels), dtype=int), intervals.draw_queries(query_groups(frame)[kept])])
    found = []
    for name, (scores, called) in zip(arguments.scores, tables, strict=True):
        require_scores(name, scores[kept])
        found.append(measure(labels, scores[kept], None if called is None else called[kept], times))
    rows = []
    for name, figures in zip(arguments.scores, found, strict=True):
        row = {"scores": name} | {figure: float(values[0]) for figure, values in figures.items()}
        for figure in figures.keys() & found[0].keys() if figures is not found[0] else ():
            difference = figures[figure] - found[0][figure]
            row[f"{figure}_difference"] = [float(difference[0]), *intervals.percentile_interval(difference[1:])]
        rows.append(row)
    return rows


def to_markdown(rows: list[dict]) -> str:
    """Write the table; a difference whose interval leaves out zero stands in bold."""
    lines = [
        "| scores | " + " | ".join(f"{name} | against the first" for name in NAMES.values()) + " |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        cells = [row["scores"]]
        for name in NAMES:
            cells.append(f"{row[name]:.4f}" if name in row else "-")
            middle, low, high = row.get(f"{name}_difference", (None, 0, 0))
            sure = "**" if low > 0 or high < 0 else ""
            cells.append("" if middle is None else f"{sure}{middle:+.4f}{sure} [{low:+.4f}, {high:+.4f}]")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    try:
        rows = compare(arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(to_markdown(rows))
    print(json.dumps({"benchmark": "paired", "draws": intervals.DRAWS, "rows": rows}))


if __name__ == "__main__":
    main()
