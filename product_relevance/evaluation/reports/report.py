"""Write report.md and its pictures into a run folder: what was trained, how well it does, how fast it was."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from product_relevance.evaluation.metrics import RowFacts, expected_f1_threshold, scores_report
from product_relevance.evaluation.reports import figures, loss_curve
from product_relevance.evaluation.reports.grade_report import draw_confusion, report_grades
from product_relevance.evaluation.reports.markdown_tables import format_cell, language_notes, metrics_table, note_of
from product_relevance.evaluation.reports.ranking_report import report_ranking
from product_relevance.utils import run_settings
from product_relevance.utils.files import atomic_write

MACRO = "macro_f1_at_own_threshold"
FOLD_COLUMNS = {
    "name": "rows of", "rows": "rows", "positive": "positive", "floor_f1": "floor F1", "f1": "F1",
    "f1_interval": "F1 95%", "gain": "F1 - floor", "precision": "precision", "recall": "recall",
    "macro_f1": "macro-F1", "macro_f1_interval": "macro-F1 95%", MACRO: "macro-F1 (own threshold)", "auc": "AUC",
    "auc_interval": "AUC 95%", "ece": "ECE", "log_loss": "log loss",
}  # fmt: skip
# What fits a terminal's 100 columns.
NARROW_COLUMNS = (
    "name", "rows", "floor_f1", "f1", "f1_interval", "macro_f1", "auc", "auc_interval",
)  # fmt: skip
LANGUAGE_COLUMNS = {
    key: name for key, name in FOLD_COLUMNS.items() if key not in ("ece", "log_loss", "name")
} | {"note": "note"}  # fmt: skip
SPEED_COLUMNS = {
    "name": "fold", "train_rows": "train rows", "steps": "steps", "best_step": "best step", "seconds": "seconds",
    "pairs_per_second": "pairs/s", "tokens_per_second": "tokens/s", "padding_ratio": "padding ratio",
}  # fmt: skip
NOTE = (
    "Thresholds were chosen on out-of-fold rows only: every row was scored by a model that was not trained on it, "
    "and no dev or test row had a part in the choice. As these rows choose the checkpoint and the threshold and are "
    "then measured at it, their own F1 is slightly optimistic."
)
DECISION_COLUMNS = {
    "calibration": "calibration", "cuts": "thresholds", "fitted on": "fitted on", "f1": "F1",
    "expected_f1": "F1 at F*/2", "macro_f1": "macro-F1", "ece": "ECE", "log_loss": "log loss",
}  # fmt: skip
THRESHOLD_COLUMNS = {"for": "threshold for", "f1": "F1", "macro_f1": "macro-F1", "expected_f1": "F1 at F*/2"}
DECISION_NOTE = (
    "Lines fitted on the other folds are honest: no row is judged by a calibration or threshold that saw its label. "
    "The others show what fitting and judging on the same rows would claim. All figures are of single fold models."
)
NO_OOF = (
    "This run has no out-of-fold rows (every row was trained on), so nothing was measured and no threshold was "
    "chosen on its own scores. Train folds to get figures and a threshold."
)


def write_report(
    folder: str | os.PathLike[str],
    run: Mapping[str, Any],
    oof: pd.DataFrame | None,
    histories: Mapping[str, loss_curve.History] | None = None,
) -> str:
    """Write `report.md` and `figures/*.png` into a run folder; no query or target text goes into them.

    Args:
        folder: The run folder.
        run: The content of run.json; missing keys leave their part of the report out.
        oof: Out-of-fold rows with label, score, and if known language, fold and, from `relevance decide`, calibrated
            (the probability calibrated on the other folds); None where no fold validated.
        histories: Fold name to the Trainer's log_history.

    Returns:
        A table of the folds and the out-of-fold rows against the floor, for the terminal.

    Raises:
        ValueError: Bad labels or scores in `oof`.
    """
    oof = None if oof is None or oof.empty else oof
    whole = _measured(run, oof)
    rows = _fold_rows(run, oof, whole) if oof is not None and whole else []
    table = metrics_table(rows, FOLD_COLUMNS) if whole else NO_OOF
    pictures = figures.draw_run(Path(folder) / "figures", oof, whole, histories or {})
    if whole and "grades" in whole:
        draw_confusion(whole["grades"], Path(folder) / "figures" / "grades.png")
        pictures["Decided and true grades"] = "grades.png"
    parts = [_title(run), _headline(whole), _trained(run), *run_settings.describe_settings(run), "## Metrics", table]
    parts += [
        *_thresholds(run, whole),
        *_decision(run),
        *report_grades(run, whole),
        *report_ranking(run, whole),
        *_languages(run, oof, whole),
        *_speed(run),
        *_shown(pictures),
        *_versions(run),
    ]
    with atomic_write(Path(folder) / "report.md") as file:
        file.write("\n\n".join(part for part in parts if part) + "\n")
    if not whole:
        return NO_OOF
    return "\n\n".join(
        [metrics_table(rows, {key: FOLD_COLUMNS[key] for key in NARROW_COLUMNS}), *language_notes(whole)]
    )


def _measured(run: Mapping[str, Any], oof: pd.DataFrame | None) -> dict[str, Any] | None:
    if oof is None:
        return None
    threshold = (run.get("thresholds") or {}).get("f1", 0.5)
    whole = run.get("metrics")
    if not whole:
        whole = scores_report(
            oof["label"], oof["score"], threshold, RowFacts(oof.get("language"), queries=oof.get("query_digest"))
        )
    return _with_macro(whole, oof, run)


def _with_macro(measured: Mapping[str, Any], rows: pd.DataFrame | None, run: Mapping[str, Any]) -> dict[str, Any]:
    threshold = (run.get("thresholds") or {}).get("macro_f1")
    extra = {"gain": measured["f1"] - measured["floor_f1"]} if {"f1", "floor_f1"} <= measured.keys() else {}
    if threshold is not None and rows is not None and len(rows):
        extra[MACRO] = scores_report(rows["label"], rows["score"], threshold)["macro_f1"]
    return {**measured, **extra}


def _fold_rows(run: Mapping[str, Any], oof: pd.DataFrame, whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for fold in run.get("folds") or []:
        part = _rows_of(oof, fold["name"])
        measured = fold.get("metrics") or {}
        if part is not None:  # at the run's threshold, where the fold's own metrics have the fold's
            measured = measured | scores_report(
                part["label"], part["score"], whole["threshold"], RowFacts(queries=part.get("query_digest"))
            )
        if measured:
            rows.append({**_with_macro(measured, part, run), "name": str(fold["name"])})
    lowest = {"f1": whole["floor_f1"], "macro_f1": whole.get("floor_macro_f1"), "recall": 1.0, "auc": 0.5}
    lowest |= {
        "name": "floor: all relevant",
        "precision": whole.get("positive"),
        MACRO: whole.get("floor_macro_f1"),
    }
    return [*rows, {**whole, "name": "all out of fold"}, lowest]


def _rows_of(oof: pd.DataFrame, name: Any) -> pd.DataFrame | None:
    """Pick a fold's rows, whether folds are called 0 or fold-0."""
    if "fold" not in oof:
        return None
    part = oof[oof["fold"].map(_bare) == _bare(name)]
    return part if len(part) else None


