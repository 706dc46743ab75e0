"""Graded labels beside their binary view: what counts as relevant for F1, thresholds and decisions."""

import pandas as pd


def add_grades(frame: pd.DataFrame, grades: int, relevant_from: int | None) -> pd.DataFrame:
    """Keep the grades of records as `grade`, and make `label` their binary view.

    Args:
        frame: Of `read_records`, with grades as its labels.
        grades: Number of grades K; 2 changes nothing.
        relevant_from: Lowest grade that counts as relevant; half of K, rounded down, if None.

    Returns:
        The frame with `grade` (Int8, 0 to K - 1) and `label` (Int8, 0 or 1), missing where there is no grade.
    """
    if grades == 2 or "label" not in frame:
        return frame
    least = grades // 2 if relevant_from is None else relevant_from
    graded = frame.assign(grade=frame["label"], label=(frame["label"] >= least).astype("Int8"))
    graded.attrs = dict(frame.attrs)
    return graded
