"""Add the columns and the fold to a file of records and write Parquet, which train_relevance.py takes as it is.

python dataset_scripts/prepare.py sample/train_QC.txt --task QC --output prepared.parquet
"""

import argparse
import sys


def make_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", help="records: .txt .jsonl .csv .tsv .parquet, folder or Hub id")
    parser.add_argument("--task", required=True, choices=["QC", "QI"])
    parser.add_argument("--output", required=True, help="Parquet to write")
    parser.add_argument("--role", default="train", choices=["train", "test"], help="test rows are never dropped")
    parser.add_argument("--on_bad_rows", default="error", choices=["error", "skip"])
    parser.add_argument("--lowercase", action="store_true")
    parser.add_argument("--language_fix", default="identify", choices=["none", "identify", "translation"])
    parser.add_argument("--translation", default="none", help="none, column, or a CSV/TSV/Parquet of translations")
    parser.add_argument("--num_folds", type=int, default=3)
    parser.add_argument("--group_by", default="query", choices=["query", "prefix", "query+prefix"])
    parser.add_argument("--prefix_levels", type=int, default=2)
    parser.add_argument("--fold_seed", type=int, default=42)
    parser.add_argument("--taxonomy_of", help="training records (QC): report which paths of FILE they know")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    try:
        prepare(arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")


def prepare(arguments) -> None:
    """Read, add columns and folds, report, write.

    Raises:
        ValueError: bad records, or a leak between folds.
    """
    from product_relevance import data
    from product_relevance.folds import assign_folds, training_rows
    from product_relevance.leakage import require_no_leak
    from product_relevance.provenance import write_rows
    from product_relevance.records import read_records

    frame = read_records(arguments.file, task=arguments.task, role=arguments.role, on_bad_rows=arguments.on_bad_rows)
    frame = data.add_all(frame, arguments.lowercase, arguments.language_fix, arguments.translation)
    if arguments.taxonomy_of:
        print(_known_paths(arguments.taxonomy_of, frame))
    if arguments.role == "train":
        by = (arguments.group_by, arguments.prefix_levels)
        frame["fold"] = assign_folds(frame, arguments.num_folds, *by, arguments.fold_seed)
        for k in range(arguments.num_folds):
            train, purged = training_rows(frame, frame["fold"].to_numpy(), k, arguments.group_by)
            report = require_no_leak(frame, train, (frame["fold"] == k).to_numpy(), *by)
            print(f"fold {k}, {purged} training rows purged\n{report.to_text()}\n")
    write_rows(frame, arguments.output)
    print(f"{arguments.output}: {len(frame)} rows")


def _known_paths(training_file: str, frame) -> str:
    from product_relevance.records import read_records
    from product_relevance.taxonomy import Taxonomy

    tree = Taxonomy.from_paths(read_records(training_file, task="QC", role="any")["target"])
    found = tree.report(frame["target"])
    counts = found.groupby("match").agg(paths=("path", "size"), rows=("rows", "sum"))
    return f"known paths {len(tree.paths)}, by depth {tree.depths}\n{counts.to_string()}\n"


if __name__ == "__main__":
    main()