def _bare(name: Any) -> str:
    return str(name).removeprefix("fold").lstrip("-_ ")


def _title(run: Mapping[str, Any]) -> str:
    base = _name((run.get("base") or {}).get("name") or "a model")
    return f"# {run.get('task', 'Relevance')}: {base}"


def _headline(whole: Mapping[str, Any] | None) -> str:
    if whole is None:
        return ""
    auc = "not defined (one class)" if whole.get("auc") is None else f"{whole['auc']:.4f}"
    return (
        f"Out of fold, on {whole['rows']:,} rows: AUC **{auc}**; positive F1 **{whole['f1']:.4f}** at the threshold "
        f"{whole['threshold']:.4f}, {whole['gain']:+.4f} against the floor {whole['floor_f1']:.4f} that always "
        'answering "relevant" reaches.'
    )


def _trained(run: Mapping[str, Any]) -> str:
    base, data = run.get("base") or {}, run.get("data") or {}
    facts = {"task": run.get("task"), "base": _name(base.get("name")), "revision": base.get("revision")}
    kernel = run.get("pooling") == "sides"
    without = "none (kernel ridge regression)" if kernel else "none (full fine-tuning)"
    facts["adapter"] = _listed(run["adapter"]) if run.get("adapter") else without
    facts |= {key: run.get(key) for key in ("pooling", "max_length")}
    # the language that a tag shows is corrected again only where one is served: what trained is the column's
    template = {key: value for key, value in (run.get("template") or {}).items() if key != "language_fix"}
    facts |= {"template": _listed(template), "columns": _listed(run.get("columns")), "data": _name(data.get("source"))}
    facts |= {"data sha256": data.get("sha256"), "rows": data.get("rows"), "positive share": data.get("positive")}
    facts["languages"] = ", ".join(map(str, data.get("languages") or [])) or None
    facts["weights"] = weights_line(run["weights"]) if run.get("weights") else None
    facts["pairs per step"] = run.get("pairs_per_step")
    facts["training"] = _listed(_settings(run.get("arguments") or {}))
    lines = [{"what": key, "value": format_cell(value)} for key, value in facts.items() if value not in (None, "")]
    return "## What was trained\n\n" + metrics_table(lines, {"what": "", "value": "value"})


def weights_line(weights: Mapping[str, Any]) -> str:
    """Say which field weighs the rows, and from what to what."""
    return f"rows are weighted by the field {weights['field']}, {weights['min']:,.6g} to {weights['max']:,.6g}"


