"""A stray quote in CSV or TSV costs its own line, and no physical line is lost uncounted."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from product_relevance.data.records import RecordError, read_records
from product_relevance.data.sources.delimited import read_delimited
from product_relevance.data.sources.dialects import Dialect
from product_relevance.data.submission import check_submission, write_submission

HEADER = "id\ttask\tlanguage\torigin_query\titem_title\n"
INCHES = ['"24 inch monitor', "lamp", "chair", 'desk 30"', "sofa", '"bed"']  # the last one shows that texts are quoted


def tsv(path, titles):
    rows = [f"{number}\tQI\ten\tquery {number}\t{title}\n" for number, title in enumerate(titles, start=1)]
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


def test_a_quote_that_swallows_rows_is_a_defect_of_the_line_where_it_opens(tmp_path):
    with pytest.raises(RecordError, match=r"a\.tsv:2: found a quote that is not closed") as error:
        read_records(tsv(tmp_path / "a.tsv", INCHES), role="test", on_bad_rows="skip")
    assert [defect.line for defect in error.value.defects] == [2]


@pytest.mark.parametrize("titles", [INCHES, [INCHES[0], *INCHES[1:3], "desk", *INCHES[4:]]], ids=["closed", "open"])
def test_the_rows_below_a_stray_quote_are_kept_and_its_own_line_is_counted(tmp_path, titles):
    options = {"role": "any", "on_bad_rows": "skip", "rejects_path": tmp_path / "r.jsonl"}
    records = read_records(tsv(tmp_path / "a.tsv", titles), **options)
    assert records["id"].tolist() == [2, 3, 4, 5, 6] and records["target"].tolist() == [*titles[1:-1], "bed"]
    assert records["line"].tolist() == [3, 4, 5, 6, 7] and records.attrs["rejected"] == 1


def test_a_quote_that_opens_in_a_later_line_of_a_record_is_told_at_that_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,query,title\n1,"two\nlines","open\n2,b,c\n3,d,e\n')
    table = read_delimited(str(path), Dialect(","))
    assert [(defect.line, defect.lines, defect.raw) for defect in table.defects] == [(3, 2, '1,"two\nlines","open')]
    assert table.columns["id"] == [2, 3]


def test_each_line_of_a_record_of_the_wrong_width_is_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{line}\n" for line in ["id,query,title", '1,"a', 'b"', "2,c,d"]))
    assert [(defect.line, defect.lines) for defect in read_delimited(str(path), Dialect(",")).defects] == [(2, 2)]


def test_a_header_that_does_not_parse_is_not_replaced_by_the_next_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,"query,title\n1,b,c\n2,d,e\n')
    with pytest.raises(RecordError, match=r"a\.csv:1: found a quote that is not closed"):
        read_delimited(str(path), Dialect(","))


@pytest.mark.parametrize("line", ['"x', '"""x', '"'])
def test_many_open_quotes_take_no_more_time_than_lines(tmp_path, line):
    path = tmp_path / "a.csv"
    path.write_text("id,title\n" + f"{line}\n" * 20_001)
    read_delimited(str(path), Dialect(","))  # in time that grew with the square of the lines this would take minutes


LINE = st.text(st.sampled_from(',"\n\rx'), max_size=12)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, max_size=8).map("\n".join))
def test_every_physical_line_is_in_a_record_or_counted_as_lost(tmp_path, body):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,title\n" + body.encode())
    table = read_delimited(str(path), Dialect(","))
    texts = [[row.get("title"), str(row.get("id"))] for row in map(table.row, range(len(table.lines)))]
    assert not any("\n" in text and "," in text for row in texts for text in row)
    read = sum(1 + sum(text.count("\n") for text in row) for row in texts)
    counted = read + sum(defect.lines for defect in table.defects)
    lines = path.read_bytes().split(b"\n")[1:]
    assert sum(line.strip(b"\r") != b"" for line in lines) <= counted <= len(lines)


def test_a_check_counts_the_rows_of_the_source_without_its_reader(tmp_path, monkeypatch):
    source = tsv(tmp_path / "test.tsv", INCHES[1:])
    records = read_records(source, role="test")
    submission = write_submission(records, [1] * 5, tmp_path / "submit_QI.txt")
    assert check_submission(source, submission) == []
    monkeypatch.setattr("product_relevance.data.submission.read_records", lambda *_, **__: records.iloc[:-1])
    found = check_submission(source, submission)
    assert f"{source}: found 5 lines that look like rows, expected 4" in found[0]


def test_a_check_of_a_source_with_blank_lines_and_short_lines_in_quotes_counts_no_row_twice(tmp_path):
    source = tsv(tmp_path / "test.tsv", ['"two\n\nlines"', "lamp\n", "\n"])
    records = read_records(source, role="test")
    submission = write_submission(records, [1] * 3, tmp_path / "submit_QI.txt")
    assert check_submission(source, submission) == []
