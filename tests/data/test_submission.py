"""A submission that was written passes the check, and every change to it is caught."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from product_relevance.cli.main import main
from product_relevance.data.records import RecordError, read_records
from product_relevance.data.submission import check_submission, compare_submissions, write_submission, zip_submission

ROWS = [
    {"id": 1, "task": "QI", "language": "vn", "origin_query": "giày đỏ", "item_title": 'Shoes, 5" heel'},
    {"id": 2, "task": "QI", "language": "ar", "origin_query": "حذاء \u2028", "item_title": None},
    {"id": 3, "task": "QI", "language": "th", "origin_query": "", "item_title": "nan"},
    {"id": "x4", "task": "QI", "language": "en", "origin_query": '\\"American Street..', "item_title": "🦄\t"},
    {"id": 5, "task": "QI", "language": "en", "origin_query": 12, "item_title": "a\u0000b"},
    {"id": 6, "task": "QI", "language": "", "origin_query": "q", "item_title": "\ud800"},
]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "test_QI.txt"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def submission(tmp_path, source):
    records = read_records(source, role="test", on_bad_rows="skip")
    return write_submission(records, np.array([1, 0, 1, 0, 1, 1]), tmp_path / "submit_QI.txt")


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def rewrite(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_submission_holds_each_record_as_it_was_in_its_order_with_a_prediction(submission):
    assert lines_of(submission) == [
        row | {"prediction": value} for row, value in zip(ROWS, [1, 0, 1, 0, 1, 1], strict=True)
    ]
    assert list(lines_of(submission)[0]) == ["id", "task", "language", "origin_query", "item_title", "prediction"]


def test_what_was_written_passes_the_check_in_any_order(source, submission):
    assert check_submission(source, submission) == []
    assert check_submission(source, rewrite(submission, lines_of(submission)[::-1])) == []


def test_an_absent_or_nan_title_is_written_as_null(tmp_path):
    absent = {name: value for name, value in ROWS[0].items() if name != "item_title"}
    source = tmp_path / "test.txt"
    source.write_text("\n".join(json.dumps(row) for row in (absent, ROWS[1] | {"item_title": float("nan")})))
    path = write_submission(read_records(source, role="test"), [True, False], tmp_path / "submit_QI.txt")
    assert [row["item_title"] for row in lines_of(path)] == [None, None]
    assert check_submission(source, path) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_source_in_another_format_gives_a_submission_that_passes(tmp_path, suffix):
    rows = pd.DataFrame([ROWS[0], ROWS[1] | {"item_title": "b"}])
    rows.to_csv(tmp_path / "test.csv", index=False)
    rows.to_parquet(tmp_path / "test.parquet")
    source = tmp_path / f"test.{suffix}"
    path = write_submission(read_records(source, role="test"), [1, 0], tmp_path / "submit_QI.txt")
    assert check_submission(source, path) == []
    assert [row["id"] for row in lines_of(path)] == [1, 2]


@pytest.mark.parametrize("predictions", [[1] * 5, [[1]] * 6, [0.7] * 6, [2] * 6, ["1"] * 6, [1, 0, None, 1, 1, 1]])
def test_predictions_that_are_not_0_or_1_for_each_record_are_refused(source, tmp_path, predictions):
    records = read_records(source, role="test", on_bad_rows="skip")
    with pytest.raises(ValueError, match="predictions: found"):
        write_submission(records, predictions, tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()


MUTATIONS = {
    "a prediction as text": ({"prediction": "1"}, "field 'prediction': found '1'"),
    "a prediction as boolean": ({"prediction": True}, "field 'prediction': found True"),
    "a prediction as float": ({"prediction": 1.0}, "field 'prediction': found 1.0"),
    "a prediction of 2": ({"prediction": 2}, "field 'prediction': found 2"),
    "no prediction": ({"prediction": ...}, "field 'prediction': found nothing"),
    "another language": ({"language": "vi"}, "field 'language': found 'vi', expected 'vn' as in the source"),
    "a cleaned query": ({"origin_query": "giay do"}, "field 'origin_query': found 'giay do'"),
    "another title": ({"item_title": None}, "field 'item_title': found None"),
    "another task": ({"task": "QC"}, "field 'task': found 'QC'"),
    "no title": ({"item_title": ...}, "field 'item_title': found nothing"),
    "a label left in": ({"label": 1}, "field 'label': found 1, expected no such field"),
    "an id as text": ({"id": "1"}, "field 'id': found '1', expected 1 as in the source"),
    "an unknown id": ({"id": 99}, "field 'id': found 99, expected an id of the source"),
    "another row's id": ({"id": 2}, "field 'id': found '2' again"),
    "no id": ({"id": ...}, "field 'id': found None"),
}


@pytest.mark.parametrize(("change", "told"), MUTATIONS.values(), ids=MUTATIONS)
def test_each_change_to_a_record_is_caught(source, submission, change, told):
    rows = lines_of(submission)
    rows[0] = {name: value for name, value in (rows[0] | change).items() if value is not ...}
    defects = check_submission(source, rewrite(submission, rows))
    assert any(told in defect for defect in defects)
    assert any(defect.startswith(f"{submission}:") for defect in defects)


def test_a_title_put_in_where_there_was_none_is_caught(source, submission):
    rows = lines_of(submission)
    for title in ("", "nan"):
        rows[1]["item_title"] = title
        assert "field 'item_title'" in check_submission(source, rewrite(submission, rows))[0]


@pytest.mark.parametrize(
    ("mutate", "told"),
    [
        (lambda raw: b"\n".join(raw.split(b"\n")[1:]), "found no line for 1 ids (1)"),
        (lambda raw: raw + raw.split(b"\n")[0], "again, expected each id once; first in line 1"),
        (lambda raw: raw[:-10], "bad JSON"),
        (lambda raw: raw.replace(b"\n", b"\n\n", 1), ":2: found a blank line"),
        (lambda raw: b"\xef\xbb\xbf" + raw, ":1: found a byte order mark"),
        (lambda raw: raw.replace("đ".encode(), b"\xff"), "not UTF-8"),
        (lambda raw: raw.replace(b'"task"', b'"id": 1, "task"', 1), "the field 'id' twice"),
        (lambda raw: b"", "found no line for 6 ids"),
    ],
)
def test_each_damage_to_the_file_is_caught(source, submission, mutate, told):
    submission.write_bytes(mutate(submission.read_bytes()))
    assert any(told in defect for defect in check_submission(source, submission))


def test_a_submission_for_the_other_task_is_one_defect_that_names_it(source, submission):
    rows = [row | {"task": "QC", "category_path": row["item_title"]} for row in lines_of(submission)]
    defects = check_submission(source, rewrite(submission, rows))
    assert defects == [f"{submission}: found a submission for QC, expected one for QI as in {source}"]


def test_the_command_shows_ten_defects_and_their_number(source, submission, tmp_path, capsys):
    rewrite(submission, [{"id": number} for number in range(100, 140)])
    with pytest.raises(SystemExit, match="41 defects, of which the first 10 are above"):
        main(["check", str(source), str(submission)])
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_a_submission_that_is_not_there_is_a_defect_and_a_bad_source_an_error(source, tmp_path):
    assert "no such file" in check_submission(source, tmp_path / "none.txt")[0]
    with pytest.raises(RecordError, match="no such file"):
        check_submission(tmp_path / "none.txt", source)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_single_byte_can_change_a_text_or_prediction_unseen(source, submission, data):
    good = submission.read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    bad = good[:position] + bytes([data.draw(st.integers(0, 255))]) + good[position + 1 :]
    submission.write_bytes(bad)
    defects = check_submission(source, submission)
    if not defects:
        rows = [{name: value for name, value in row.items() if name != "prediction"} for row in lines_of(submission)]
        assert rows == ROWS
    submission.write_bytes(good)


def test_a_comparison_counts_differing_predictions_by_language_and_shows_some(submission, tmp_path):
    rows = lines_of(submission)
    for position in (0, 3, 4):
        rows[position]["prediction"] ^= 1
    other = rewrite(tmp_path / "other.txt", rows[::-1])
    compared = compare_submissions(submission, other, examples=2)
    assert (compared["rows"], compared["differing"], compared["share"]) == (6, 3, 0.5)
    assert compared["by_language"]["en"] == {"rows": 2, "differing": 2, "share": 1.0}
    assert compared["by_language"]["th"] == {"rows": 1, "differing": 0, "share": 0.0}
    assert [(row["id"], row["a"], row["b"]) for row in compared["examples"]] == [(1, 1, 0), ("x4", 0, 1)]
    json.dumps(compared)
    assert compare_submissions(submission, submission)["differing"] == 0


def test_submissions_with_other_ids_or_no_predictions_are_not_compared(submission, source, tmp_path):
    with pytest.raises(RecordError, match="found 1 ids in one only"):
        compare_submissions(submission, rewrite(tmp_path / "b.txt", lines_of(submission)[1:]))
    with pytest.raises(RecordError, match="field 'prediction': found None"):
        compare_submissions(submission, source)


def test_an_archive_holds_both_files_under_their_names_and_is_always_the_same(submission, tmp_path):
    other = tmp_path / "submit_QC.txt"
    other.write_text('{"id": 1, "task": "QC", "prediction": 1}\n')
    first = zip_submission([submission, other], tmp_path / "a.zip").read_bytes()
    assert zip_submission([other, submission], tmp_path / "b.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["submit_QC.txt", "submit_QI.txt"]
        assert archive.read("submit_QI.txt") == submission.read_bytes()


@pytest.mark.parametrize("row", ['{"id": 1, "task": "QC"}', '{"id": 1, "category_path": "shoes"}'])
def test_a_file_named_for_the_other_task_is_not_packed(tmp_path, row):
    path = tmp_path / "submit_QI.txt"
    path.write_text(row + "\n")
    with pytest.raises(ValueError, match="submit_QI.txt:1: found a record of QC, expected QI by the file's name"):
        zip_submission([path], tmp_path / "a.zip")


def test_one_task_alone_is_packed_with_a_notice(submission, tmp_path, capsys):
    zip_submission([submission], tmp_path / "a.zip")
    assert "holds submit_QI.txt only" in capsys.readouterr().out


def test_other_files_and_archives_that_exist_are_refused(submission, tmp_path):
    (tmp_path / "submit.txt").write_text("{}\n")
    (tmp_path / "submit_QC.txt").write_text("")
    (tmp_path / "old.zip").write_text("old")
    for paths, told in (
        ([], "found no file"),
        ([submission, submission], "expected submit_QC.txt and submit_QI.txt"),
        ([tmp_path / "submit.txt"], "found submit.txt"),
        ([tmp_path / "none" / "submit_QC.txt", submission], "no such file"),
        ([tmp_path / "submit_QC.txt", submission], "found an empty file"),
    ):
        with pytest.raises(ValueError, match=told):
            zip_submission(paths, tmp_path / "a.zip")
    with pytest.raises(ValueError, match="pass overwrite=True"):
        zip_submission([submission], tmp_path / "old.zip")
    assert not (tmp_path / "a.zip").exists() and (tmp_path / "old.zip").read_text() == "old"
    zip_submission([submission], tmp_path / "old.zip", overwrite=True)
    assert zipfile.is_zipfile(tmp_path / "old.zip")
