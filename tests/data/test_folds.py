import hashlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.data.folds import (
    FoldAssignment,
    assign_folds,
    leave_languages_out,
    prefix_groups,
    query_groups,
    query_keys,
    training_rows,
)
from product_relevance.data.leakage import LeakageError, check_leakage, require_no_leak
from tests.conftest import ROOT


def records(rows=600, queries=200, seed=0, task="QC"):
    """Made-up records: repeated queries in different writings, some with colliding translations."""
    rng = np.random.default_rng(seed)
    query = rng.integers(0, queries, rows)
    writing = [str.upper, str.title, lambda text: f" {text}  ", lambda text: f'"{text}"']
    language = np.array(["en", "es", "ja", "ko"])[query % 4]
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "task": task,
            "language": language,
            "origin_query": [writing[i % 4](f"thing {q} word") for i, q in enumerate(query)],
            "translated_query": [f"english {q // 2}" for q in query],
            "target": [f"root {a},mid {b},leaf, {c}" for a, b, c in rng.integers(0, [5, 12, 9], (rows, 3))],
            "label": pd.array(rng.random(rows) < 0.7, dtype="Int8"),
        }
    )


def crossings(groups, folds):
    return int((pd.Series(folds).groupby(np.asarray(groups)).nunique() > 1).sum())


@pytest.mark.parametrize("group_by", ["query", "prefix", "query+prefix"])
def test_folds_do_not_depend_on_the_order_of_rows(group_by):
    frame = records()
    folds = assign_folds(frame, 3, group_by)
    order = np.random.default_rng(1).permutation(len(frame))
    assert (assign_folds(frame.iloc[order], 3, group_by) == folds[order]).all()


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_no_group_crosses_folds_whatever_the_order(seed, k):
    frame = records(200, 60, seed)
    folds = assign_folds(frame, k)
    assert set(folds) == set(range(k))
    assert crossings(query_groups(frame), folds) == 0
    for fold in range(k):
        train, purged = training_rows(frame, folds, fold)
        assert purged == 0
        assert require_no_leak(frame, train, folds == fold).ok
    shuffled = frame.sample(frac=1, random_state=seed)
    assert (assign_folds(shuffled, k) == folds[shuffled.index]).all()


def test_folds_do_not_depend_on_the_hash_seed():
    program = (
        "import hashlib\n"
        "from tests.data import test_folds as t\n"
        "from product_relevance.data.folds import assign_folds\n"
        "folds = [assign_folds(t.records(), 3, by).astype('<i8').tobytes() for by in ('query', 'query+prefix')]\n"
        "print(hashlib.sha256(b''.join(folds)).hexdigest())"
    )
    path = str(ROOT)
    found = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        found.add(run.stdout.strip())
    folds = [assign_folds(records(), 3, by).astype("<i8").tobytes() for by in ("query", "query+prefix")]
    assert found == {hashlib.sha256(b"".join(folds)).hexdigest()}


def test_another_seed_gives_other_folds():
    frame = records()
    assert (assign_folds(frame, seed=1) != assign_folds(frame, seed=2)).mean() > 0.3


@pytest.mark.parametrize("task", ["QC", "QI"])
def test_languages_and_labels_are_spread_evenly(task):
    frame = records(6000, 2500, task=task)
    folds = assign_folds(frame)
    assert np.bincount(folds).max() - np.bincount(folds).min() < 30
    strata = frame["language"] + frame["label"].astype(str)
    if task == "QC":
        strata += frame["target"].str.split(",").str[0]
    shares = pd.crosstab(strata, folds, normalize="columns")
    assert (shares.max(axis=1) - shares.min(axis=1)).max() < 0.02


def test_a_translation_links_what_the_queries_do_not():
    frame = records(4).assign(
        origin_query=["rotes Rad", "red bike", "vélo rouge", "cup"],
        translated_query=["Red  bike", "red bike", "RED BIKE!", None],
    )
    groups = query_groups(frame)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_prefix_groups_stay_together_and_the_purge_drops_shared_queries_from_training():
    frame = records()
    folds = assign_folds(frame, 3, "query+prefix")
    assert crossings(prefix_groups(frame), folds) == 0
    for fold in range(3):
        train, purged = training_rows(frame, folds, fold, "query+prefix")
        assert purged == (folds != fold).sum() - train.sum() > 0
        assert require_no_leak(frame, train, folds == fold, "query+prefix").shared_prefixes == 0
        with pytest.raises(LeakageError):
            require_no_leak(frame, folds != fold, folds == fold, "query+prefix")


