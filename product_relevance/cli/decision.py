"""`relevance decide`, `stack` and `take`: from finished runs to a threshold, a joint run, or a run of one task."""

import argparse

from product_relevance.cli.flags import (
    Commands,
    add_bad_rows,
    add_command,
    add_translation,
    reading_of,
    require_files,
)
from product_relevance.data.reading_arguments import add_source_flags, source_of
from product_relevance.utils.options import Parser


def add_commands(commands: Commands) -> None:
    """Add `decide`, `stack` and `take`."""
    _add_decide(commands)
    _add_stack(commands)
    _add_take(commands)


def _add_decide(commands: Commands) -> None:
    parser = add_command(
        commands, "decide", decide_thresholds, "choose calibration and thresholds of a run by out-of-fold scores"
    )
    parser.add_argument("run_folder", help="folder of the run; its run.json and report.md are written anew")
    parser.add_argument(
        "--calibration",
        default="isotonic",
        choices=["none", "temperature", "isotonic"],
        help="how scores become probabilities",
    )
    _add_thresholds(parser)
    goal = "also choose the threshold that reaches this {}, with the most {}; its name is {}"
    parser.add_argument("--precision", type=float, help=goal.format("precision", "recall", "precision_0.9 for 0.9"))
    parser.add_argument("--recall", type=float, help=goal.format("recall", "precision", "recall_0.95 for 0.95"))
    _add_match(parser)
    parser.add_argument("--dry_run", action="store_true", help="compare and write nothing")


def _add_stack(commands: Commands) -> None:
    parser = add_command(
        commands, "stack", join_runs, "join runs by a logistic regression on their out-of-fold scores"
    )
    parser.add_argument("runs", nargs="+", help="run folders: one task, data set and division into folds")
    parser.add_argument("--output", required=True, help="folder for `relevance predict` and `relevance evaluate`")
    read = (
        "what the stack reads beside the scores: how a pair stands among its query's pairs, common words of the texts"
    )
    parser.add_argument("--features", nargs="*", default=[], choices=["group", "lexical"], help=read)
    parser.add_argument("--records", help="with --features: the records that the runs were trained on, if they moved")
    _add_thresholds(parser)
    _add_match(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a stack")


def _add_take(commands: Commands) -> None:
    parser = add_command(commands, "take", take_task, "take one task out of a run of both, as a run of its own")
    parser.add_argument("run_folder", help="folder of a run trained with --task QC,QI")
    parser.add_argument("task", choices=["QC", "QI"], help="task to take out")
    parser.add_argument("--output", required=True, help="folder of the new run")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")


def _add_thresholds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold_by", default="global", choices=["global", "language"], help="one threshold, or one per language"
    )
    parser.add_argument(
        "--shrinkage",
        type=float,
        default=1000,
        help="rows at which a language's own threshold and the global one weigh the same",
    )


def _add_match(parser: Parser) -> None:
    parser.add_argument("--unlabelled", help="new records, to measure what the mean of the folds does to the scores")
    parser.add_argument(
        "--match",
        default="folds",
        choices=["folds", "training"],
        help="scores that the mean is matched to: of single folds, or of training",
    )
    add_source_flags(parser, "--unlabelled")
    add_translation(parser)
    add_bad_rows(parser, "of --unlabelled; error (default): stop; skip: score the others")


def decide_thresholds(arguments: argparse.Namespace) -> None:
    """Choose calibration and thresholds of a run."""
    from product_relevance.evaluation.decision import decide_run
    from product_relevance.evaluation.thresholds import DecisionOptions

    run, scored = arguments.run_folder, None
    goals = {"precision": arguments.precision, "recall": arguments.recall}
    options = DecisionOptions(arguments.calibration, arguments.threshold_by, arguments.shrinkage, **goals)
    if arguments.unlabelled:
        require_files(arguments.unlabelled)
        from product_relevance.ensemble.files.predict_file import score_unlabelled

        scored = score_unlabelled(run, source_of(arguments, arguments.unlabelled), **reading_of(arguments))
    print(decide_run(run, options, scored, arguments.match, arguments.dry_run))


def join_runs(arguments: argparse.Namespace) -> None:
    """Join runs."""
    from product_relevance.ensemble.fit_stack import StackOptions, stack_runs

    scored = None
    if arguments.unlabelled:
        require_files(arguments.unlabelled)
        from product_relevance.ensemble.files.predict_file import score_unlabelled

        source, read = source_of(arguments, arguments.unlabelled), reading_of(arguments)
        scored = [score_unlabelled(run, source, **read) for run in arguments.runs]
    options = StackOptions(
        by=arguments.threshold_by,
        shrinkage=arguments.shrinkage,
        match=arguments.match,
        overwrite=arguments.overwrite,
        features=tuple(dict.fromkeys(arguments.features)),
        records=arguments.records,
    )
    print(stack_runs(arguments.runs, arguments.output, options, scored))


def take_task(arguments: argparse.Namespace) -> None:
    """Take one task out of a run of both."""
    from product_relevance.ensemble import extract_task

    print(extract_task.take_task(arguments.run_folder, arguments.task, arguments.output, arguments.overwrite))
