"""A table that is written in any of the supported ways is read back equal."""

import gzip

import pandas as pd
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from product_relevance.data.reading_arguments import ReadingArguments
from product_relevance.data.records import read_records
from product_relevance.data.sources.tables import Source

COLUMNS = {"query": "search term", "target": "title", "label": "grade", "language": "locale", "id": "sku"}
# No newlines: a text with one and the delimiter is a defect by intent. ß makes each file one of more than ASCII.
TEXT = st.text(st.sampled_from("abzÄß\"',;|\t\\ "), max_size=12).map(lambda text: f"x{text}ß")
ROWS = st.lists(st.tuples(TEXT, TEXT, st.integers(0, 1)), min_size=1, max_size=8, unique_by=lambda row: row[:2])
WAYS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from([",", ";", "\t", "|"]),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "windows-1252"]),
        "quote_all": st.booleans(),
        "newline": st.sampled_from(["\n", "\r\n"]),
        "ending": st.sampled_from([".csv", ".tsv", ".csv.gz", ".tsv.zst"]),
    }
)


def write(path, frame, way):
    text = frame.to_csv(
        index=False, sep=way["delimiter"], quoting=1 if way["quote_all"] else 0, lineterminator=way["newline"]
    )
    content = text.encode(way["encoding"])
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pa.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, WAYS)
def test_a_table_in_any_way_is_read_back_equal(tmp_path, rows, way):
    queries, targets, labels = zip(*rows, strict=True)
    table = {"search term": queries, "title": targets, "grade": labels, "locale": "de_DE"}
    frame = pd.DataFrame(table | {"sku": [f"A-{n}" for n in range(len(rows))]})
    path = tmp_path / f"a{way['ending']}"
    write(path, frame, way)
    reading = ReadingArguments(columns=COLUMNS, on_duplicates="keep").reading()
    records = read_records(Source(str(path), reading=reading), task="QI")
    assert records["origin_query"].tolist() == list(queries) and records["target"].tolist() == list(targets)
    assert records["label"].tolist() == list(labels) and records["id"].tolist() == frame["sku"].tolist()
