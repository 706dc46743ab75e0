"""The console command: `relevance predict | evaluate | decide | stack | export | serve | review | check | ...`."""

import argparse
import sys


def main(argv: list[str] | None = None) -> None:
    """Run one subcommand; bad input ends with one clear line and exit code 1."""
    arguments = make_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")


def make_parser() -> argparse.ArgumentParser:
    """Build the parser; nothing heavy is imported, so --help is instant."""
    parser = argparse.ArgumentParser(prog="relevance", description="Multilingual product-search relevance.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_predict(commands)
    _add_evaluate(commands)
    _add_decide(commands)
    _add_stack(commands)
    _add_export(commands)
    _add_serve(commands)
    check = _add(
        commands, "check", _check, "check a submission against the file it answers; exit code 1 on any defect"
    )
    check.add_argument("file", help="the competition's dev or test file")
    check.add_argument("submission", help="submit_QC.txt or submit_QI.txt")
    compare = _add(commands, "compare", _compare, "share and examples of predictions that differ")
    compare.add_argument("a")
    compare.add_argument("b")
    compare.add_argument("--examples", type=int, default=10, help="how many to show (default 10)")
    pack = _add(commands, "zip", _zip, "pack submit_QC.txt and submit_QI.txt for upload")
    pack.add_argument("files", nargs="+")
    pack.add_argument("--output", default="submit.zip")
    pack.add_argument("--overwrite", action="store_true")
    _add_review(commands)
    info = _add(commands, "info", _info, "what a run holds: base, folds, template, thresholds, figures")
    _add_model(info)
    return parser


def _add(commands, name: str, run, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _add_model(parser) -> None:
    parser.add_argument("model", help="run folder, downloaded folder, or Hub id")
    parser.add_argument("--revision", help="commit, tag or branch of the ensemble on the Hub")


def _add_scoring(parser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--merge",
        default="probabilities",
        choices=["probabilities", "weights", "vote"],
        help="mean of the folds' probabilities (default); one model with the mean of their weights; majority vote",
    )
    _add_limit(parser)
    parser.add_argument("--vote", choices=["mean", "majority", "weighted"], help="how the folds' scores are combined")
    parser.add_argument("--threshold", default="f1", help="f1 (default), macro_f1, expected_f1, or a number to 1")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="of the base: auto, bfloat16, float32")
    parser.add_argument("--translation", help="none, column, or a table of translations (default: as in training)")


def _add_limit(parser) -> None:
    parser.add_argument(
        "--max_disagreement",
        type=float,
        default=0.02,
        help="how far mean weights may be from the mean probabilities on the canary pairs (default 0.02)",
    )


def _add_predict(commands) -> None:
    predict = _add(commands, "predict", _predict, "score a file with the ensemble and write a submission")
    _add_scoring(predict)
    predict.add_argument("file", help="records with or without labels; each id gets a prediction")
    predict.add_argument("--output", required=True, help="submission, as submit_QC.txt; probabilities go beside it")
    predict.add_argument("--chunk_rows", type=int, default=5000, help="rows between two safe points (default 5000)")
    predict.add_argument("--overwrite", action="store_true", help="replace the output")
    steps = "yes/no runs whose prompt holds {reasoning}: tokens that the model may write before it answers (default 0)"
    predict.add_argument("--reasoning_tokens", type=int, default=0, help=steps)


def _add_evaluate(commands) -> None:
    evaluate = _add(commands, "evaluate", _evaluate, "measure folds and ensemble on a labelled file")
    _add_scoring(evaluate)
    evaluate.add_argument("file", help="labelled records")
    evaluate.add_argument("--json", dest="as_json", action="store_true", help="print all figures as JSON only")


def _add_cuts(parser) -> None:
    parser.add_argument("--threshold_by", default="global", choices=["global", "language"], help="default global")
    parser.add_argument("--shrinkage", type=float, default=1000, help="rows that outweigh a language's own cut")


def _add_decide(commands) -> None:
    decide = _add(commands, "decide", _decide, "choose calibration and thresholds of a run by out-of-fold scores")
    decide.add_argument("run_folder", help="folder of the run; its run.json and report.md are written anew")
    decide.add_argument("--calibration", default="isotonic", choices=["none", "temperature", "isotonic"])
    _add_cuts(decide)
    decide.add_argument("--unlabelled", help="new records to measure how narrow the mean of the folds is")
    decide.add_argument("--match", default="folds", choices=["folds", "training"], help="what to move the mean to")
    decide.add_argument("--dry_run", action="store_true", help="compare and write nothing")


def _add_stack(commands) -> None:
    stack = _add(commands, "stack", _stack, "join runs by a logistic regression on their out-of-fold scores")
    stack.add_argument("runs", nargs="+", help="run folders: one task, data set and division into folds")
    stack.add_argument("--output", required=True, help="folder for `relevance predict` and `relevance evaluate`")
    _add_cuts(stack)
    stack.add_argument("--overwrite", action="store_true", help="replace a stack")


def _add_serve(commands) -> None:
    serve = _add(commands, "serve", _serve, "answer requests over HTTP: /predict, /rerank, /health, /metrics")
    _add_model(serve)
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--max_pairs", type=int, help="pairs a request (default 32, or RELEVANCE_MAX_PAIRS)")
    serve.add_argument("--max_queue", type=int, default=512, help="requests that may wait (default 512)")
    serve.add_argument("--timeout", type=float, default=30, help="seconds a request (default 30)")
    serve.add_argument("--batch_window_ms", type=float, default=5, help="wait for requests to join (default 5)")
    serve.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU when there is one)")
    serve.add_argument("--dtype", default="auto", help="of the base: auto, bfloat16, float32")


