"""Figures of a run on a labelled file: each fold, the ensemble, each language, beside the all-positive floor."""

from typing import Any

import numpy as np

from product_relevance.data.sources.tables import Source
from product_relevance.ensemble.files.judge_file import JudgedFile, judge_file
from product_relevance.ensemble.scoring_arguments import FileOptions
from product_relevance.evaluation import metrics
from product_relevance.evaluation.grades import measure_grades
from product_relevance.evaluation.reports.grade_report import lay_out_grades
from product_relevance.evaluation.reports.markdown_tables import language_notes, metrics_table, note_of


def evaluate_file(ensemble, file: str | Source, **chosen: Any) -> dict[str, Any]:
    """Measure folds and ensemble at the run's stored threshold; nothing is chosen on the file.

    Args:
        ensemble: RelevanceEnsemble or RelevanceStack.
        file: labelled records.
        **chosen: of `FileOptions`, as vote, threshold, translation.

    Returns:
        `file`, `folds` {name: figures}, `ensemble` (figures with `by_language`, `seen`, `unseen`) and
        `macro_f1_at_macro_threshold`, at the run's threshold for macro-F1; with a calibration also `calibrated`, its
        `ece` and `log_loss`; of a graded run also `grades`, see `measure_grades`. Where the run knows queries of the
        file from its training, `ensemble` holds the figures of those rows, `known_queries`, and of the others,
        `new_queries`. Figures as in `metrics.scores_report`, with intervals.

    Raises:
        ValueError: bad records, or records without labels.
    """
    options = FileOptions(**chosen)
    return measure_judged(judge_file(ensemble, file, options), options)


def measure_judged(judged: JudgedFile, options: FileOptions) -> dict[str, Any]:
    """Measure a file that is scored and decided already, with the same options; returns as `evaluate_file`."""
    ensemble, labels, scores, own = judged.ensemble, judged.labels, judged.scores, judged.thresholds
    vote, threshold = ensemble.checked_vote(options.vote), options.threshold
    codes, limit, queries = judged.frame["language"].tolist(), ensemble.rule.threshold(threshold, vote), judged.queries
    macro = ensemble.rule.row_thresholds(codes, "macro_f1", vote)
    facts = metrics.RowFacts(codes, ensemble.run.data["languages"], own if np.ptp(own) else None, queries)
    found = metrics.final_report(labels, scores, limit, facts)
    found["macro_f1_at_macro_threshold"] = metrics.scores_report(
        labels, scores, 0.5, metrics.RowFacts(row_thresholds=macro)
    )["macro_f1"]
    if "grade" in judged.frame and (decided := ensemble.decide_grades(scores)) is not None:
        found["grades"] = measure_grades(judged.frame["grade"], decided, len(ensemble.run.labels), queries)
    if vote == "mean" and ensemble.rule.chosen:
        after = metrics.scores_report(labels, ensemble.rule.calibrate(scores), 0.5)
        found["calibrated"] = {key: after[key] for key in ("ece", "log_loss")}
    known = judged.known
    for name, rows in (("known_queries", known), ("new_queries", ~known)):
        if known.any() and rows.any():
            part = labels[rows], scores[rows], limit
            found[name] = metrics.scores_report(
                *part, metrics.RowFacts(row_thresholds=own[rows], queries=queries[rows])
            )
    stored = threshold in ensemble.thresholds
    singles = ensemble.fold_thresholds(threshold) if stored else [limit] * len(ensemble.folds)
    by_fold = {
        name: metrics.scores_report(labels, judged.folds[:, i], singles[i], metrics.RowFacts(queries=queries))
        for i, name in enumerate(ensemble.folds)
    }
    return {"file": judged.frame.attrs["source"], "folds": by_fold, "ensemble": found}


def evaluation_table(figures: dict) -> str:
    """Lay the figures out for a terminal."""
    ensemble = figures["ensemble"]
    rows = [{"model": name, **part} for name, part in figures["folds"].items()]
    mean = {
        k: float(np.mean([r[k] for r in rows]))
        for k in ("f1", "macro_f1", "auc")
        if all(r[k] is not None for r in rows)
    }
    rows += [{"model": "mean of folds", **mean}, {"model": "ensemble", **ensemble}]
    rows += [{"model": "all positive (floor)", "f1": ensemble["floor_f1"], "macro_f1": ensemble["floor_macro_f1"]}]
    columns = ["model", "f1", "f1_interval", "precision", "recall", "macro_f1", "auc", "auc_interval"]
    parts = [metrics_table(rows, columns)]
    columns = ["rows", "positive", "f1", "f1_interval", "floor_f1", "macro_f1", "auc", "auc_interval", "note"]
    groups = [{"language": g, **ensemble[g]} for g in ("seen", "unseen") if g in ensemble]
    groups += [{"language": code, **part, "note": note_of(part)} for code, part in ensemble["by_language"].items()]
    parts += [metrics_table(groups, ["language", *columns]), *language_notes(ensemble)]
    if "known_queries" in ensemble:
        names = {"known_queries": "of the training file", "new_queries": "new"}
        rows = [{"queries": name, **ensemble[key]} for key, name in names.items() if key in ensemble]
        parts.append(metrics_table(rows, ["queries", *columns]))
    if "grades" in ensemble:
        parts.append(lay_out_grades(ensemble["grades"]))
    if "calibrated" in ensemble:
        rows = [{"probabilities": "scores", **ensemble}, {"probabilities": "calibrated", **ensemble["calibrated"]}]
        parts.append(metrics_table(rows, ["probabilities", "ece", "log_loss"]))
    parts.append(
        f"{ensemble['rows']} rows; threshold {ensemble['threshold']:.4f} from the run's out-of-fold scores; "
        f"macro-F1 at the run's macro-F1 threshold {ensemble['macro_f1_at_macro_threshold']:.4f}"
    )
    return "\n\n".join(parts)
