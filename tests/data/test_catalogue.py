"""Catalogues and queries are read from any file of one's own, by the columns that concern the file."""

import json
import logging

import pytest

from product_relevance.data.catalogue import is_plain_text, read_catalogue, read_queries
from product_relevance.data.sources.column_map import ColumnMap
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.tables import Source

COLUMNS = ColumnMap.parse(["id=sku", "target=title", "query=search_term", "language=locale"])


def source(path, text: str | bytes, columns: ColumnMap = COLUMNS) -> Source:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Source(str(path), reading=ReadingOptions(columns))


def test_a_catalogue_is_read_by_the_columns_that_it_is_said_to_have(tmp_path):
    found = read_catalogue(source(tmp_path / "c.csv", "sku;title;price\n007;red shoes;3\nB-2;Gürtel;4\n"), "QI")
    assert (found.ids, found.targets) == (["007", "B-2"], ["red shoes", "Gürtel"])


def test_queries_are_read_by_theirs_and_each_stands_once(tmp_path):
    text = "query_id,search_term,locale,title\n7,red shoes,en_US,x\n8,gürtel,de,y\n9,red shoes,en,z\n"
    found = read_queries(source(tmp_path / "q.csv", text), "QI")
    assert (found.ids, found.texts, found.languages) == (["7", "8"], ["red shoes", "gürtel"], ["en", "de"])
    assert found.translations is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_file_has_one_text_per_line_and_the_line_is_its_id(tmp_path, encoding):
    lines = "[Sony] kamera\n\n  gürtel \r\n".encode(encoding)
    empty = ColumnMap()
    assert read_catalogue(source(tmp_path / "c.txt", lines, empty), "QI").ids == ["1", "3"]
    found = read_queries(source(tmp_path / "q.txt", lines, empty), "QI")
    assert found.texts == ["[Sony] kamera", "gürtel"] and len(found.languages) == 2


def test_a_text_file_of_json_has_records(tmp_path):
    rows = [{"id": 4, "item_title": "red shoes"}, {"id": 5, "item_title": "belt"}]
    text = "\n".join(map(json.dumps, rows))
    found = read_catalogue(source(tmp_path / "c.txt", text, ColumnMap()), "QI")
    assert (found.ids, found.targets) == (["4", "5"], ["red shoes", "belt"])
    assert not is_plain_text(str(tmp_path / "c.txt"))


def test_plain_names_of_columns_need_no_flag(tmp_path):
    assert read_catalogue(source(tmp_path / "c.csv", "id,target\na,belt\n", ColumnMap()), "QI").targets == ["belt"]
    assert read_queries(source(tmp_path / "q.csv", "query\nbelt\n", ColumnMap()), "QI").texts == ["belt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sku,title\na,belt\na,shoe\n", r":3: field 'id': found 'a' again, first at .*:2, expected each id once"),
        ("sku,title\na,\n", "field 'item_title': found an empty text"),
        ("sku,title\n", "found no (row|records)"),
        ("", "c.csv"),
        ("sku,name\na,belt\n", "--columns target=title: found no column 'title'"),
        ("id,title\na,belt\n", "--columns id=sku: found no column 'sku'"),
    ],
)
def test_a_catalogue_that_cannot_be_used_says_why(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_catalogue(source(tmp_path / "c.csv", text), "QI")


def test_a_missing_column_comes_with_the_flag_to_add(tmp_path):
    with pytest.raises(ValueError, match="--columns target=product_title"):
        read_catalogue(source(tmp_path / "c.csv", "product_title,price\nbelt,3\n", ColumnMap()), "QI")
    given = ColumnMap.parse(["id=sku", "target=title"])
    with pytest.raises(ValueError, match="--columns query=search_term target=title id=sku"):
        read_queries(source(tmp_path / "q.csv", "query_id,search_term,price\n1,belt,3\n", given), "QI")


def test_bad_rows_are_left_out_on_request_and_counted(tmp_path, caplog):
    text = "sku,title\na,belt\na,shoe\nb,\nc,hat\n"
    with caplog.at_level(logging.WARNING):
        found = read_catalogue(source(tmp_path / "c.csv", text), "QI", "skip")
    assert found.ids == ["a", "c"] and "2 bad rows left out" in caplog.text