def _settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    groups = [group for group in arguments.values() if isinstance(group, Mapping)]
    flat = {key: value for group in [arguments, *groups] for key, value in group.items()}
    shown = run_settings.shown_settings(flat.get("pooling"))
    return run_settings.pick_settings(flat, (*shown, *run_settings.SHOWN_OF_FOLDS))


def _listed(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None if value is None else str(value)
    return ", ".join(f"{key} {_name(item)}" for key, item in value.items() if item is not None) or None


def _name(value: Any) -> Any:
    """Keep only the last part of an absolute path: where files lay on one machine is of no use to a reader."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _thresholds(run: Mapping[str, Any], whole: Mapping[str, Any] | None) -> list[str]:
    thresholds = run.get("thresholds")
    if not thresholds:
        return []
    numbers = {key: value for key, value in thresholds.items() if isinstance(value, int | float)}
    rows = [{"for": key, "threshold": float(value)} for key, value in numbers.items()]
    if whole is None:
        return [
            "## Thresholds",
            metrics_table(rows, ["for", "threshold"]),
            "These are defaults, not chosen on scores.",
        ]
    half = expected_f1_threshold(whole["f1"])
    calibrated = (
        f"A calibrated model with this F1 would have its best threshold at F1/2 = {half:.4f} (Lipton et al. 2014)."
    )
    return ["## Thresholds", metrics_table(rows, ["for", "threshold"]), NOTE, calibrated]


def decision_table(decision: Mapping[str, Any]) -> str:
    """Lay out what `relevance decide` compared and what it chose.

    Args:
        decision: As run.json holds it.

    Returns:
        The table of figures, the thresholds, and a line on the spread where there is one.
    """
    by_language = [{"for": code} | own for code, own in decision["languages"].items()]
    thresholds = [{"for": "all"} | decision["thresholds"], *by_language]
    fitted = decision["calibration"]
    temperature = f" {fitted['temperature']:.3f}" if fitted["method"] == "temperature" else ""
    chosen = f"Chosen: calibration {fitted['method']}{temperature}, thresholds from {decision['from']}"
    chosen += f", languages pulled to all with {decision['shrinkage']:g} rows." if decision["languages"] else "."
    goals = [kind for kind in decision["thresholds"] if kind not in THRESHOLD_COLUMNS]
    reached = {f"{name} at {kind}": f"{name} at {kind}" for kind in goals for name in ("precision", "recall")}
    parts = [metrics_table(decision["figures"], DECISION_COLUMNS | reached), DECISION_NOTE, chosen]
    parts.append(metrics_table(thresholds, THRESHOLD_COLUMNS | {kind: kind for kind in goals}))
    if decision["spread"]:
        spread = decision["spread"]
        parts.append(
            f"These thresholds are for the mean of the folds: its logits, times {spread['slope']:.3f} plus "
            f"{spread['offset']:.3f}, match those of {spread['match']} on {spread['rows']:,} unlabelled "
            f"rows of {spread['source']}."
        )
    return "\n\n".join(parts)


def _decision(run: Mapping[str, Any]) -> list[str]:
    return ["## Decision", decision_table(run["decision"])] if run.get("decision") else []


def _languages(run: Mapping[str, Any], oof: pd.DataFrame | None, whole: Mapping[str, Any] | None) -> list[str]:
    if oof is None or whole is None or not whole.get("by_language"):
        return []
    groups = {name: whole[name] for name in ("seen", "unseen") if whole.get(name)}
    codes = oof["language"].astype(str) if "language" in oof else pd.Series("", index=oof.index)
    columns = LANGUAGE_COLUMNS | {"rows": "rows"}
    parts = ["## Languages"]
    if groups:
        seen = codes.map(lambda code: bool(whole["by_language"].get(code, {}).get("seen")))
        rows = [{**_with_macro(g, oof[seen == (n == "seen")], run), "name": n} for n, g in groups.items()]
        parts.append(metrics_table(rows, {"name": "languages"} | columns))
    ranked = sorted(whole["by_language"].items(), key=lambda item: -item[1]["rows"])
    rows = [{**_with_macro(g, oof[codes == code], run), "name": code, "note": note_of(g)} for code, g in ranked]
    return [*parts, metrics_table(rows, {"name": "language", "seen": "trained on"} | columns), *language_notes(whole)]


def _speed(run: Mapping[str, Any]) -> list[str]:
    folds = [{**fold, "name": str(fold["name"])} for fold in run.get("folds") or []]
    return ["## Speed", metrics_table(folds, SPEED_COLUMNS)] if folds else []


def _versions(run: Mapping[str, Any]) -> list[str]:
    found = run.get("versions")
    return ["## Versions", ", ".join(f"{name} {value}" for name, value in found.items())] if found else []


def _shown(pictures: Mapping[str, str]) -> list[str]:
    if not pictures:
        return []
    return ["## Pictures", *(f"![{title}](figures/{name})" for title, name in pictures.items())]
