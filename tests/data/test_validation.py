"""Every defect of a source is found and told with its place."""

import pytest

from product_relevance.data.records import RecordError, read_records
from tests.helpers.record_rows import ROW, rows_of, without, write_lines

DEFECTS = {
    "bad JSON": (b'{"id": 2, "task"', "", "bad JSON"),
    "bad UTF-8": (b'{"id": 2, "origin_query": "caf\xe9"}', "", "byte 0xe9 at position 31, which is not UTF-8"),
    "NUL byte": (b'{"id": 2, "origin_query": "a\0b"}', "", "a NUL character at byte 29"),
    "a list": (b"[1, 2]", "", "a JSON list"),
    "a field twice": (b'{"id": 2, "id": 3}', "", "the field 'id' twice"),
    "deep nesting": (b"[" * 100_000, "", "too deep"),
    "NUL escape": ({"origin_query": "a\0b"}, "origin_query", "a NUL character"),
    "half a surrogate pair": ({"category_path": "a\ud800"}, "category_path", "half a surrogate pair"),
    "NUL in an extra field": ({"translated_query": "a\0"}, "translated_query", "a NUL character"),
    "no id": ({"id": None}, "id", "found nothing"),
    "id is a float": ({"id": 1.5}, "id", "found 1.5"),
    "id twice": ({"id": 1}, "id", "again, first at"),
    "id twice, as text": ({"id": "1"}, "id", "again, first at"),
    "wrong task": ({"task": "QI"}, "task", "found 'QI', expected 'QC'"),
    "no language": ({"language": ""}, "language", "an empty text"),
    "empty query": ({"origin_query": " \u200b\t"}, "origin_query", "an empty text"),
    "null query": ({"origin_query": None}, "origin_query", "found null"),
    "query is a number": ({"origin_query": 12}, "origin_query", "found 12 (int), expected text"),
    "null target": ({"category_path": None}, "category_path", "found null"),
    "NaN target": ({"category_path": float("nan")}, "category_path", "found null"),
    "target is the text nan": ({"category_path": "nan"}, "category_path", "'nan', a missing value"),
    "label 2": ({"label": 2}, "label", "found 2, expected 0 or 1"),
    "label maybe": ({"label": "maybe"}, "label", "found 'maybe'"),
    "no label": ({"label": None}, "label", "found nothing"),
    "label list": ({"label": [1]}, "label", "found [1]"),
}


