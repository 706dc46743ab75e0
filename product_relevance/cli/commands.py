"""What each subcommand of `relevance` does; heavy imports wait until one runs."""

import sys

from product_relevance.utils.extras import how_to_install


def _score(arguments):
    from dataclasses import fields

    from product_relevance.sharding.jobs import Score

    given = vars(arguments)
    return Score(**{field.name: given[field.name] for field in fields(Score) if field.name in given})


def _load(arguments):
    return _score(arguments).load()


def _source(arguments, name: str):
    from product_relevance.data.sources.tables import Source

    return Source(name, arguments.split, arguments.data_revision)


def _reading(arguments) -> dict:
    names = ("translation", "max_missing_translations", "on_bad_rows")
    return {name: getattr(arguments, name) for name in names}


def _require(source, translation: str | None = None) -> None:
    """Refuse files that are not there before a model is loaded, which takes long."""
    from pathlib import Path

    from product_relevance.data.sources.readers import require_source

    require_source(source)
    if translation not in (None, "none", "column") and not Path(translation).is_file():
        raise ValueError(f"--translation {translation}: found no such file, expected none, column, or a table")


def decide(arguments) -> None:
    """Choose calibration and cuts of a run."""
    from product_relevance.evaluation import decision

    scored, choice = None, (arguments.calibration, arguments.threshold_by, arguments.shrinkage)
    if arguments.unlabelled:
        _require(arguments.unlabelled)
        from product_relevance.ensemble.predict_file import score_unlabelled

        scored = score_unlabelled(
            arguments.run_folder, _source(arguments, arguments.unlabelled), **_reading(arguments)
        )
    print(decision.decide_run(arguments.run_folder, *choice, scored, arguments.match, arguments.dry_run))


def stack(arguments) -> None:
    """Join runs."""
    from product_relevance.ensemble import stack as stacking

    scored = None
    if arguments.unlabelled:
        _require(arguments.unlabelled)
        from product_relevance.ensemble.predict_file import score_unlabelled

        source, read = _source(arguments, arguments.unlabelled), _reading(arguments)
        scored = [score_unlabelled(run, source, **read) for run in arguments.runs]
    choice = arguments.threshold_by, arguments.shrinkage, arguments.overwrite
    print(stacking.stack_runs(arguments.runs, arguments.output, *choice, scored, arguments.match))


def take(arguments) -> None:
    """Take one task out of a run of both."""
    from product_relevance.ensemble.extract_task import take

    print(take(arguments.run_folder, arguments.task, arguments.output, arguments.overwrite))


def predict(arguments) -> None:
    """Score a file."""
    if arguments.shards is not None or arguments.workers > 1:
        return _predict_shards(arguments)
    from product_relevance.ensemble.outputs import require_format

    require_format(arguments.output)
    _require(arguments.file, arguments.translation)
    from product_relevance.ensemble.predict_file import predict_file

    written = predict_file(
        _load(arguments),
        _source(arguments, arguments.file),
        arguments.output,
        vote=arguments.vote,
        threshold=arguments.threshold,
        **_reading(arguments),
        chunk_rows=arguments.chunk_rows,
        overwrite=arguments.overwrite,
    )
    print(written)


def _predict_shards(arguments) -> None:
    from product_relevance.sharding import jobs

    if arguments.split or arguments.data_revision:
        raise ValueError("--shards, --workers: only files are cut; leave --split and --data_revision out")
    number = arguments.workers if arguments.shards is None else arguments.shards
    where = arguments.file, arguments.output, number, arguments.workers, arguments.overwrite
    print(jobs.predict_shards(_score(arguments), *where))


def evaluate(arguments) -> None:
    """Measure on a labelled file."""
    import json

    _require(arguments.file, arguments.translation)
    from product_relevance.ensemble.evaluate_file import evaluate_file, evaluation_table

    figures = evaluate_file(
        _load(arguments),
        _source(arguments, arguments.file),
        vote=arguments.vote,
        threshold=arguments.threshold,
        **_reading(arguments),
    )
    if not arguments.as_json:
        print(evaluation_table(figures))
    else:
        print(json.dumps(figures, ensure_ascii=False))


