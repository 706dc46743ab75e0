"""The console command: `relevance predict | evaluate | decide | stack | export | serve | review | check | ...`."""

import sys
from argparse import ArgumentTypeError

from product_relevance.cli import commands as run
from product_relevance.data.arguments import MAX_MISSING, MISSING_HELP
from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser, add_source_flags


def main(argv: list[str] | None = None) -> None:
    """Run one subcommand; bad input ends with one clear line and exit code 1."""
    arguments = make_parser().parse_args(argv)
    console.start()
    try:
        with errors_in_one_line():
            arguments.run(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")


def make_parser() -> Parser:
    """Build the parser; nothing heavy is imported, so --help is instant."""
    parser = Parser(prog="relevance", description="Multilingual product-search relevance.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_predict(commands)
    _add_evaluate(commands)
    _add_decide(commands)
    _add_stack(commands)
    _add_take(commands)
    _add_export(commands)
    _add_serve(commands)
    check = _add(
        commands, "check", run.check, "check a submission against the file it answers; exit code 1 on any defect"
    )
    _add_records(check, "the competition's dev or test file")
    check.add_argument("submission", help="submit_QC.txt or submit_QI.txt")
    compare = _add(commands, "compare", run.compare, "share and examples of predictions that differ")
    compare.add_argument("a")
    compare.add_argument("b")
    compare.add_argument("--examples", type=int, default=10, help="how many to show (default 10)")
    pack = _add(commands, "zip", run.pack, "pack submit_QC.txt and submit_QI.txt for upload")
    pack.add_argument("files", nargs="+")
    pack.add_argument("--output", default="submit.zip")
    pack.add_argument("--overwrite", action="store_true")
    _add_review(commands)
    info = _add(commands, "info", run.info, "what a run holds: base, folds, template, thresholds, figures")
    _add_model(info)
    return parser


def _add(commands, name: str, run, text: str) -> Parser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _add_model(parser) -> None:
    parser.add_argument("model", help="run folder, downloaded folder, or Hub id")
    parser.add_argument("--revision", help="commit, tag or branch of the ensemble on the Hub")


def _merge_kind(value: str) -> str:
    if value == "vote":
        raise ArgumentTypeError("vote is no way to merge; give --vote majority instead")
    return value


def _add_scoring(parser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--merge",
        default="probabilities",
        type=_merge_kind,
        choices=["probabilities", "weights"],
        help="mean of the folds' probabilities (default), or one model with the mean of their weights",
    )
    _add_limit(parser)
    parser.add_argument("--vote", choices=["mean", "majority", "weighted"], help="how the folds' scores are combined")
    parser.add_argument("--threshold", default="f1", help="f1 (default), macro_f1, expected_f1, or a number to 1")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="of the base: auto, bfloat16, float32, nf4")
    compiled = "compile the model: minutes at first, for large files on a GPU (needs a C++ compiler)"
    parser.add_argument("--compile", action="store_true", help=compiled)
    _add_translation(parser)


def _add_translation(parser) -> None:
    parser.add_argument("--translation", help="none, column, or a table of translations (default: as in training)")
    allowed = f"{MISSING_HELP} (default {MAX_MISSING})"
    parser.add_argument("--max_missing_translations", type=float, default=MAX_MISSING, help=allowed)


def _add_records(parser, text: str) -> None:
    parser.add_argument("file", help=text)
    add_source_flags(parser, "file")


def _add_bad_rows(parser, text: str) -> None:
    parser.add_argument("--on_bad_rows", default="error", choices=["error", "skip"], help=text)


def _add_limit(parser) -> None:
    parser.add_argument(
        "--max_disagreement",
        type=float,
        default=0.02,
        help="how far mean weights may be from the mean probabilities on the canary pairs (default 0.02)",
    )


def _add_predict(commands) -> None:
    predict = _add(commands, "predict", run.predict, "score a file with the ensemble and write a submission")
    _add_scoring(predict)
    _add_records(predict, "records; labels in it are not read, each id gets a prediction")
    written = "submission, as submit_QC.txt, or a table: .csv .tsv .parquet; probabilities go beside it"
    predict.add_argument("--output", required=True, help=written)
    _add_bad_rows(predict, "error (default): stop; skip: predict them as far as they can be read")
    predict.add_argument("--chunk_rows", type=int, default=5000, help="rows between two safe points (default 5000)")
    predict.add_argument("--shards", type=int, help="split the file into N parts: docs/how-to/large-files.md")
    workers = "processes, one a GPU; cut the file into as many parts where --shards is not given (default 1)"
    predict.add_argument("--workers", type=int, default=1, help=workers)
    predict.add_argument("--overwrite", action="store_true", help="replace the output")
    steps = "yes/no runs whose prompt holds {reasoning}: tokens that the model may write before it answers (default 0)"
    predict.add_argument("--reasoning_tokens", type=int, default=0, help=steps)


def _add_evaluate(commands) -> None:
    evaluate = _add(commands, "evaluate", run.evaluate, "measure folds and ensemble on a labelled file")
    _add_scoring(evaluate)
    _add_records(evaluate, "labelled records")
    _add_bad_rows(evaluate, "error (default): stop; skip: put them aside as rejects, and measure on the others")
    evaluate.add_argument("--json", dest="as_json", action="store_true", help="print all figures as JSON only")


def _add_cuts(parser) -> None:
    parser.add_argument("--threshold_by", default="global", choices=["global", "language"], help="default global")
    parser.add_argument("--shrinkage", type=float, default=1000, help="rows that outweigh a language's own cut")


def _add_match(parser) -> None:
    parser.add_argument("--unlabelled", help="new records to measure how narrow the mean of the folds is")
    parser.add_argument("--match", default="folds", choices=["folds", "training"], help="what to move the mean to")
    add_source_flags(parser, "--unlabelled")
    _add_translation(parser)
    _add_bad_rows(parser, "of --unlabelled; error (default): stop; skip: score the others")


def _add_decide(commands) -> None:
    decide = _add(commands, "decide", run.decide, "choose calibration and thresholds of a run by out-of-fold scores")
    decide.add_argument("run_folder", help="folder of the run; its run.json and report.md are written anew")
    decide.add_argument("--calibration", default="isotonic", choices=["none", "temperature", "isotonic"])
    _add_cuts(decide)
    _add_match(decide)
    decide.add_argument("--dry_run", action="store_true", help="compare and write nothing")


def _add_stack(commands) -> None:
    stack = _add(commands, "stack", run.stack, "join runs by a logistic regression on their out-of-fold scores")
    stack.add_argument("runs", nargs="+", help="run folders: one task, data set and division into folds")
    stack.add_argument("--output", required=True, help="folder for `relevance predict` and `relevance evaluate`")
    _add_cuts(stack)
    _add_match(stack)
    stack.add_argument("--overwrite", action="store_true", help="replace a stack")


def _add_take(commands) -> None:
    take = _add(commands, "take", run.take, "take one task out of a run of both, as a run of its own")
    take.add_argument("run_folder", help="folder of a run trained with --task QC,QI")
    take.add_argument("task", choices=["QC", "QI"])
    take.add_argument("--output", required=True, help="folder of the new run")
    take.add_argument("--overwrite", action="store_true", help="replace an output that is there")


def _add_serve(commands) -> None:
    serve = _add(commands, "serve", run.serve, "answer requests over HTTP: /predict, /rerank, /health, /metrics")
    _add_model(serve)
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--max_pairs", type=int, help="pairs a request (default 32, or RELEVANCE_MAX_PAIRS)")
    serve.add_argument("--max_queue", type=int, default=512, help="requests that may wait (default 512)")
    serve.add_argument("--timeout", type=float, default=30, help="seconds a request (default 30)")
    serve.add_argument("--max_connections", type=int, default=512, help="open at once (default 512)")
    waits = "seconds for a request's headers to come and for an answer to be read (default 10)"
    serve.add_argument("--header_timeout", type=float, default=10, help=waits)
    serve.add_argument("--keep_alive", type=float, default=5, help="seconds between two requests (default 5)")
    serve.add_argument("--batch_window_ms", type=float, default=5, help="wait for requests to join (default 5)")
    serve.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU when there is one)")
    serve.add_argument("--dtype", default="auto", help="of the base: auto, bfloat16, float32, nf4")


