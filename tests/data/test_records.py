"""The reader loses nothing, leaves out only what it was told to, and drops no test row."""

import json
import logging
import time

import datasets
import pandas as pd
import pytest

from product_relevance.data.records import RecordError, read_records, source_record
from product_relevance.data.sources.tables import Source
from tests.helpers.record_rows import ROW, rows_of, without, write_lines


def test_a_competition_file_gives_the_stated_columns_and_attributes(tmp_path):
    path = write_lines(tmp_path / "train_QC.txt", rows_of({"translated_query": "red shoes"}, {"label": "0"}))
    records = read_records(path)
    given = ["id", "task", "language", "origin_query", "target", "label"]
    assert list(records.columns) == [*given, "defect", "translated_query", "original", "line"]
    assert records["id"].tolist() == [1, 2]
    assert records["label"].tolist() == [1, 0] and records["label"].dtype == "Int8"
    assert records["target"].tolist() == ["shoes,women's shoes"] * 2
    assert records["translated_query"].tolist()[0] == "red shoes" and records["translated_query"].isna()[1]
    assert records["defect"].tolist() == records["original"].tolist() == ["", ""]
    assert records.attrs["source"] == str(path) and len(records.attrs["sha256"]) == 64
    assert records.attrs["task"] == "QC" and records.attrs["rows_per_second"] > 0


def test_a_file_without_labels_has_no_label_column(tmp_path):
    rows = [without("label", row) for row in rows_of({}, {})]
    assert "label" not in read_records(write_lines(tmp_path / "test.txt", rows), role="test")


def test_bom_crlf_and_blank_lines_are_tolerated_and_line_numbers_count_them(tmp_path):
    first, second = (json.dumps(row).encode() for row in rows_of({}, {}))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + first + b"\r\n\r\n  \n" + second)
    assert read_records(tmp_path / "a.txt")["line"].tolist() == [1, 4]


def test_a_unicode_line_separator_does_not_split_a_line(tmp_path):
    row = json.dumps(ROW | {"origin_query": "a\u2028b\x85c"}, ensure_ascii=False).encode()
    records = read_records(write_lines(tmp_path / "a.txt", [row]))
    assert records["origin_query"].tolist() == ["a\u2028b\x85c"]


def test_ids_of_mixed_types_become_texts_that_parquet_can_hold_and_can_be_restored(tmp_path):
    rows = rows_of({"id": "a"}, {"id": 2}, {"id": 10**30})
    records = read_records(write_lines(tmp_path / "a.txt", rows))
    assert records["id"].tolist() == ["a", "2", str(10**30)]
    records.to_parquet(tmp_path / "a.parquet")
    records = pd.read_parquet(tmp_path / "a.parquet")
    assert [source_record(row)["id"] for row in records.to_dict("records")] == ["a", 2, 10**30]


@pytest.mark.parametrize("label", [0, 1, "0", "1", "1.0", 0.0])
def test_a_label_may_be_integer_integral_float_or_text(tmp_path, label):
    records = read_records(write_lines(tmp_path / "a.txt", rows_of({"label": label})))
    assert records["label"].tolist() == [int(float(label))]


def test_a_field_with_a_name_of_ours_is_kept_under_another_name(tmp_path):
    rows = rows_of({"line": 77, "target": "x", "defect": "y"})
    records = read_records(write_lines(tmp_path / "a.txt", rows))
    assert records.loc[0, ["line", "source_line", "source_target", "source_defect"]].tolist() == [1, 77, "x", "y"]


