"""`relevance predict` and `relevance evaluate`: a file of pairs through an ensemble."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from product_relevance.cli.flags import (
    Commands,
    add_bad_rows,
    add_command,
    add_device,
    add_limit,
    add_model,
    add_records,
    add_translation,
    reading_of,
    require_files,
)
from product_relevance.data.reading_arguments import source_of
from product_relevance.data.sources.labels import MAX_GRADES

if TYPE_CHECKING:
    from product_relevance.sharding.jobs import Sharding


def add_commands(commands: Commands) -> None:
    """Add `predict` and `evaluate`."""
    _add_predict(commands)
    _add_evaluate(commands)


def _add_predict(commands: Commands) -> None:
    parser = add_command(commands, "predict", predict_rows, "score a file with the ensemble and write a submission")
    _add_scoring(parser)
    add_records(parser, "records; labels in it are not read, each id gets a prediction")
    written = "submission, as submit_QC.txt, or a table: .csv .tsv .parquet; probabilities go beside it"
    parser.add_argument("--output", required=True, help=written)
    add_bad_rows(parser, "error (default): stop; skip: predict them as far as they can be read")
    parser.add_argument(
        "--chunk_rows", type=int, default=5000, help="rows that are scored and saved at a time (default 5000)"
    )
    parser.add_argument("--shards", type=int, help="split the file into N parts: docs/how-to/large-files.md")
    workers = "processes, one per GPU; split the file into as many parts where --shards is not given (default 1)"
    parser.add_argument("--workers", type=int, default=1, help=workers)
    _add_cluster(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the output")
    texts = "a table to read: id, language, query, target, score, decision, grade of a graded run; it holds your texts"
    parser.add_argument("--with_texts", action="store_true", help=f"{texts}, so keep it where they may lie")
    steps = "yes/no runs whose prompt holds {reasoning}: tokens that the model may write before it answers (default 0)"
    parser.add_argument("--reasoning_tokens", type=int, default=0, help=steps)
    _add_engine(parser)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    names = "what runs the model: torch (default), or vllm where it is installed: docs/how-to/engines.md"
    parser.add_argument("--engine", choices=["torch", "vllm"], default="torch", help=names)
    other = "python of the environment that has vLLM (default: the one that runs this)"
    parser.add_argument("--engine_python", metavar="FILE", default=sys.executable, help=other)
    settings = """options of vllm.LLM as JSON, as '{"tensor_parallel_size": 2}'"""
    parser.add_argument("--engine_options", metavar="JSON", default="{}", type=_read_settings, help=settings)


def _read_settings(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text}: expected a JSON object, as {{}}")
    return found


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", choices=["ray"], help="the workers are actors of Ray: docs/how-to/ray.md")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--plan_only", action="store_true", help="only split the file, before tasks of an array")
    task = "score the shards of task I of N alone, as a task of Slurm's array: docs/how-to/slurm.md"
    alone.add_argument("--array_task", metavar="I/N", help=task)


def _add_evaluate(commands: Commands) -> None:
    parser = add_command(commands, "evaluate", evaluate_rows, "measure folds and ensemble on a labelled file")
    _add_scoring(parser)
    add_records(parser, "labelled records")
    add_bad_rows(parser, "error (default): stop; skip: put them aside as rejects, and measure on the others")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print all figures as JSON only")
    page = "folder for a page on what went wrong and where; it lists rows with their texts, so keep it local"
    parser.add_argument("--report", metavar="DIR", help=page)
    order = "measure the order of each query's rows too, through ir-measures: nDCG@10 RR@10 AP P@5 R@50"
    parser.add_argument("--measures", nargs="+", metavar="NAME", default=[], help=order)
    parser.add_argument("--trec", metavar="DIR", help="folder for the labels and the order: qrels.txt and run.txt")


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--merge",
        default="probabilities",
        type=_merge_kind,
        choices=["probabilities", "weights"],
        help="mean of the folds' probabilities (default), or one model with the mean of their weights",
    )
    add_limit(parser)
    parser.add_argument("--vote", choices=["mean", "majority", "weighted"], help="how the folds' scores are combined")
    parser.add_argument(
        "--threshold", default="f1", help="f1 (default), macro_f1, expected_f1, precision_0.9, or a number"
    )
    add_device(parser)
    rows = (
        "padded (default), or packed side by side: for flash attention, on decoders (docs/how-to/speed-and-memory.md)"
    )
    parser.add_argument("--attention", default="padded", choices=["padded", "packed"], help=f"rows of a batch: {rows}")
    compiled = "compile the model: minutes at first, for large files on a GPU (needs a C++ compiler)"
    parser.add_argument("--compile", action="store_true", help=compiled)
    layers = "compile one layer for all layers: seconds, not minutes; rows with shared prefixes are scored without"
    parser.add_argument("--compile_layers", action="store_true", help=layers)
    add_translation(parser)


def _merge_kind(value: str) -> str:
    if value == "vote":
        raise argparse.ArgumentTypeError("vote is no way to merge; give --vote majority instead")
    return value


def predict_rows(arguments: argparse.Namespace) -> None:
    """Score a file."""
    on_cluster = arguments.cluster or arguments.plan_only or arguments.array_task
    if arguments.shards is not None or arguments.workers > 1 or on_cluster:
        return _predict_shards(arguments)
    if arguments.engine == "vllm":
        return _predict_by_vllm(arguments)
    _predict_with(lambda: _score(arguments).load(), arguments)


def _predict_by_vllm(arguments: argparse.Namespace) -> None:
    from product_relevance.serving.engines.vllm_ensemble import EngineOptions, open_vllm

    folder = Path(f"{arguments.output}.engine")
    options = EngineOptions(folder=folder, python=arguments.engine_python, settings=arguments.engine_options)
    with open_vllm(_score(arguments), options) as ensemble:
        _predict_with(lambda: ensemble, arguments)
    shutil.rmtree(folder, ignore_errors=True)


def _predict_with(load: Callable[[], Any], arguments: argparse.Namespace) -> None:
    """Score the file with what `load` gives, once the request is known to be sound."""
    from product_relevance.ensemble.outputs import require_format

    require_format(arguments.output, arguments.with_texts)
    require_files(arguments.file, arguments.translation)
    from product_relevance.ensemble.files.predict_file import predict_file

    written = predict_file(
        load(),
        source_of(arguments, arguments.file, MAX_GRADES),
        arguments.output,
        vote=arguments.vote,
        threshold=arguments.threshold,
        **reading_of(arguments),
        chunk_rows=arguments.chunk_rows,
        overwrite=arguments.overwrite,
        with_texts=arguments.with_texts,
    )
    print(written)


def _predict_shards(arguments: argparse.Namespace) -> None:
    from product_relevance.sharding import jobs

    if arguments.engine != "torch":
        raise ValueError("--shards, --workers: they are for torch; leave them out, or --engine")
    if arguments.with_texts:
        raise ValueError("--shards, --workers: shards hold no texts; leave --with_texts out, or the other two")
    if arguments.split or arguments.data_revision:
        raise ValueError("--shards, --workers: only files are split; leave --split and --data_revision out")
    if source_of(arguments, arguments.file).reading.to_json():
        way_out = "prepare the file with them first: prepare.py FILE --role test --shards N --columns ..."
        raise ValueError(f"--shards, --workers: found --columns or others of how a file is read; {way_out}")
    print(jobs.predict_shards(_score(arguments), _sharding(arguments), arguments.output))


def _sharding(arguments: argparse.Namespace) -> "Sharding":
    from product_relevance.sharding.array_task import ArrayTask
    from product_relevance.sharding.jobs import Sharding

    number = arguments.workers if arguments.shards is None else arguments.shards
    if (arguments.plan_only or arguments.array_task) and arguments.shards is None:
        raise ValueError("--plan_only, --array_task: expected --shards too, the same number in both")
    if arguments.array_task and (arguments.overwrite or arguments.cluster or arguments.workers > 1):
        raise ValueError(
            "--array_task: a task is one process, which shares its folder with others; leave --workers and --cluster "
            "out, and give --overwrite with --plan_only"
        )
    return Sharding(
        arguments.file,
        number,
        arguments.workers,
        arguments.overwrite,
        cluster=arguments.cluster,
        array_task=ArrayTask.from_text(arguments.array_task) if arguments.array_task else None,
        plan_only=arguments.plan_only,
    )


def evaluate_rows(arguments: argparse.Namespace) -> None:
    """Measure on a labelled file."""
    require_files(arguments.file, arguments.translation)
    from product_relevance.ensemble.files.evaluate_file import evaluation_table, measure_judged
    from product_relevance.ensemble.files.judge_file import judge_file
    from product_relevance.ensemble.files.rank_judged import measure_ranking, ranking_tables, write_trec
    from product_relevance.ensemble.files.report_errors import report_errors
    from product_relevance.evaluation.ranking import USUAL, parse_measures

    options, measures = _score(arguments), parse_measures(arguments.measures) if arguments.measures else []
    judged = judge_file(options.load(), source_of(arguments, arguments.file, MAX_GRADES), options)
    figures = measure_judged(judged, options)
    if measures:
        figures["ranking"] = measure_ranking(judged, parse_measures(arguments.measures, judged.relevant_from))
    print(json.dumps(figures, ensure_ascii=False) if arguments.as_json else evaluation_table(figures))
    if measures and not arguments.as_json:
        print(f"\n{ranking_tables(figures['ranking'])}")
    if arguments.trec:
        written = " ".join(map(str, write_trec(judged, arguments.trec)))
        print(f"\nfor tools that read TREC: {written}", file=sys.stderr if arguments.as_json else sys.stdout)
    if arguments.report:
        page = report_errors(judged, options.threshold, arguments.report, arguments.measures or USUAL)
        print(f"\nwhat went wrong, and where: {page}", file=sys.stderr if arguments.as_json else sys.stdout)


def _score(arguments: argparse.Namespace) -> Any:
    from product_relevance.sharding.jobs import Score

    given = vars(arguments)
    return Score(**{field.name: given[field.name] for field in fields(Score) if field.name in given})
