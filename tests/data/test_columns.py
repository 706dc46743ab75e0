import sys

import pandas as pd
import pytest

from product_relevance.data.columns import Step, add_columns, fingerprint_frame
from product_relevance.text.cleaning import clean_columns

CALLS = []


def frame(rows=2500):
    return pd.DataFrame(
        {
            "task": "QC",
            "language": ["en", "de"] * (rows // 2),
            "origin_query": [f"%Thing {i}" for i in range(rows)],
            "target": "a,b, c",
            "label": pd.array([1, None] * (rows // 2), dtype="Int8"),
            "extras": [{"price": i} for i in range(rows)],
        },
        index=range(10, 10 + rows),
    )


def measure(batch, unit=1):
    CALLS.append(len(batch["origin_query"]))
    labels = [-1 if label is None else label for label in batch["label"]]
    return {"length": [len(text) * unit for text in batch["origin_query"]], "seen": labels}


STEPS = [Step("clean", clean_columns, {"lowercase": True}), Step("measure", measure, {"unit": 2})]


def test_columns_are_added_and_the_rest_stays():
    rows = frame()
    done = add_columns(rows, STEPS)
    assert done[rows.columns].equals(rows)
    assert done["query"].iloc[7] == "thing 7"
    assert done["length"].iloc[7] == 16
    assert "query" not in rows


def test_with_and_without_datasets_the_columns_are_the_same(tmp_path, monkeypatch):
    plain = add_columns(frame(), STEPS)
    cached = add_columns(frame(), STEPS, tmp_path)
    pd.testing.assert_frame_equal(cached, plain)
    monkeypatch.setitem(sys.modules, "datasets", None)
    pd.testing.assert_frame_equal(add_columns(frame(), STEPS, tmp_path / "none"), plain)


def test_a_second_call_reads_the_cache(tmp_path):
    first = add_columns(frame(), STEPS, tmp_path)
    CALLS.clear()
    pd.testing.assert_frame_equal(add_columns(frame(), STEPS, tmp_path), first)
    assert CALLS == []


@pytest.mark.parametrize("change", ["content", "options", "name"])
def test_other_content_options_or_name_are_computed_anew(tmp_path, change):
    add_columns(frame(), [Step("measure", measure, {"unit": 2})], tmp_path)
    CALLS.clear()
    rows = frame()
    if change == "content":
        rows.loc[10, "origin_query"] = "other"
    name, unit = ("other" if change == "name" else "measure"), (3 if change == "options" else 2)
    add_columns(rows, [Step(name, measure, {"unit": unit})], tmp_path)
    assert CALLS == [1000, 1000, 500]


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_file_is_computed_again(tmp_path, damage):
    first = add_columns(frame(), STEPS, tmp_path)
    for path in tmp_path.glob("*.arrow"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage is None else damage)
    pd.testing.assert_frame_equal(add_columns(frame(), STEPS, tmp_path), first)


@pytest.mark.parametrize("cache", [False, True])
def test_a_function_that_loses_rows_is_refused(tmp_path, cache):
    with pytest.raises(ValueError, match="'short': column 'x' has 1 rows, expected 1000"):
        add_columns(frame(), [Step("short", lambda batch: {"x": [1]}, {})], tmp_path if cache else None)


def test_options_that_the_cache_cannot_tell_apart_are_refused(tmp_path):
    with pytest.raises(ValueError, match="options that fit into JSON"):
        add_columns(frame(), [Step("measure", measure, {"unit": object()})], tmp_path)


def test_the_fingerprint_sees_values_and_names_but_not_the_index():
    rows = frame().drop(columns="extras")
    assert fingerprint_frame(rows) == fingerprint_frame(rows.reset_index(drop=True))
    assert fingerprint_frame(rows) != fingerprint_frame(rows.iloc[::-1])
    assert fingerprint_frame(rows) != fingerprint_frame(rows.rename(columns={"target": "title"}))


def test_a_frame_without_rows_gets_its_columns(tmp_path):
    done = add_columns(frame().iloc[:0], STEPS, tmp_path)
    assert {"query", "clean_target", "length"} <= set(done.columns)
    assert len(done) == 0