def test_the_fingerprint_follows_the_content_and_not_the_name(tmp_path):
    names = ["a.txt", "b.jsonl", "c.txt"]
    changes = [{}, {}, {"language": "pt"}]
    prints = [
        read_records(write_lines(tmp_path / name, rows_of(change))).attrs["sha256"]
        for name, change in zip(names, changes, strict=True)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_data_set_with_splits_asks_which_one(tmp_path):
    splits = {"train": rows_of({}), "dev": rows_of({}, {})}
    data = datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(RecordError, match=r"found several splits, expected one of train, dev; name one with --split"):
        read_records(tmp_path / "saved")
    assert len(read_records(Source(str(tmp_path / "saved"), split="dev"))) == 2
    with pytest.raises(RecordError, match="no split 'test'"):
        read_records(Source(str(tmp_path / "saved"), split="test"))


def test_a_split_has_the_fingerprint_of_its_own_folder_which_the_error_names(tmp_path):
    splits = {"dev": rows_of({}, {}), "train": rows_of({})}
    data = datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(RecordError, match=f"or give its own folder, {tmp_path}/saved/dev"):
        read_records(tmp_path / "saved")
    named, own = read_records(Source(str(tmp_path / "saved"), "dev")), read_records(tmp_path / "saved/dev")
    assert named.attrs["sha256"] == own.attrs["sha256"] and len(named) == 2


def test_a_hub_data_set_is_loaded_with_its_revision_and_no_remote_code(tmp_path, monkeypatch):
    asked = {}

    def load_dataset(name, **options):
        asked.update(options, name=name)
        return datasets.Dataset.from_list(rows_of({}, {}))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    records = read_records(Source("org/name", split="train", revision="v1"))
    assert asked == {"name": "org/name", "split": "train", "revision": "v1"}
    assert len(records) == 2 and len(records.attrs["sha256"]) == 64


@pytest.mark.parametrize("name", ["nothing.txt", "data/nothing.txt", "nothing", "a.xlsx", "a\0b"])
def test_a_source_that_does_not_exist_is_not_asked_of_the_hub(name, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(RecordError, match="no such file or folder"):
        read_records(name)


def test_split_and_revision_are_refused_where_they_mean_nothing(tmp_path):
    path = write_lines(tmp_path / "a.txt", rows_of({}))
    with pytest.raises(RecordError, match="found split 'dev'"):
        read_records(Source(str(path), split="dev"))
    with pytest.raises(RecordError, match="found revision 'main'"):
        read_records(Source(str(path), revision="main"))


def test_skip_writes_each_rejected_row_with_its_reasons_and_says_how_many(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    rows = rows_of({}, {"label": 7, "origin_query": ""}, {"language": "th"})
    path = write_lines(tmp_path / "train_QC.txt", [*rows, b"{broken \xff"])
    records = read_records(path, on_bad_rows="skip")
    assert records["id"].tolist() == [1, 3]
    rejects = [json.loads(line) for line in (tmp_path / "train_QC.rejects.jsonl").read_text().splitlines()]
    assert [set(reject) for reject in rejects] == [{"file", "line", "field", "found", "expected", "reason", "raw"}] * 2
    assert rejects[0]["raw"] == rows[1] and rejects[0]["file"] == str(path) and rejects[0]["line"] == 2
    assert "'origin_query'" in rejects[0]["reason"] and "'label'" in rejects[0]["reason"]
    assert rejects[1]["raw"] == "{broken \\xff" and rejects[1]["line"] == 4
    assert "2 bad rows left out" in caplog.text


def test_skip_without_a_bad_row_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read_records(write_lines(tmp_path / "a.txt", rows_of({})), on_bad_rows="skip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_skip_with_no_good_row_left_is_an_error(tmp_path):
    path = write_lines(tmp_path / "a.txt", rows_of({"label": 7}))
    with pytest.raises(RecordError, match="no usable row"):
        read_records(path, on_bad_rows="skip", rejects_path=tmp_path / "r.jsonl")


EMPTY = [
    {"item_title": None},
    {"item_title": "nan"},
    {"item_title": ""},
    {"origin_query": "  "},
    {"origin_query": None},
]


@pytest.mark.parametrize("on_bad_rows", ["error", "skip"])
def test_a_test_row_without_query_or_title_is_kept_and_its_source_can_be_restored(tmp_path, on_bad_rows, caplog):
    rows = [without("label", row) for row in rows_of({}, *EMPTY, task="QI")] + [
        without("item_title", without("label", rows_of(*[{}] * 7, task="QI")[-1]))
    ]
    path = write_lines(tmp_path / "test.txt", rows)
    records = read_records(path, role="test", on_bad_rows=on_bad_rows)
    assert records["id"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert records["defect"].astype(bool).tolist() == [False] + [True] * 6
    assert records["target"].tolist()[1:4] == ["", "", ""] and records["origin_query"].tolist()[4:6] == ["", ""]
    assert "6 test rows have a defect and are kept" in caplog.text
    restored = [source_record(row) for row in records.to_dict("records")]
    assert restored == [*rows[:6], rows[6] | {"item_title": None}]


def test_other_defects_of_a_test_row_stop_the_reading_or_are_kept_by_skip(tmp_path):
    changes = [{"origin_query": 12}, {"origin_query": "a\0b"}, {"language": ""}]
    path = write_lines(tmp_path / "test.txt", rows_of({}, *changes))
    with pytest.raises(RecordError, match="3 defects"):
        read_records(path, role="test")
    records = read_records(path, role="test", on_bad_rows="skip")
    assert records["origin_query"].tolist()[1:3] == ["", "ab"]
    assert source_record(records.iloc[2].to_dict())["origin_query"] == "a\0b"


@pytest.mark.parametrize("label", [9, "maybe", "", None, [1], float("nan"), "a\0b"])
def test_labels_of_a_test_file_are_not_read(tmp_path, label):
    records = read_records(write_lines(tmp_path / "test.txt", rows_of({}, {"label": label})), role="test")
    assert records["defect"].tolist() == ["", ""] and records["label"].isna().tolist() == [False, True]


@pytest.mark.parametrize("bad", [b"{", b"\xff", {"id": None}, {"id": 1}, {"task": "QI"}])
def test_a_test_row_without_a_sure_id_or_task_stops_the_reading_even_with_skip(tmp_path, bad):
    first, second, third = rows_of({}, {}, {})
    path = write_lines(tmp_path / "test.txt", [first, bad if isinstance(bad, bytes) else second | bad, third])
    with pytest.raises(RecordError, match="a submission needs every id"):
        read_records(path, task="QC", role="test", on_bad_rows="skip")


def test_options_are_checked(tmp_path):
    path = write_lines(tmp_path / "a.txt", rows_of({}))
    for option in ({"task": "XX"}, {"role": "dev"}, {"on_bad_rows": "drop"}):
        with pytest.raises(ValueError, match=f"{next(iter(option))}: found"):
            read_records(path, **option)


def test_300_000_rows_are_read_and_checked_in_under_15_seconds_of_a_core(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    path = tmp_path / "train.txt"
    with open(path, "w", encoding="utf-8") as file:
        for number in range(300_000):
            query, category = f"zapatos rojos talla {number}", f"calzado,zapatos {number % 997},mujer & niña"
            row = ROW | {"id": number, "origin_query": query, "category_path": category, "label": number % 3 % 2}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    started = time.process_time()
    records = read_records(path, task="QC")
    assert time.process_time() - started < 15
    assert len(records) == 300_000 and records.attrs["rows_per_second"] > 0
