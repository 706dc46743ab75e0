"""What a study's rows are chosen by: validation rows in the languages of training, or languages held out of it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from significance import labelled, scores_of
from sklearn.metrics import roc_auc_score

WAYS = {"validation": "validation, languages of training", "held_out": "languages held out"}


def measure(study, output: Path, folder_of, finished) -> list[dict]:
    """Measure the rows that were trained twice, with the held-out languages and without.

    Args:
        study: what was trained.
        output: folder of the study.
        folder_of: (output, row name, seed) -> folder of that job.
        finished: (row, seed) -> whether both trainings are done as the study now wants them.

    Returns:
        {"row", "validation", "held_out", "seen", "unseen"} a row whose seeds are all finished; AUC, means over seeds.
        `validation` and `held_out` are what a choice may look at, each by a model of its own; `seen` and `unseen` are
        the evaluated rows in the languages of the baseline's training and in others, None where there are none.
    """
    frame = labelled(study.evaluate)
    rows = [row for row in study.rows if study.held_out(row) and all(finished(row, seed) for seed in study.seeds)]
    files = {row.name: [folder_of(output, row.name, seed) / "done.json" for seed in study.seeds] for row in rows}
    if study.baseline not in files:
        return []
    seen = frame["language"].isin(_read(files[study.baseline][0])["languages"]).to_numpy()
    found = []
    for name, jobs in files.items():
        figures = pd.DataFrame([_of_job(file, frame, seen) for file in jobs]).mean()
        found.append({"row": name} | {key: None if np.isnan(value) else value for key, value in figures.items()})
    return found


def _of_job(file: Path, frame: pd.DataFrame, seen: np.ndarray) -> dict:
    done = _read(file)
    scores = scores_of(file.parent, frame["id"])
    without = _read(file.with_name("held-out.json"))
    figures = {"validation": done["out_of_fold"]["auc"], "held_out": without["held_out"]["auc"]}
    labels = frame["label"].to_numpy(int)
    for name, part in (("seen", seen), ("unseen", ~seen)):
        figures[name] = roc_auc_score(labels[part], scores[part]) if part.any() else np.nan
    return figures


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def to_markdown(study, found: list[dict]) -> str:
    """Write the table, what either way chooses, and how far it orders the rows as the unseen languages do."""
    languages = ", ".join(study.held_out_languages)
    lines = [f"AUC by what a choice looks at; held out of a second training each: {languages}", ""]
    lines += [
        f"| row | {WAYS['validation']} | {WAYS['held_out']} | evaluated, seen | evaluated, unseen |",
        "|---" * 5 + "|",
    ]
    names = ("validation", "held_out", "seen", "unseen")
    lines += [
        f"| {one['row']} | " + " | ".join("-" if one[name] is None else f"{one[name]:.4f}" for name in names) + " |"
        for one in found
    ]
    table = pd.DataFrame(found)
    for way, title in WAYS.items() if len(found) > 1 and table["unseen"].notna().all() else ():
        best, order = found[int(table[way].argmax())], table[way].corr(table["unseen"], method="spearman")
        lines += ["", f"{title}: chooses **{best['row']}**, {best['unseen']:.4f} on unseen languages (best row "
                  f"{table['unseen'].max():.4f}); rank correlation with them {order:.2f}"]  # fmt: skip
    return "\n".join(lines)