def export(arguments) -> None:
    """Write one plain classifier."""
    from product_relevance.serving.export import export

    written = export(
        arguments.model,
        arguments.output,
        fold=arguments.fold,
        revision=arguments.revision,
        dtype=arguments.dtype,
        overwrite=arguments.overwrite,
        max_disagreement=arguments.max_disagreement,
        onnx=arguments.onnx,
    )
    print(written)


def serve(arguments) -> None:
    """Answer requests over HTTP."""
    try:
        from product_relevance.serving import server
    except ModuleNotFoundError as error:
        raise ValueError(f"serve needs {error.name}: {how_to_install('serve')}") from None
    from product_relevance.ensemble.ensemble import RelevanceEnsemble

    window = arguments.batch_window_ms / 1000
    settings = server.Settings(
        server.limits(arguments.max_pairs),
        max_queue=arguments.max_queue,
        timeout=arguments.timeout,
        window=window,
        max_connections=arguments.max_connections,
        header_timeout=arguments.header_timeout,
        keep_alive=arguments.keep_alive,
    )
    options = {"revision": arguments.revision, "device": arguments.device, "dtype": arguments.dtype}
    ensemble = RelevanceEnsemble.from_pretrained(arguments.model, **options).of_task(None)
    server.serve(ensemble, settings, arguments.host, arguments.port)


def review(arguments) -> None:
    """Open the page for doubtful labels."""
    from product_relevance.preparation.labels.review_page import review

    where, records = (arguments.table, arguments.decisions, arguments.by), arguments.records
    review(*where, records and _source(arguments, records), arguments.port, arguments.on_bad_rows)


def check(arguments) -> None:
    """Check a submission; exit code 1 on any defect."""
    from product_relevance.data.sources.defects import SHOWN_DEFECTS
    from product_relevance.data.submission import check_submission

    defects = check_submission(_source(arguments, arguments.file), arguments.submission)
    for defect in defects[:SHOWN_DEFECTS]:
        print(defect)
    if defects:
        first = f", of which the first {SHOWN_DEFECTS} are above" if len(defects) > SHOWN_DEFECTS else ""
        sys.exit(f"{arguments.submission}: {len(defects):,} defects{first}")
    print(f"{arguments.submission}: passed")


def compare(arguments) -> None:
    """Show where two submissions differ."""
    import json

    from product_relevance.data.submission import compare_submissions

    found = compare_submissions(arguments.a, arguments.b, arguments.examples)
    print(f"{found['differing']} of {found['rows']} predictions differ ({found['share']:.2%})")
    for language, part in found["by_language"].items():
        print(f"  {language:<4} {part['differing']:>6} of {part['rows']:>6} ({part['share']:.2%})")
    for example in found["examples"]:
        print("  " + json.dumps(example, ensure_ascii=False))


def pack(arguments) -> None:
    """Pack submissions for upload."""
    from product_relevance.data.submission import zip_submission

    print(zip_submission(arguments.files, arguments.output, overwrite=arguments.overwrite))


def info(arguments) -> None:
    """Tell what a run holds."""
    from product_relevance.cli import info
    from product_relevance.ensemble import locate
    from product_relevance.ensemble import stack as stacking

    if stacking.is_stack(arguments.model):
        lines = info.stack_lines(stacking.RelevanceStack.from_pretrained(arguments.model).run)
    else:
        content = locate.read_run(arguments.model, arguments.revision)
        try:
            lines = info.run_lines(content)
        except (KeyError, TypeError, AttributeError) as error:
            told = f"{type(error).__name__}: {error}"
            raise ValueError(f"{arguments.model}: its run was changed, or is of another version ({told})") from None
    print("\n".join(lines))
