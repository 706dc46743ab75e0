"""List rows whose label a run's out-of-fold scores contradict; drop, flip or down-weight them only when asked.

python dataset_scripts/filter.py runs/qc train_QC.txt --output review.parquet
relevance review review.parquet --decisions decisions.jsonl
python dataset_scripts/filter.py runs/qc train_QC.txt --output review.parquet --apply decisions.jsonl \
    --filtered filtered.parquet
"""

import argparse
import sys

ACTIONS = ("drop", "flip", "down_weight")


def make_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="run folder with trained folds")
    parser.add_argument("records", help="the records that the run was trained on, raw or prepared")
    parser.add_argument("--output", required=True, help="review table to write (Parquet)")
    parser.add_argument("--method", default="self", choices=["self", "cleanlab"])
    parser.add_argument("--cut", type=float, default=0.9, help="self: probability of the other label (default 0.9)")
    parser.add_argument(
        "--cut_of", action="append", default=[], metavar="KEY=CUT", help="self: another cut for 1, de or de/1"
    )
    parser.add_argument("--filter_by", default="prune_by_noise_rate", help="cleanlab: its rule")
    parser.add_argument("--by_language", action="store_true", help="cleanlab: estimate noise language by language")
    parser.add_argument("--on_bad_rows", default="error", choices=["error", "skip"])
    parser.add_argument(
        "--apply", metavar="ACTION_OR_FILE", help="drop, flip or down_weight every listed row, or a decisions file"
    )
    parser.add_argument("--weight", type=float, default=0.5, help="of down_weight (default 0.5)")
    parser.add_argument("--filtered", help="with --apply: records to write (Parquet), with a column weight")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    try:
        filter_rows(arguments)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def filter_rows(arguments) -> None:
    """Read, list, write the table, and apply what was asked for.

    Raises:
        ValueError: bad records, run, options or decisions.
    """
    from product_relevance import label_noise
    from product_relevance.records import read_records

    if bool(arguments.apply) != bool(arguments.filtered):
        raise ValueError("--apply and --filtered go together: what to do, and the file for the result")
    frame = read_records(arguments.records, role="train", on_bad_rows=arguments.on_bad_rows)
    scored = label_noise.join_scores(frame, label_noise.read_scores(arguments.run))
    table = _listed(scored, arguments)
    _write(table, arguments.output)
    print(f"{len(frame):,} rows, {len(scored):,} of them with an out-of-fold score\n{_told(table, scored)}")
    print(f"{arguments.output}: {len(table):,} rows to review")
    if arguments.apply:
        _write_filtered(frame, table, arguments)


def _listed(scored, arguments):
    from product_relevance import label_noise

    if arguments.method == "cleanlab":
        return label_noise.confident_learning(scored, arguments.filter_by, arguments.by_language)
    cuts = {"*": arguments.cut}
    for item in arguments.cut_of:
        key, _, cut = item.partition("=")
        try:
            cuts[key] = float(cut)
        except ValueError:
            raise ValueError(f"--cut_of: found {item!r}, expected KEY=CUT such as de/1=0.95") from None
    return label_noise.self_validation(scored, cuts)


def _told(table, scored) -> str:
    from product_relevance import label_noise

    if table.empty:
        most = label_noise.contradiction(scored).max()
        return f"no row is listed; the most contradicted one has {most:.3f} for the other label"
    counts = label_noise.summary(table, scored)
    counts["share"] = counts["share"].map("{:.2%}".format)
    return counts.to_string(index=False)


def _write_filtered(frame, table, arguments) -> None:
    from product_relevance import decisions
    from product_relevance.provenance import write_rows

    if arguments.apply in ACTIONS:
        weight = arguments.weight if arguments.apply == "down_weight" else None
        by = table["reason"].iloc[0].partition(":")[0] if len(table) else arguments.method
        rows = zip(table["id"], table["label"], strict=True)
        made = {str(i): decisions.make(i, arguments.apply, label, by, weight) for i, label in rows}
    else:
        made = _read_decisions(arguments.apply)
    changed, counts = decisions.apply(frame, made)
    write_rows(changed, arguments.filtered)
    print(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))
    undecided = len(table) - int(table["id"].astype(str).isin(made).sum())
    print(f"listed rows without a decision: {undecided:,}, kept as they are")
    print(f"positive: {frame['label'].mean():.2%} before, {changed['label'].mean():.2%} after")
    print(f"{arguments.filtered}: {len(changed):,} rows")


def _read_decisions(path: str) -> dict:
    from pathlib import Path

    from product_relevance import decisions

    if not Path(path).is_file():
        raise ValueError(f"--apply: found {path!r}, expected {', '.join(ACTIONS)}, or a decisions file")
    return decisions.read(path)


def _write(frame, path: str) -> None:
    from product_relevance.files import atomic_write

    with atomic_write(path, "wb") as file:
        frame.to_parquet(file, index=False)


if __name__ == "__main__":
    main()