@pytest.mark.parametrize(("change", "field", "found"), DEFECTS.values(), ids=DEFECTS)
def test_each_defect_is_told_with_file_line_field_and_what_was_found(tmp_path, change, field, found):
    good, bad, last = rows_of({}, {} if isinstance(change, bytes) else change, {})
    path = write_lines(tmp_path / "train.txt", [good, change if isinstance(change, bytes) else bad, last])
    with pytest.raises(RecordError) as error:
        read_records(path, task="QC")
    told = str(error.value)
    assert told.startswith(f"{path}:2: field '{field}': found " if field else f"{path}:2: found ")
    assert found in told and "expected" in told and "--on_bad_rows skip" in told
    assert [(defect.line, defect.field) for defect in error.value.defects] == [(2, field)]
    records = read_records(path, task="QC", on_bad_rows="skip", rejects_path=tmp_path / "rejects.jsonl")
    assert records["line"].tolist() == [1, 3] and records.attrs["rejected"] == 1
    assert len((tmp_path / "rejects.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("field", ["id", "task", "language", "origin_query", "category_path", "label"])
def test_a_missing_field_is_told_for_a_row_and_for_the_file(tmp_path, field):
    path = write_lines(tmp_path / "a.txt", [ROW | {"id": 5, "origin_query": "other"}, without(field)])
    with pytest.raises(RecordError, match=rf"a\.txt:2: field '{field}': found nothing"):
        read_records(path)


@pytest.mark.parametrize("field", ["origin_query", "category_path", "label"])
def test_a_field_that_no_row_has_is_one_error(tmp_path, field):
    path = write_lines(tmp_path / "b.txt", [without(field)])
    with pytest.raises(RecordError, match=rf"b\.txt: field '{field}': found no "):
        read_records(path)


def test_contradictory_labels_reject_all_rows_of_the_pair_in_whatever_spelling(tmp_path):
    pair = {"origin_query": "Ａ  Shoe", "label": 0}
    rows = rows_of({"origin_query": "a shoe"}, {}, pair, {"origin_query": "a SHOE "})
    path = write_lines(tmp_path / "a.txt", rows)
    with pytest.raises(RecordError, match=r"a\.txt:3: field 'label': found 0, but 1 for the same pair at .*a\.txt:1"):
        read_records(path)
    records = read_records(path, on_bad_rows="skip", rejects_path=tmp_path / "r.jsonl")
    assert records["id"].tolist() == [2]


@pytest.mark.parametrize("role", ["test", "any"])
def test_contradictory_labels_outside_training_are_a_warning(tmp_path, caplog, role):
    rows = rows_of({"origin_query": "same"}, {"origin_query": "same", "label": 0})
    records = read_records(write_lines(tmp_path / "dev.txt", rows), role=role)
    assert len(records) == 2 and records.attrs["contradictory_rows"] == 2
    assert "2 rows belong to pairs that have several labels" in caplog.text


def test_mixed_tasks_name_the_rows_of_the_rarer_one(tmp_path):
    rows = rows_of({}, {"task": "QI"}, {})
    with pytest.raises(RecordError, match=r":2: field 'task': found 'QI', expected 'QC'"):
        read_records(write_lines(tmp_path / "a.txt", rows))


@pytest.mark.parametrize(("task", "other"), [("QC", "QI"), ("QI", "QC")])
@pytest.mark.parametrize("empty", [False, True], ids=["one target field", "both target fields"])
def test_a_file_of_the_other_task_is_one_error_that_names_the_task(tmp_path, task, other, empty):
    rows = rows_of({}, {}, task=other)
    if empty:
        rows = [row | {field: row.get(field) for field in ("category_path", "item_title")} for row in rows]
    path = write_lines(tmp_path / "a.txt", rows)
    with pytest.raises(RecordError, match=f"it looks like a {other} file: take it for task {other}") as error:
        read_records(path, task=task)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"\n \n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet"])
def test_an_empty_file_is_an_error(tmp_path, content, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"a\.\w+:"):
        read_records(path)


def test_many_defects_are_counted_and_ten_are_shown_with_values_cut(tmp_path):
    path = write_lines(tmp_path / "a.txt", rows_of({}, *[{"label": f"{n}{'x' * 500}"} for n in range(25)]))
    with pytest.raises(RecordError, match="25 defects, of which the first 10") as error:
        read_records(path)
    assert len(error.value.defects) == 25
    assert str(error.value).count("field 'label'") == 10 and len(str(error.value)) < 10 * (len(str(path)) + 150) + 300


def test_csv_defects_have_the_line_of_their_row(tmp_path):
    header = "id,task,language,origin_query,category_path,label\n"
    body = '1,QC,en,"two\nlines",shoes,1\n2,QC,en,bag,bägs,7\n3,QC,en,hat\n4,QC,en,"cap"x,caps,1\n'
    (tmp_path / "a.csv").write_bytes((header + body).encode() + b"5,QC,en,caf\xe9,cups,1\n")
    with pytest.raises(RecordError) as error:
        read_records(tmp_path / "a.csv")
    told = [(defect.line, defect.field) for defect in error.value.defects]
    assert told == [(4, "label"), (5, ""), (6, ""), (7, "origin_query")]
    assert "4 columns, expected 6 columns as in the header" in str(error.value)
    assert "not UTF-8" in str(error.value)


def test_csv_headers_must_be_distinct_names(tmp_path):
    (tmp_path / "a.csv").write_text("id,id,task\n1,1,QC\n")
    with pytest.raises(RecordError, match=r"a\.csv:1: found the column name 'id' twice"):
        read_records(tmp_path / "a.csv")
