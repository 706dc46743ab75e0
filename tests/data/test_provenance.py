"""Made rows name their source, keep its fold, and never bring a text of another fold into it."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.data.leakage import require_no_leak
from product_relevance.data.provenance import append_rows, draw_share, read_prepared, with_provenance, write_rows
from product_relevance.data.records import read_records
from tests.helpers.made_rows import prepared, query_text, with_odd_queries


def frame_of(queries, folds, labels=None, **columns) -> pd.DataFrame:
    count = len(queries)
    frame = {"id": range(1, count + 1), "task": "QC", "language": "es", "origin_query": queries, "query": queries}
    frame |= {"translated_query": queries, "target": "shoes", "label": pd.array(labels or [1] * count, dtype="Int8")}
    return pd.DataFrame(frame | {"fold": folds} | columns)


def test_originals_name_themselves_and_keep_their_values():
    frame = prepared()
    made = with_provenance(frame)
    assert made["id"].tolist() == made["source_row"].tolist() == frame["id"].astype(str).tolist()
    assert set(made["method"]) == {"original"} and set(made["seed"]) == {-1}
    pd.testing.assert_frame_equal(made[list(frame.columns.drop("id"))], frame.drop(columns="id"))


def test_new_rows_follow_the_originals_in_the_order_of_their_sources_with_numbered_ids():
    frame = prepared()
    made = append_rows(frame, [7, 2, 7], {"target": ["x", "y", "z"]}, "hard_negative", 5)
    new = made.iloc[len(frame) :]
    assert new["id"].tolist() == ["3#h1", "8#h1", "8#h2"] and new["target"].tolist() == ["y", "x", "z"]
    assert new["source_row"].tolist() == ["3", "8", "8"] and set(new["seed"]) == {5}
    assert new["fold"].tolist() == frame["fold"].iloc[[2, 7, 7]].tolist()
    assert made.attrs["made"] == {"hard_negative": {"rows": 3, "crossing": 0, "clashing": 0}}


def test_a_second_call_goes_on_counting_and_rows_made_of_made_rows_name_the_original():
    once = append_rows(prepared(), [2], {"origin_query": ["uno"]}, "translated", 0)
    twice = append_rows(once, [2], {"origin_query": ["due"]}, "translated", 1)
    deep = append_rows(twice, [len(twice) - 1], {"target": ["x"]}, "hard_negative", 0)
    assert deep["id"].tolist()[-3:] == ["3#t1", "3#t2", "3#t2#h1"]
    assert deep["source_row"].tolist()[-3:] == ["3", "3", "3"]
    assert deep["fold"].tolist()[-3:] == [deep["fold"].iloc[2]] * 3


def test_a_variant_that_is_a_query_of_another_fold_is_left_out():
    frame = frame_of(["shoes", "shoe", "boots"], [0, 1, 0])
    made = append_rows(frame, [0, 2], {"origin_query": ["Shoe!", "boot"]}, "noise", 0)
    assert made["origin_query"].tolist()[3:] == ["boot"] and made.attrs["made"]["noise"]["crossing"] == 1
    with pytest.raises(ValueError, match="share 1 queries"):
        require_no_leak(frame.assign(origin_query=["Shoe!", "shoe", "boots"]), frame["fold"] == 0, frame["fold"] == 1)


def test_of_a_new_text_that_two_folds_share_only_the_lower_fold_keeps_it():
    frame = frame_of(["couch", "sofa"], [1, 0])
    made = append_rows(frame, [0, 1], {"origin_query": ["Sitz", "sitz"]}, "translated", 0)
    assert made["source_row"].tolist()[2:] == ["2"]


def test_a_variant_that_contradicts_or_repeats_a_pair_is_left_out():
    frame = frame_of(["red shoes", "red shoe", "shoes red"], [0, 0, 0], [1, 0, 1])
    changes = {"origin_query": ["red shoe", "red shoes", "shoes red", "new"]}
    made = append_rows(frame, [0, 1, 0, 2], changes, "noise", 0)
    assert made["origin_query"].tolist()[3:] == ["new"] and made.attrs["made"]["noise"]["clashing"] == 3


@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 8)), max_size=60), st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_whatever_the_variants_no_text_is_in_two_folds(variants, seed):
    frame = prepared(60, seed)
    variants = [(row % len(frame), text) for row, text in variants]
    texts = [query_text(text) if text < 6 else f"new {text}" for _, text in variants]
    made = append_rows(frame, [row for row, _ in variants], {"origin_query": texts}, "noise", 0)
    assert made["id"].is_unique
    for fold in range(3):
        require_no_leak(made, made["fold"] != fold, made["fold"] == fold)
    pairs = made.assign(label=made["label"].astype(int)).groupby(["origin_query", "target"])["label"]
    assert (pairs.nunique() == 1).all()


def test_duplicate_ids_are_refused():
    frame = prepared()
    with pytest.raises(ValueError, match="'1' twice"):
        with_provenance(frame.assign(id=1))
    with pytest.raises(ValueError, match="'1#n1' twice"):
        append_rows(frame.assign(id=["1#n1", *map(str, frame["id"][:-1])]), [1], {"target": ["x"]}, "noise", 0)


def test_draws_are_those_of_every_platform():
    assert draw_share(42, "noise", "17") == 0.7442774513149537
    values = [draw_share(0, i) for i in range(4000)]
    assert min(values) >= 0 and max(values) < 1 and abs(sum(values) / 4000 - 0.5) < 0.02


def test_written_rows_are_read_back_and_their_bytes_depend_on_the_rows_alone(tmp_path):
    frame = with_odd_queries(prepared())
    frame = append_rows(frame[frame["query"] != ""], [30, 31], {"origin_query": ["uno", "due"]}, "translated", 3)
    for name, speed in (("a", 1), ("b", 2)):
        frame.attrs["rows_per_second"] = speed
        write_rows(frame.assign(line=speed, original=""), tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    read = read_prepared(tmp_path / "a.parquet", "QC")
    for name in frame.columns:
        assert read[name].tolist() == frame[name].tolist(), name


def test_records_without_folds_are_refused_with_the_way_out(train_file):
    assert len(read_records(train_file))
    with pytest.raises(ValueError, match=r"found no column .*fold.*prepare\.py"):
        read_prepared(train_file, "QC")
