"""Measure whether thresholds by language, first level or leaf beat one threshold, on rows that did not choose them.

python benchmarks/ablation/group_thresholds.py runs/qc --records train_QC.txt
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from product_relevance.data.records import read_records
from product_relevance.evaluation.comparison import Difference, Judged, compare_models
from product_relevance.evaluation.metrics import best_threshold
from product_relevance.evaluation.reports.markdown_tables import metrics_table
from product_relevance.evaluation.thresholds import shrink_threshold
from product_relevance.text.taxonomy import split_path
from product_relevance.utils.options import Parser

PARTS = 5  # of the queries: thresholds of four are measured on the fifth
SHRINKAGES = (0, 100, 1000)


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="folder of a finished QC run, with its oof.parquet")
    parser.add_argument("--records", required=True, metavar="FILE", help="training file of the run")
    shrunk = "rows at which a group's own threshold and the global one count the same"
    parser.add_argument("--shrinkage", type=float, nargs="+", default=[*SHRINKAGES], help=shrunk)
    return parser


def read_groups(run: Path, records: str) -> pd.DataFrame:
    """Read the out-of-fold rows of a run with the groups of their records.

    Returns:
        label, score, query_digest, language, first level and leaf, one row per out-of-fold row.

    Raises:
        ValueError: A row whose id the records lack, or whose label differs there.
    """
    oof = pd.read_parquet(run / "oof.parquet")
    frame = read_records(records, task="QC", on_bad_rows="skip")
    frame = frame.set_index(frame["id"].astype(str)).reindex(oof["id"].astype(str)).reset_index(drop=True)
    if frame["target"].isna().any() or (frame["label"].to_numpy() != oof["label"].to_numpy()).any():
        raise ValueError(f"{records}: found other ids or labels than those of {run}, expected its training file")
    levels = [split_path(path) for path in frame["target"]]
    return oof.assign(first_level=[each[0] for each in levels], leaf=[each[-1] for each in levels])


def decide_by_group(rows: pd.DataFrame, by: str | None, shrinkage: float) -> np.ndarray:
    """Decide each row by thresholds that the queries of the other parts chose, for F1.

    Args:
        rows: of `read_groups`.
        by: column of the groups; None for one threshold.
        shrinkage: as in `thresholds.shrink_threshold`.

    Returns:
        Whether each row counts as relevant, shape (n,).
    """
    part = pd.util.hash_array(rows["query_digest"].to_numpy()) % PARTS
    relevant = np.zeros(len(rows), dtype=bool)
    for number in range(PARTS):
        fitted, here = rows[part != number], part == number
        whole = best_threshold(fitted["label"], fitted["score"])[0]
        limits = np.full(int(here.sum()), whole)
        for name, group in fitted.groupby(by) if by else ():
            own = best_threshold(group["label"], group["score"])[0] if group["label"].nunique() == 2 else whole
            limits[rows.loc[here, by] == name] = shrink_threshold(own, whole, len(group), shrinkage)
        relevant[here] = rows.loc[here, "score"].to_numpy() >= limits
    return relevant


def compare_groups(rows: pd.DataFrame, shrinkages: Sequence[float]) -> dict[tuple[str, float], Difference]:
    """Compare thresholds of each kind of group with one threshold: F1, with paired intervals over queries."""
    scores = rows["score"].to_numpy(float)
    plain = Judged(scores, decide_by_group(rows, None, 0))
    found = {}
    for by in ("language", "first_level", "leaf"):
        for shrinkage in shrinkages:
            other = Judged(scores, decide_by_group(rows, by, shrinkage))
            compared = compare_models(rows["label"], rows["query_digest"], plain, other)
            found[by, shrinkage] = compared.measures["f1"]
    return found


def main() -> None:
    """Print the table."""
    arguments = make_parser().parse_args()
    try:
        rows = read_groups(Path(arguments.run), arguments.records)
    except ValueError as error:
        sys.exit(str(error))
    lines = [
        {
            "thresholds by": by.replace("_", " "),
            "groups": rows[by].nunique(),
            "shrinkage": shrinkage,
            "F1": each.b,
            "less one threshold": f"{each.difference:+.4f} [{each.low:+.4f}, {each.high:+.4f}]",
        }
        for (by, shrinkage), each in compare_groups(rows, arguments.shrinkage).items()
    ]
    print(metrics_table(lines, [*lines[0]]))
    one = decide_by_group(rows, None, 0)
    print(
        f"\n{len(rows):,} rows, {rows['query_digest'].nunique():,} queries, {one.mean():.1%} relevant by one threshold"
    )


if __name__ == "__main__":
    main()
