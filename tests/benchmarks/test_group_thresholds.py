"""Thresholds by group are chosen on other queries, and gain only where groups differ."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.ablation.group_thresholds import compare_groups, decide_by_group, read_groups
from tests.conftest import rows_of, write_rows


def made(shift: float) -> pd.DataFrame:
    """Rows of two groups; the scores of the second lie higher by `shift`, whatever their label."""
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 1200)
    second = np.arange(1200) % 2
    score = np.clip(0.3 + 0.2 * label + shift * second + draw.normal(0, 0.05, 1200), 0, 1)
    names = np.where(second, "b", "a")
    groups = {"language": names, "first_level": names, "leaf": names}
    return pd.DataFrame({"label": label, "score": score, "query_digest": draw.integers(0, 600, 1200), **groups})


def test_groups_with_other_scores_gain_by_thresholds_of_their_own():
    found = compare_groups(made(0.3), [0])
    assert all(each.low > 0.05 for each in found.values())


def test_groups_alike_gain_nothing():
    assert abs(compare_groups(made(0.0), [100])["language", 100].difference) < 0.01


def test_a_large_shrinkage_is_one_threshold():
    rows = made(0.3)
    assert (decide_by_group(rows, "language", 1e12) == decide_by_group(rows, None, 0)).all()


def test_records_of_another_file_are_refused(tmp_path):
    rows = rows_of("train_QC.txt")[:20]
    oof = pd.DataFrame({"id": [str(row["id"]) for row in rows], "label": [1 - row["label"] for row in rows]})
    oof.to_parquet(tmp_path / "oof.parquet")
    with pytest.raises(ValueError, match="found other ids or labels"):
        read_groups(tmp_path, str(write_rows(tmp_path / "train_QC.txt", rows)))