def _add_export(commands) -> None:
    export = _add(commands, "export", _export, "write one plain transformers classifier, which others load as it is")
    _add_model(export)
    export.add_argument("--merged", action="store_true", required=True, help="merge adapter and base into one model")
    export.add_argument("--output", required=True, help="folder of the model")
    export.add_argument("--fold", help="this fold alone, as fold-0 (default: the mean weights of all folds)")
    _add_limit(export)
    export.add_argument("--dtype", default="float32", help="of the written weights: float32, bfloat16, float16")
    export.add_argument("--overwrite", action="store_true", help="replace an earlier export")


def _load(arguments):
    from product_relevance import stacking
    from product_relevance.ensemble import RelevanceEnsemble

    options = {key: getattr(arguments, key) for key in ("merge", "device", "dtype", "max_disagreement")}
    if stacking.is_stack(arguments.model):
        if getattr(arguments, "reasoning_tokens", 0):
            raise ValueError("--reasoning_tokens: a stack was made of scores without reasoning; give one of its runs")
        return stacking.RelevanceStack.from_pretrained(arguments.model, **options)
    options["reasoning_tokens"] = getattr(arguments, "reasoning_tokens", 0)
    return RelevanceEnsemble.from_pretrained(arguments.model, revision=arguments.revision, **options)


def _decide(arguments) -> None:
    from product_relevance import nested

    scored, choice = None, (arguments.calibration, arguments.threshold_by, arguments.shrinkage)
    if arguments.unlabelled:
        from product_relevance.prediction import score_unlabelled

        scored = score_unlabelled(arguments.run_folder, arguments.unlabelled)
    print(nested.decide_run(arguments.run_folder, *choice, scored, arguments.match, arguments.dry_run))


def _stack(arguments) -> None:
    from product_relevance import stacking

    choice = arguments.threshold_by, arguments.shrinkage, arguments.overwrite
    print(stacking.stack_runs(arguments.runs, arguments.output, *choice))


def _predict(arguments) -> None:
    from product_relevance.prediction import predict_file

    written = predict_file(
        _load(arguments),
        arguments.file,
        arguments.output,
        vote=arguments.vote,
        threshold=arguments.threshold,
        translation=arguments.translation,
        chunk_rows=arguments.chunk_rows,
        overwrite=arguments.overwrite,
    )
    print(written)


def _evaluate(arguments) -> None:
    import json

    from product_relevance.evaluation import evaluate_file, evaluation_table

    figures = evaluate_file(
        _load(arguments),
        arguments.file,
        vote=arguments.vote,
        threshold=arguments.threshold,
        translation=arguments.translation,
    )
    if not arguments.as_json:
        print(evaluation_table(figures))
    else:
        print(json.dumps(figures, ensure_ascii=False))


def _export(arguments) -> None:
    from product_relevance.export import export

    written = export(
        arguments.model,
        arguments.output,
        fold=arguments.fold,
        revision=arguments.revision,
        dtype=arguments.dtype,
        overwrite=arguments.overwrite,
        max_disagreement=arguments.max_disagreement,
    )
    print(written)


def _serve(arguments) -> None:
    try:
        from product_relevance import server
    except ModuleNotFoundError as error:
        raise ValueError(f"serve needs {error.name}: pip install 'product-relevance[serve]'") from None
    from product_relevance.ensemble import RelevanceEnsemble

    window = arguments.batch_window_ms / 1000
    settings = server.Settings(
        server.limits(arguments.max_pairs), max_queue=arguments.max_queue, timeout=arguments.timeout, window=window
    )
    options = {"revision": arguments.revision, "device": arguments.device, "dtype": arguments.dtype}
    ensemble = RelevanceEnsemble.from_pretrained(arguments.model, **options)
    server.serve(ensemble, settings, arguments.host, arguments.port)


def _add_review(commands) -> None:
    review = _add(commands, "review", _review, "open a local page to keep, flip or drop rows with doubtful labels")
    review.add_argument("table", help="review table of dataset_scripts/filter.py, or a run folder")
    review.add_argument("--records", help="the records that the run was trained on; only for a run folder")
    review.add_argument("--decisions", default="decisions.jsonl", help="file to append to (default decisions.jsonl)")
    review.add_argument("--by", default="reviewer", help="who decides; written with each decision")
    review.add_argument("--port", type=int, help="on 127.0.0.1 (default: the first free one from 8501 on)")


def _review(arguments) -> None:
    from product_relevance.review import review

    review(arguments.table, arguments.decisions, arguments.by, arguments.records, arguments.port)


def _check(arguments) -> None:
    from product_relevance.submission import check_submission

    defects = check_submission(arguments.file, arguments.submission)
    for defect in defects:
        print(defect)
    if defects:
        sys.exit(f"{arguments.submission}: {len(defects)} defects")
    print(f"{arguments.submission}: passed")


def _compare(arguments) -> None:
    import json

    from product_relevance.submission import compare_submissions

    found = compare_submissions(arguments.a, arguments.b, arguments.examples)
    print(f"{found['differing']} of {found['rows']} predictions differ ({found['share']:.2%})")
    for language, part in found["by_language"].items():
        print(f"  {language:<4} {part['differing']:>6} of {part['rows']:>6} ({part['share']:.2%})")
    for example in found["examples"]:
        print("  " + json.dumps(example, ensure_ascii=False))


def _zip(arguments) -> None:
    from product_relevance.submission import zip_submission

    print(zip_submission(arguments.files, arguments.output, overwrite=arguments.overwrite))


def _info(arguments) -> None:
    from product_relevance import info, locate, stacking

    if stacking.is_stack(arguments.model):
        lines = info.stack_lines(stacking.RelevanceStack.from_pretrained(arguments.model).run)
    else:
        lines = info.run_lines(locate.read_run(arguments.model, arguments.revision))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
