"""Add variants of queries to prepared records: in other languages, translated there and back, or with noise.

python dataset_scripts/prepare.py sample/train_QC.txt --task QC --output prepared.parquet
python dataset_scripts/augment.py noise prepared.parquet --task QC --rate 0.1 --output noisy.parquet
python dataset_scripts/augment.py languages prepared.parquet --task QC --like sample/dev_QC.txt --share 0.1 \\
    --engine table --model translations.csv --output languages.parquet
"""

import argparse
import sys

ENGINES = ["seq2seq", "llm", "table"]


def make_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    methods = parser.add_subparsers(dest="method", required=True)
    languages = methods.add_parser("languages", help="translate queries into languages that training lacks")
    languages.add_argument("--languages", nargs="+", metavar="CODE[=SHARE]", help="to translate into")
    languages.add_argument(
        "--like", metavar="FILE", help="instead: languages that these records have and the others lack"
    )
    languages.add_argument("--share", type=float, default=0.1, help="rows a language, as a share of the originals")
    languages.add_argument("--cap", type=int, help="rows a language at most")
    languages.add_argument("--text", default="english", choices=["english", "query"], help="what is translated")
    _add_engine(languages, "table: CSV, TSV or Parquet with query, language (into which), translation")
    back = methods.add_parser("back", help="translate from English back into the query's language")
    back.add_argument("--share", type=float, default=0.1, help="rows, as a share of the originals")
    back.add_argument("--pivot", help="language that English queries go through")
    back.add_argument("--into_english", metavar="MODEL", help="of the same engine, for --pivot")
    _add_engine(back, "from English")
    noise = methods.add_parser("noise", help="typing errors, lost accents, cut and mixed words")
    noise.add_argument("--rate", type=float, default=0.1, help="share of the rows that get a variant")
    noise.add_argument("--kinds", nargs="+", help="of noise; all by default")
    for method in (languages, back, noise):
        method.add_argument("file", help="records that prepare.py wrote")
        method.add_argument("--task", required=True, choices=["QC", "QI"])
        method.add_argument("--output", required=True, help="Parquet to write: the records, then the variants")
        method.add_argument("--lowercase", action="store_true", help="as in prepare.py")
        method.add_argument("--seed", type=int, default=42)
    return parser


def _add_engine(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--engine", required=True, choices=ENGINES)
    parser.add_argument("--model", required=True, help=f"Hub id, folder, embedded:gemma-3-270m, or a table; {help}")
    parser.add_argument("--revision", help="commit, tag or branch of the model on the Hub")


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    try:
        augment(arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")


def augment(arguments) -> None:
    """Read, make variants, write, report.

    Raises:
        ValueError: records that are not prepared, an option out of its range, or an engine that cannot be used.
    """
    from product_relevance.provenance import read_prepared, write_rows

    frame = read_prepared(arguments.file, arguments.task)
    made = {"languages": _languages, "back": _back, "noise": _noise}[arguments.method](frame, arguments)
    write_rows(made, arguments.output)
    counts = ", ".join(f"{n} {what}" for found in made.attrs["made"].values() for what, n in found.items())
    print(f"{arguments.output}: {len(made)} rows; new: {counts}")


def _languages(frame, arguments):
    from product_relevance.coverage import add_languages

    options = {name: getattr(arguments, name) for name in ("text", "cap", "lowercase", "seed")}
    return add_languages(frame, _translator(arguments), _shares(frame, arguments), **options)


def _back(frame, arguments):
    from product_relevance.coverage import add_back_translations

    options = {name: getattr(arguments, name) for name in ("pivot", "lowercase", "seed")}
    if arguments.into_english:
        from product_relevance.translators import load_translator

        options["into_english"] = load_translator(arguments.engine, arguments.into_english)
    return add_back_translations(frame, _translator(arguments), arguments.share, **options)


def _noise(frame, arguments):
    from product_relevance.noise import add_noise

    return add_noise(frame, arguments.rate, arguments.kinds, lowercase=arguments.lowercase, seed=arguments.seed)


def _translator(arguments):
    if arguments.engine == "table":
        from product_relevance.coverage import from_language_table

        return from_language_table(arguments.model)
    from product_relevance.translators import load_translator

    return load_translator(arguments.engine, arguments.model, revision=arguments.revision, from_english=True)


def _shares(frame, arguments) -> dict[str, float]:
    if bool(arguments.languages) == bool(arguments.like):
        raise ValueError("give either --languages or --like: which languages to translate into")
    if arguments.like:
        from product_relevance.coverage import missing_languages
        from product_relevance.records import read_records

        other = read_records(arguments.like, task=arguments.task, role="test", on_bad_rows="skip")
        return dict.fromkeys(missing_languages(frame, other), arguments.share)
    pairs = [word.partition("=") for word in arguments.languages]
    try:
        return {code: float(share) if share else arguments.share for code, _, share in pairs}
    except ValueError:
        raise ValueError(f"--languages: found {' '.join(arguments.languages)}, expected codes, or as de=0.1") from None


if __name__ == "__main__":
    main()
