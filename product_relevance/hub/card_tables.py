"""What a run measured and how it was trained, as tables of a card and as `model-index` results."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult
from markupsafe import Markup

from product_relevance.evaluation.intervals import FEW_ROWS
from product_relevance.evaluation.reports.markdown_tables import note_of
from product_relevance.hub.markdown import markdown_table, one_line
from product_relevance.text.language_codes import to_iso
from product_relevance.utils.run_record import PublicRunRecord
from product_relevance.utils.run_settings import pick_settings, shown_settings
from product_relevance.utils.tasks import TARGET_NAMES

Measured = Mapping[str, Any]  # figures as `scores_report` gives them
# What of a recipe a reader needs; any other key stays out of a card.
OF_LANGUAGE = ("f1", "auc", "floor_f1")  # in model-index; the table has more
LANGUAGE_COLUMNS = {
    "language": "language", "trained": "trained on", "rows": "rows", "positive": "relevant", "f1": "F1",
    "f1_interval": "F1 95%", "floor_f1": "F1 floor", "macro_f1": "macro-F1", "floor_macro_f1": "macro-F1 floor",
    "auc": "AUC", "auc_interval": "AUC 95%", "note": "note",
}  # fmt: skip
FOLD_COLUMNS = {
    "name": "fold", "where": "where", "train_rows": "trained on", "rows": "measured on", "threshold": "own threshold",
    "f1": "F1 there", "f1_interval": "F1 95%", "floor_f1": "F1 floor", "auc": "AUC", "auc_interval": "AUC 95%",
}  # fmt: skip


def eval_results(run: PublicRunRecord, measured: Measured | None, dataset_id: str | None = None) -> list[EvalResult]:
    """Turn measured values into results for `model-index`, unrounded.

    Args:
        run: public part of a run.
        measured: its `metrics`, or those of one fold; None gives no results.
        dataset_id: the data on the Hub; "custom" stands for data that are not there.

    Returns:
        F1, macro-F1, AUC and floors as a whole; F1, its floor and AUC per language. What has rows of one class only,
        or fewer than 30, is left out, since any F1 there says nothing.
    """
    if not measured:
        return []
    values = {
        "f1": ("F1 of relevant pairs at the stored threshold", measured["threshold"]),
        "macro_f1": ("macro-F1 at the same threshold", measured["threshold"]),
        "macro_f1_at_macro_threshold": ("macro-F1 at its own threshold", run.thresholds["macro_f1"]),
        "auc": ("AUC", None),
        "floor_f1": ("floor: F1 of always answering relevant", None),
        "floor_macro_f1": ("floor: macro-F1 of always answering relevant", None),
    }
    groups = {None: measured} | {c: g for c, g in measured.get("by_language", {}).items() if g["auc"] is not None}
    groups = {code: group for code, group in groups.items() if group["rows"] >= FEW_ROWS}
    alone = [*_grade_results(run, measured, dataset_id), *_ranking_results(run, measured, dataset_id)]
    return alone + [
        EvalResult(
            **_where(run.task, run.data, dataset_id),
            dataset_config=None if code is None else one_line(to_iso(code)),
            dataset_args={k: group[k] for k in ("rows", "positive")} | {"sha256": one_line(run.data["sha256"])},
            metric_type="roc_auc" if key == "auc" else key,
            metric_name=name,
            metric_value=group[key],
            metric_args=None if threshold is None else {"threshold": threshold},
        )
        for code, group in groups.items()
        for key, (name, threshold) in values.items()
        if group.get(key) is not None and (code is None or key in OF_LANGUAGE)
    ]


def _grade_results(run: PublicRunRecord, measured: Measured, dataset_id: str | None) -> list[EvalResult]:
    """Return the result of the grades, if the run has more than two."""
    if "grades" not in measured:
        return []
    args = {"rows": measured["rows"], "sha256": one_line(run.data["sha256"])}
    name = "quadratic kappa of the grades"
    value, where = measured["grades"]["kappa"], _where(run.task, run.data, dataset_id)
    return [EvalResult(**where, dataset_args=args, metric_type="kappa", metric_name=name, metric_value=value)]


def _ranking_results(run: PublicRunRecord, measured: Measured, dataset_id: str | None) -> list[EvalResult]:
    """Return a result per measure of the rankings, if the run names any."""
    args = {"rows": measured["rows"], "sha256": one_line(run.data["sha256"])}
    where = _where(run.task, run.data, dataset_id)
    return [
        EvalResult(
            **where,
            dataset_args=args,
            metric_type=one_line(name).lower(),
            metric_name=f"{one_line(name)} of the validation rows of each query",
            metric_value=figure["value"],
        )
        for name, figure in measured.get("ranking", {}).get("measures", {}).items()
    ]


def _where(task: str, data: Mapping[str, Any], dataset_id: str | None) -> dict[str, Any]:
    return {
        "task_type": "text-classification",
        "task_name": f"{task}: query against {TARGET_NAMES[task]}",
        "dataset_type": dataset_id or "custom",
        "dataset_name": f"{one_line(data['source'])} (sha256 {one_line(data['sha256'])[:12]}), out of fold",
        "dataset_split": "out-of-fold",
    }


def score_table(run: PublicRunRecord, measured: Measured) -> Markup:
    """Lay out the values over all rows beside those of always answering "relevant"."""
    at = f"threshold {measured['threshold']:.4f}"
    rows = [
        (f"F1 of relevant pairs, {at}", measured["f1"], measured.get("f1_interval"), measured["floor_f1"]),
        (f"macro-F1, {at}", measured["macro_f1"], measured.get("macro_f1_interval"), measured["floor_macro_f1"]),
        ("AUC", measured["auc"], measured.get("auc_interval"), 0.5),
        (f"precision, {at}", measured["precision"], None, measured["positive"]),
        (f"recall, {at}", measured["recall"], None, 1.0),
        (f"accuracy, {at}", measured["accuracy"], None, measured["positive"]),
        ("calibration error (ECE, 15 bins; lower is better)", measured["ece"], None, None),
        ("log loss (lower is better)", measured["log_loss"], None, None),
    ]
    if "macro_f1_at_macro_threshold" in measured:
        own = f"macro-F1, its own threshold {run.thresholds['macro_f1']:.4f}"
        rows.insert(2, (own, measured["macro_f1_at_macro_threshold"], None, measured["floor_macro_f1"]))
    if graded := measured.get("grades"):  # whoever decides one grade for all rows has a kappa of 0
        kappa = ("quadratic kappa of the grades", graded["kappa"], graded.get("kappa_interval"), 0.0)
        rows = [kappa, ("macro-F1 of the grades", graded["macro_f1"], None, None), *rows]
    for name, figure in measured.get("ranking", {}).get("measures", {}).items():
        interval = [figure["low"], figure["high"]]
        rows.append((f"{one_line(name)} of the validation rows of each query", figure["value"], interval, None))
    columns = {"metric": "metric", "value": "value", "interval": "95% interval", "floor": 'floor: always "relevant"'}
    return markdown_table([dict(zip(columns, row, strict=True)) for row in rows], columns)


def language_table(run: PublicRunRecord, measured: Measured) -> Markup | None:
    """Lay out the values per language, most rows first; None where languages were not measured."""
    found = sorted(measured.get("by_language", {}).items(), key=lambda item: -item[1]["rows"])
    if not found:
        return None
    found = [(code, group | {"note": note_of(group)}) for code, group in found]
    groups = {"all": measured} | {f"all {name}": measured[name] for name in ("seen", "unseen") if measured.get(name)}
    rows = [{"language": name} | group for name, group in groups.items()]
    trained = {code: "yes" if code in run.data["languages"] else "no" for code, _ in found}
    rows += [{"language": to_iso(code), "trained": trained[code]} | group for code, group in found]
    return markdown_table(rows, LANGUAGE_COLUMNS)


def fold_table(run: PublicRunRecord, folds: list[tuple[str, Markup]]) -> Markup:
    """Lay out the folds.

    Args:
        run: public part of a run.
        folds: name of each fold, and where it is, in Markdown.
    """
    about = {fold["name"]: fold for fold in run.folds}
    rows = [
        (about[name].get("metrics") or {}) | {"name": name, "where": where, "train_rows": about[name]["train_rows"]}
        for name, where in folds
    ]
    return markdown_table(rows, FOLD_COLUMNS)


def recipe_table(run: PublicRunRecord) -> Markup:
    """Lay out the settings that shaped the weights, and how pairs are written for the model."""
    found = {"pooling": run.pooling, "max_length (tokens per pair)": run.max_length}
    found |= {f"LoRA {key}": value for key, value in (run.adapter or {}).items()}
    found |= pick_settings(run.recipe, shown_settings(run.pooling))
    found["processes"] = run.processes
    found |= {f"template: {key}": value for key, value in run.template.items() if key != "task"}
    return markdown_table(
        [{"what": k, "value": _setting(v)} for k, v in found.items()], {"what": "setting", "value": "value"}
    )


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
