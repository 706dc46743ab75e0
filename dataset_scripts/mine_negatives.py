"""Add negatives to prepared records: targets near to a positive's query in meaning (hard), or far from it (easy).

python dataset_scripts/prepare.py sample/train_QC.txt --task QC --output prepared.parquet
python dataset_scripts/mine_negatives.py hard prepared.parquet --task QC --output with_hard.parquet
python dataset_scripts/mine_negatives.py easy with_hard.parquet --task QC --negative_share 0.5 --output all.parquet
"""

import argparse
import sys


def make_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    hard = kinds.add_parser("hard", help="near to the query in meaning, inside a band of similarity")
    hard.add_argument("--band", type=float, nargs=2, metavar=("LOW", "HIGH"), help="similarity of query and negative")
    hard.add_argument("--margin", type=float, default=0.01, help="by how much less similar than the positive; -1: any")
    hard.add_argument("--pool", type=int, default=20, help="drawn among this many nearest in the band; 1: the nearest")
    hard.add_argument("--veto", metavar="RUN", help="a run whose ensemble turns down what it finds relevant")
    hard.add_argument("--veto_limit", type=float, default=0.5, help="probability above which it does")
    hard.add_argument("--relatives", action="store_true", help="allow ancestors and descendants of positives (QC)")
    easy = kinds.add_parser("easy", help="random: of another first level (QC), or of low similarity (QI)")
    easy.add_argument("--max_similarity", type=float, default=0.80, help="of query and negative (QI)")
    for kind in (hard, easy):
        _add_common(kind)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="records that prepare.py wrote")
    parser.add_argument("--task", required=True, choices=["QC", "QI"])
    parser.add_argument("--output", required=True, help="Parquet to write: the records, then the negatives")
    parser.add_argument("--unit", default="similarity", choices=["similarity", "quantile"], help="of the limits")
    parser.add_argument("--per_positive", type=int, default=1, help="negatives a positive at most")
    parser.add_argument("--negative_share", type=float, help="in each language, stop at this share of negatives")
    parser.add_argument(
        "--group_by", default="query", choices=["query", "prefix", "query+prefix"], help="as in prepare.py"
    )
    parser.add_argument("--prefix_levels", type=int, default=2, help="as in prepare.py")
    parser.add_argument("--max_targets", type=int, default=20_000, help="targets to take negatives from")
    parser.add_argument("--encoder", default="embedded:e5-small", help="or a sentence-transformers folder or Hub id")
    parser.add_argument("--encoder_revision", help="commit, tag or branch of the encoder on the Hub")
    parser.add_argument("--prefixes", nargs=2, metavar=("QUERY", "TARGET"), help='written before texts: "query: " ...')
    parser.add_argument("--seed", type=int, default=42)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    try:
        mine(arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")


def mine(arguments) -> None:
    """Read, mine, write, report.

    Raises:
        ValueError: records that are not prepared, or an option out of its range.
    """
    from product_relevance.candidates import Plan
    from product_relevance.provenance import read_prepared, write_rows

    names = ("per_positive", "negative_share", "group_by", "prefix_levels", "max_targets", "seed")
    plan = Plan(**{name: getattr(arguments, name) for name in names})
    frame = read_prepared(arguments.file, arguments.task)
    made = _hard(frame, plan, arguments) if arguments.kind == "hard" else _easy(frame, plan, arguments)
    write_rows(made, arguments.output)
    shares = made.groupby("language")["label"].apply(lambda labels: (labels == 0).mean())
    print(f"{arguments.output}: {len(made)} rows, {len(made) - len(frame)} of them new {arguments.kind} negatives")
    print("label 0: " + ", ".join(f"{code} {share:.1%}" for code, share in shares.items()))


def _hard(frame, plan, arguments):
    from product_relevance.negatives import mine_hard_negatives

    veto = None
    if arguments.veto:
        from product_relevance.ensemble import RelevanceEnsemble

        veto = RelevanceEnsemble.from_pretrained(arguments.veto)
    names = ("unit", "pool", "veto_limit", "relatives")
    options = {name: getattr(arguments, name) for name in names} | {"veto": veto}
    options |= {"band": arguments.band, "margin": None if arguments.margin < 0 else arguments.margin}
    return mine_hard_negatives(frame, _encoder(arguments), plan, **options)


def _easy(frame, plan, arguments):
    from product_relevance.negatives import mine_easy_negatives

    encode = _encoder(arguments) if arguments.task == "QI" else None
    limits = {"max_similarity": arguments.max_similarity, "unit": arguments.unit}
    return mine_easy_negatives(frame, encode, plan, **limits)


def _encoder(arguments):
    from product_relevance.encoder import SIDES, load_encoder

    prefixes = dict(zip(SIDES, arguments.prefixes, strict=True)) if arguments.prefixes else None
    return load_encoder(arguments.encoder, arguments.encoder_revision, prefixes=prefixes)


if __name__ == "__main__":
    main()
