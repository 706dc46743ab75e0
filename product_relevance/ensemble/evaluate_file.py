"""Figures of a run on a labelled file: each fold, the ensemble, each language, beside the all-positive floor."""

import logging
from typing import Any

import numpy as np

from product_relevance.data import loading
from product_relevance.data.folds import hash_texts, query_keys
from product_relevance.data.sources.tables import Source
from product_relevance.ensemble.predict_file import read_records_for, score_records
from product_relevance.ensemble.scoring_arguments import FileOptions
from product_relevance.evaluation import metrics
from product_relevance.evaluation.markdown_tables import language_notes, metrics_table, note_of
from product_relevance.utils.run_folder import read_queries

logger = logging.getLogger(__name__)


def evaluate_file(ensemble, file: str | Source, **chosen: Any) -> dict[str, Any]:
    """Measure folds and ensemble at the run's stored threshold; nothing is chosen on the file.

    Args:
        ensemble: RelevanceEnsemble or RelevanceStack.
        file: labelled records.
        **chosen: of `FileOptions`, as vote, threshold, translation.

    Returns:
        `file`, `folds` {name: figures}, `ensemble` (figures with `by_language`, `seen`, `unseen`) and
        `macro_f1_at_macro_threshold`, at the run's threshold for macro-F1; with a calibration also `calibrated`, its
        `ece` and `log_loss`. Where the run knows queries of the file from its training, `ensemble` holds the figures
        of those rows, `known_queries`, and of the others, `new_queries`. Figures as in `metrics.scores_report`, with
        intervals.

    Raises:
        ValueError: bad records, or records without labels.
    """
    options = FileOptions(**chosen)
    vote, threshold, translation = ensemble.checked_vote(options.vote), options.threshold, options.translation
    ensemble, frame = read_records_for(ensemble, file, "any", options.on_bad_rows)
    if "label" not in frame or frame["label"].isna().any():
        raise ValueError(f"{file}: rows without a label; evaluate needs labels, predict does not")
    loading.require_translations(frame, ensemble.run, translation, options.max_missing_translations)
    labels, limit = frame["label"].to_numpy(int), ensemble.rule.threshold(threshold, vote)
    scores, folds = score_records(ensemble, frame, vote=vote, translation=translation)
    seen = ensemble.run["data"]["languages"]
    codes = frame["language"].tolist()
    own, macro = (ensemble.rule.row_thresholds(codes, kind, vote) for kind in (threshold, "macro_f1"))
    queries = query_keys(frame)[0]
    facts = metrics.RowFacts(codes, seen, own if np.ptp(own) else None, queries)
    found = metrics.final_report(labels, scores, limit, facts)
    found["macro_f1_at_macro_threshold"] = metrics.scores_report(
        labels, scores, 0.5, metrics.RowFacts(row_thresholds=macro)
    )["macro_f1"]
    if vote == "mean" and ensemble.rule.chosen:
        after = metrics.scores_report(labels, ensemble.rule.calibrate(scores), 0.5)
        found["calibrated"] = {key: after[key] for key in ("ece", "log_loss")}
    known = _known_queries(ensemble, frame, queries)
    for name, rows in (("known_queries", known), ("new_queries", ~known)):
        if known.any() and rows.any():
            part = labels[rows], scores[rows], limit
            found[name] = metrics.scores_report(
                *part, metrics.RowFacts(row_thresholds=own[rows], queries=queries[rows])
            )
    stored = threshold in ensemble.thresholds
    singles = ensemble.fold_thresholds(threshold) if stored else [limit] * len(ensemble.folds)
    by_fold = {
        name: metrics.scores_report(labels, folds[:, i], singles[i], metrics.RowFacts(queries=queries))
        for i, name in enumerate(ensemble.folds)
    }
    return {"file": frame.attrs["source"], "folds": by_fold, "ensemble": found}


def _known_queries(ensemble, frame, queries: np.ndarray) -> np.ndarray:
    """Return which rows, shape (n,), have a query of the run's training file, and say so in the log."""
    kept = [found for found in map(read_queries, ensemble.run_folders) if found is not None]
    same = frame.attrs["sha256"] == ensemble.run["data"]["sha256"]
    known = np.isin(hash_texts(queries), np.concatenate(kept)) if kept else np.full(len(queries), same)
    if known.any():
        logger.warning(
            "%s: %d of %d rows have one of %d queries of the training file: the models were trained on them or chosen "
            "by them, so figures on them say little about new queries",
            *(frame.attrs["source"], known.sum(), len(known), len(set(queries[known]))),
        )
    return known


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
    if "calibrated" in ensemble:
        rows = [{"probabilities": "scores", **ensemble}, {"probabilities": "calibrated", **ensemble["calibrated"]}]
        parts.append(metrics_table(rows, ["probabilities", "ece", "log_loss"]))
    parts.append(
        f"{ensemble['rows']} rows; threshold {ensemble['threshold']:.4f} from the run's out-of-fold scores; "
        f"macro-F1 at the run's macro-F1 threshold {ensemble['macro_f1_at_macro_threshold']:.4f}"
    )
    return "\n\n".join(parts)
