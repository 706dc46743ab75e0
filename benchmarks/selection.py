"""What a study's rows are chosen by: validation rows in the languages of training, or languages held out of it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

WAYS = {"validation": "validation, languages of training", "held_out": "languages held out"}


def measure(study, output: Path, folder_of) -> list[dict]:
    """Measure the rows that were trained twice, with the held-out languages and without.

    Args:
        study: what was trained.
        output: folder of the study.
        folder_of: (output, row name, seed) -> folder of that job.

    Returns:
        {"row", "validation", "held_out", "seen", "unseen"} a row whose seeds are all finished; AUC, means over seeds.
        `validation` and `held_out` are what a choice may look at, each by a model of its own; `seen` and `unseen` are
        the evaluated rows in the languages of training and in others, NaN where there are none.
    """
    from product_relevance.records import read_records

    frame = read_records(study.evaluate, role="train", on_bad_rows="skip")
    found = []
    for row in (row for row in study.rows if study.held_out(row)):
        files = [folder_of(output, row.name, seed) / "done.json" for seed in study.seeds]
        if all(file.is_file() for file in files):
            figures = pd.DataFrame([_of_job(file, frame) for file in files]).mean()
            found.append({"row": row.name} | figures.to_dict())
    return found


def _of_job(file: Path, frame: pd.DataFrame) -> dict:
    done = json.loads(file.read_text(encoding="utf-8"))
    table = pd.read_parquet(file.with_name("dev.txt.scores.parquet"))
    scores = table.set_index(table["id"].astype(str))["score"][frame["id"].astype(str)].to_numpy()
    seen = frame["language"].isin(done["languages"]).to_numpy()
    figures = {"validation": done["out_of_fold"]["auc"], "held_out": done["held_out"]["auc"]}
    labels = frame["label"].to_numpy(int)
    for name, part in (("seen", seen), ("unseen", ~seen)):
        figures[name] = roc_auc_score(labels[part], scores[part]) if part.any() else np.nan
    return figures


def to_markdown(study, found: list[dict]) -> str:
    """Write the table, what either way chooses, and how far it orders the rows as the unseen languages do."""
    languages = ", ".join(study.held_out_languages)
    lines = [f"AUC by what a choice looks at; held out of a second training each: {languages}", ""]
    lines += [
        f"| row | {WAYS['validation']} | {WAYS['held_out']} | evaluated, seen | evaluated, unseen |",
        "|---" * 5 + "|",
    ]
    names = ("validation", "held_out", "seen", "unseen")
    lines += [f"| {one['row']} | " + " | ".join(f"{one[name]:.4f}" for name in names) + " |" for one in found]
    table = pd.DataFrame(found)
    for way, title in WAYS.items() if len(found) > 1 else ():
        best, order = found[int(table[way].argmax())], table[way].corr(table["unseen"], method="spearman")
        lines += ["", f"{title}: chooses **{best['row']}**, {best['unseen']:.4f} on unseen languages (best row "
                  f"{table['unseen'].max():.4f}); rank correlation with them {order:.2f}"]  # fmt: skip
    return "\n".join(lines)