def test_folds_by_prefix_alone_show_shared_queries_but_do_not_promise_them():
    frame = records()
    folds = assign_folds(frame, 3, "prefix")
    report = check_leakage(frame, folds != 0, folds == 0, "prefix")
    assert report.ok
    assert report.shared_queries > 0


@pytest.mark.parametrize("query", ["RED BAG", " red   bag ", "ｒｅｄ bag", '"red bag".', "red&#32;bag\u200b"])
def test_planted_leaks_are_found_in_every_writing(query):
    frame = records(2).assign(origin_query=["red bag", query], translated_query=["a", "b"])
    report = check_leakage(frame, [True, False], [False, True])
    assert (report.shared_queries, report.ok) == (1, False)
    with pytest.raises(LeakageError, match="share 1 queries, for example 'red bag'"):
        require_no_leak(frame, [True, False], [False, True])


def test_leaks_through_translations_are_found_straight_and_crosswise():
    straight = records(2).assign(origin_query=["rotes Rad", "vélo rouge"], translated_query=["Red bike", "red bike "])
    assert check_leakage(straight, [True, False], [False, True]).leaks == {"translations": 1}
    across = records(2).assign(origin_query=["rotes Rad", "red bike"], translated_query=["Red bike", "a red bike"])
    assert check_leakage(across, [True, False], [False, True]).leaks == {"query = translation": 1}


def test_the_report_is_a_table_of_shares_and_verdict():
    frame = records(40).assign(language=["en"] * 20 + ["de"] * 20)
    text = check_leakage(frame, frame.index < 20, frame.index >= 20).to_text()
    assert "language de" in text
    assert "LEAK: " in text
    assert check_leakage(frame.drop(columns="label"), frame.index < 20, frame.index >= 20).to_text()


def test_languages_left_out_share_no_query_with_the_rest():
    frame = records().assign(language=np.array(["en", "es", "de"])[np.arange(600) % 3])
    train, valid = leave_languages_out(frame.iloc[:60], ["de"])
    frame = frame.iloc[:60]
    assert (frame.loc[valid, "language"] == "de").all()
    assert "de" not in set(frame.loc[train, "language"])
    assert require_no_leak(frame, train, valid).ok
    with pytest.raises(ValueError, match="found xx"):
        leave_languages_out(frame, ["xx"])


def test_unlabelled_rows_without_translations_are_folded_as_well():
    frame = records().drop(columns=["label", "translated_query"])
    assert set(assign_folds(frame)) == {0, 1, 2}
    assert set(query_keys(frame)[1]) == {""}


def test_impossible_folds_are_told():
    with pytest.raises(ValueError, match="item titles"):
        assign_folds(records(task="QI"), group_by="prefix")
    with pytest.raises(ValueError, match="expected one of query, prefix"):
        assign_folds(records(), group_by="title")
    with pytest.raises(ValueError, match="found 1 groups"):
        assign_folds(records(5, 1))
    with pytest.raises(ValueError, match="fold: found 3"):
        training_rows(records(), assign_folds(records()), 3)


def test_an_assignment_names_the_rows_of_each_fold_by_task_whatever_their_order():
    rows = pd.DataFrame({"id": [3, 1, 2, 1], "task": ["QC", "QC", "QC", "QI"]})
    found = FoldAssignment.from_rows(rows, ["fold-0", "fold-0", "", "fold-1"])
    assert found.validated_by("fold-0").tolist() == [True, True, False, False]
    assert found.to_json() == {
        "fold-0": {"QC": hashlib.sha256(b"1\x1f3").hexdigest()},
        "fold-1": {"QI": hashlib.sha256(b"1").hexdigest()},
    }
    turned = FoldAssignment.from_rows(rows[::-1], ["fold-1", "", "fold-0", "fold-0"])
    assert turned.to_json() == found.to_json()