def _add_export(commands) -> None:
    export = _add(commands, "export", run.export, "write one plain transformers classifier for other programs")
    _add_model(export)
    export.add_argument("--output", required=True, help="folder of the model")
    export.add_argument("--fold", help="this fold alone, as fold-0 (default: the mean weights of all folds)")
    _add_limit(export)
    export.add_argument("--dtype", default="float32", help="of the written weights: float32, bfloat16, float16")
    graph = "write an ONNX graph too: float32, or int8 (faster, scores within --max_disagreement)"
    export.add_argument("--onnx", choices=["float32", "int8"], help=graph)
    export.add_argument("--overwrite", action="store_true", help="replace an earlier export")


def _add_review(commands) -> None:
    review = _add(commands, "review", run.review, "open a local page to keep, flip or drop rows with doubtful labels")
    review.add_argument("table", help="review table of dataset_scripts/filter.py, or a run folder")
    review.add_argument("--records", help="the records that the run was trained on; only for a run folder")
    add_source_flags(review, "--records")
    _add_bad_rows(review, "of --records; error (default): stop; skip: put them aside as rejects")
    review.add_argument("--decisions", default="decisions.jsonl", help="file to append to (default decisions.jsonl)")
    review.add_argument("--by", default="reviewer", help="who decides; written with each decision")
    review.add_argument("--port", type=int, help="on 127.0.0.1 (default: the first free one from 8501 on)")


if __name__ == "__main__":
    main()
