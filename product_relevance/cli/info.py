"""`relevance info`: what a run or a stack holds, in lines for a terminal."""

import argparse
from collections.abc import Mapping
from typing import Any

from product_relevance.cli.flags import Commands, add_command, add_model
from product_relevance.utils import run_settings
from product_relevance.utils.run_record import FinishedRunRecord, StackRecord
from product_relevance.utils.tasks import BOTH, select_task, task_names


def add_commands(commands: Commands) -> None:
    """Add `info`."""
    add_model(
        add_command(commands, "info", print_info, "what a run holds: base, folds, template, thresholds, figures")
    )


def print_info(arguments: argparse.Namespace) -> None:
    """Print what a run or a stack holds."""
    from product_relevance.ensemble import locate
    from product_relevance.ensemble import stack as stacking

    if stacking.is_stack(arguments.model):
        lines = stack_lines(stacking.RelevanceStack.from_pretrained(arguments.model).run)
    else:
        content = locate.read_run(arguments.model, arguments.revision)
        try:
            lines = run_lines(content)
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{arguments.model}: its run was changed, or is of another version ({reason})") from None
    print("\n".join(lines))


def run_lines(run: FinishedRunRecord) -> list[str]:
    """Describe a run.

    Args:
        run: What run.json says, or its public part.

    Returns:
        A line each on task, base, folds, template, data, languages, thresholds, decision, figures, training.
    """
    base, data, labels = run.base, run.data, run.data["positive"]
    lines = [
        f"task        {run.task}",
        f"base        {base['name']} (revision {base['revision'] or 'not pinned'})",
        f"folds       {', '.join(run.fold_names)}",
        f"template    {', '.join(f'{k}={v}' for k, v in run.template.items())}",
        f"data        {data['source']}, {data['rows']} rows" + ("" if labels is None else f", {labels:.1%} positive"),
        f"            sha256 {data['sha256']}",
        f"languages   {' '.join(data['languages'])}",
    ]
    lines += [f"parent      {line}" for line in run_settings.describe_starts(run.folds)]
    if run.stage is not None:
        lines.append(f"stage       {run.stage}: a first stage without a head, for train_relevance.py --init_adapter")
    for task in task_names(run.task) if run.thresholds else ():
        lines += _measured(select_task(run, task), f"{task}: " if run.task == BOTH else "")
    return [*lines, f"trained     {_duration(run.seconds or 0)} on {run.device}, finished {run.finished}"]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} seconds" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _measured(run: FinishedRunRecord, task: str) -> list[str]:
    """Describe thresholds, decision and figures, with a name in front where the run has two tasks."""
    lines, figures = (
        [f"thresholds  {task}{_thresholds(run.thresholds)} (from {run.thresholds_from})"],
        run.metrics,
    )
    if limits := run.grade_thresholds:
        between = ", ".join(f"{limit:.4f}" for limit in limits)
        lines.append(
            f"grades      {task}0 to {len(limits)}, relevant from {run.relevant_from}; between them {between}"
        )
    if run.decision:
        lines.append(_decision(run.decision))
    if figures:
        shown = [k for k in ("f1", "floor_f1", "macro_f1", "auc") if figures[k] is not None]
        if graded := figures.get("grades"):
            lines.append(
                f"out of fold {task}kappa {graded['kappa']:.4f}, macro-F1 of the grades {graded['macro_f1']:.4f}"
            )
        lines.append(f"out of fold {task}" + ", ".join(f"{k} {figures[k]:.4f}" for k in shown))
    return lines


def stack_lines(stack: StackRecord) -> list[str]:
    """Describe a stack."""
    members = [f"member      {m['path']}, coefficient {m['coefficient']:.4f}" for m in stack.members]
    members += [f"features    {kind}: {_thresholds(found)}" for kind, found in stack.features.items()]
    thresholds = f"thresholds  {_thresholds(stack.thresholds)} (from {stack.thresholds_from})"
    return [f"task        {stack.task}", *members, thresholds, _decision(stack.decision)]


def _thresholds(thresholds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in thresholds.items())


def _decision(decision: Mapping[str, Any]) -> str:
    own = (
        f"languages {' '.join(decision['languages'])}" if decision["languages"] else "one threshold for all languages"
    )
    spread = f", mean stretched by {decision['spread']['slope']:.3f}" if decision["spread"] else ""
    method = decision["calibration"]["method"]
    return f"decision    calibration {method}, {own}{spread}; {_thresholds(decision['thresholds'])}"
