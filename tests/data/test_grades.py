"""Grades of records: read with --grades, kept beside their binary view, refused outside their range."""

import re

import pytest

from product_relevance.data.arguments import DataArguments
from product_relevance.data.grades import add_grades
from product_relevance.data.loading import load_columns
from product_relevance.data.records import RecordError, read_records
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.tables import Source
from tests.helpers.record_rows import rows_of, write_lines

GIVEN = [0, 3, "2", 1.0, "3.0"]


def graded(path, grades):
    return Source(str(path), reading=ReadingOptions().with_grades(grades))


def graded_file(tmp_path):
    return write_lines(
        tmp_path / "a.txt", rows_of(*[{"label": label, "origin_query": f"q {label}"} for label in GIVEN])
    )


def test_labels_are_grades_from_0_to_one_less_than_their_number(tmp_path):
    records = read_records(graded(graded_file(tmp_path), 4))
    assert records["label"].tolist() == [0, 3, 2, 1, 3] and records["label"].dtype == "Int8"
    with pytest.raises(RecordError, match="'label': found 3, expected a whole number from 0 to 2"):
        read_records(graded(graded_file(tmp_path), 3))
    with pytest.raises(RecordError, match="'label': found 3, expected 0 or 1"):
        read_records(graded_file(tmp_path))


@pytest.mark.parametrize("label", [True, 4, -1, 1.5, "two", "1.50", "٣", [1], "10"])
def test_what_is_no_grade_is_a_defect(tmp_path, label):
    with pytest.raises(RecordError, match="expected a whole number from 0 to 3"):
        read_records(graded(write_lines(tmp_path / "a.txt", rows_of({"label": label})), 4))


def test_two_grades_of_one_pair_contradict_each_other(tmp_path):
    path = write_lines(tmp_path / "a.txt", rows_of(*[{"label": k, "origin_query": "same"} for k in (2, 3)]))
    with pytest.raises(RecordError, match="found 2, but 3 for the same pair"):
        read_records(graded(path, 4))


def test_training_reads_the_grade_and_its_binary_view(tmp_path):
    options = {"train_file": str(graded_file(tmp_path)), "task": "QC", "language_fix": "none"}
    frame = load_columns(DataArguments(**options, grades=4))
    assert frame["grade"].tolist() == [0, 3, 2, 1, 3] and frame["label"].tolist() == [0, 1, 1, 0, 1]
    strict = load_columns(DataArguments(**options, grades=4, relevant_from=3))
    assert strict["label"].tolist() == [0, 1, 0, 0, 1] and strict.attrs["sha256"] == frame.attrs["sha256"]


def test_two_grades_change_nothing(tmp_path):
    frame = read_records(write_lines(tmp_path / "a.txt", rows_of({}, {"label": 0, "origin_query": "b"})))
    assert add_grades(frame, 2, 1) is frame and "grade" not in frame


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"grades": 1}, "--grades 1: expected from 2 to 20"),
        ({"grades": 21}, "--grades 21: expected from 2 to 20"),
        ({"grades": 4, "relevant_from": 4}, "--relevant_from 4 with --grades 4: expected a grade from 1 to 3"),
        ({"relevant_from": 0}, "--relevant_from 0 with --grades 2: expected a grade from 1 to 1"),
    ],
)
def test_numbers_outside_their_range_are_refused(given, found):
    with pytest.raises(ValueError, match=re.escape(found)):
        DataArguments(train_file="a.txt", task="QC", **given)


@pytest.mark.parametrize(("grades", "least"), [(2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
def test_the_upper_half_counts_as_relevant_unless_a_grade_is_given(grades, least):
    assert DataArguments(train_file="a.txt", task="QC", grades=grades).relevant_from == least
