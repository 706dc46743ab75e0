"""Whatever the bytes, the reader answers with records or a RecordError; every form gives back what was written."""

import csv
import json
import logging

import datasets
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from product_relevance.data.records import RecordError, read_records, source_record
from product_relevance.utils.console import bars_on_terminal_only
from product_relevance.utils.tasks import TARGET_FIELD
from tests.helpers.record_rows import ROW, rows_of, write_lines

FUZZ = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*ROW, "item_title", "extra", "line", "original", "\ud800", ""])
NEARLY = st.builds(
    lambda change: ROW | change, st.dictionaries(NAMES, JSON | st.sampled_from(["nan", "\0"]), max_size=3)
)


@pytest.fixture
def quiet():
    """Keep thousands of warnings of fuzzed files out of the report."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def read_in_any_way(path, folder):
    """Read with all roles and modes: RecordError is the only exception, and no test row is lost."""
    for role in ("train", "test", "any"):
        for on_bad_rows in ("error", "skip"):
            try:
                records = read_records(path, role=role, on_bad_rows=on_bad_rows, rejects_path=folder / "r.jsonl")
            except RecordError as error:
                assert str(error).startswith(str(path))
            else:
                assert role != "test" or records.attrs["rejected"] == 0
                for row in records.to_dict("records"):
                    assert list(source_record(row))[4] in TARGET_FIELD.values()
                records.drop(columns=[name for name in records if name not in ROW]).to_parquet(folder / "x.parquet")


@FUZZ
@given(st.lists(st.binary(max_size=40) | NEARLY.map(lambda row: json.dumps(row).encode()), max_size=6))
def test_random_lines_raise_nothing_but_a_record_error(tmp_path, quiet, lines):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n".join(lines))
    read_in_any_way(path, tmp_path)


@FUZZ
@given(st.sampled_from([".csv", ".tsv", ".parquet"]), st.binary(max_size=200), st.booleans())
def test_random_bytes_in_other_formats_raise_nothing_but_a_record_error(tmp_path, quiet, suffix, content, headed):
    header = ("," if suffix == ".csv" else "\t").join(ROW).encode() + b"\n"
    path = tmp_path / f"a{suffix}"
    path.write_bytes(header + content if headed else content)
    read_in_any_way(path, tmp_path)


def test_a_damaged_folder_or_parquet_file_is_a_record_error(tmp_path, quiet):
    datasets.Dataset.from_list(rows_of({})).save_to_disk(tmp_path / "saved")
    for damaged in sorted((tmp_path / "saved").iterdir()):
        content = damaged.read_bytes()
        for broken in (b"", content[: len(content) // 2], b"[1]"):
            damaged.write_bytes(broken)
            read_in_any_way(tmp_path / "saved", tmp_path)
        damaged.write_bytes(content)
    assert len(read_records(tmp_path / "saved")) == 1
    pd.DataFrame(rows_of({})).to_parquet(tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    for position in range(0, len(content), 97):
        (tmp_path / "b.parquet").write_bytes(content[:position] + b"\xff\xff" + content[position + 2 :])
        read_in_any_way(tmp_path / "b.parquet", tmp_path)


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from(",\"'\n\r\t\\🦄שלום\u2028\u200f;")
).map(lambda text: f"x{text}")
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "language": st.sampled_from(["en", "ar", "vn"]),
            "query": TEXT,
            "target": TEXT,
            "label": st.integers(0, 1),
        },
        optional={},
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda row: row["query"],
)


def write_all_forms(folder, rows):
    """Write the same rows in every form the reader knows; yield the paths."""
    pd.DataFrame(rows).to_json(folder / "pandas.jsonl", orient="records", lines=True, force_ascii=False)
    write_lines(folder / "escaped.txt", rows)
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with open(folder / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    pd.DataFrame(rows).to_parquet(folder / "a.parquet")
    with bars_on_terminal_only(datasets):
        datasets.Dataset.from_list(rows).save_to_disk(folder / "saved")
    return [folder / name for name in ("pandas.jsonl", "escaped.txt", "a.csv", "a.tsv", "a.parquet", "saved")]


def both_texts(rows):
    return [text for row in rows for text in row.values() if isinstance(text, str)]


@FUZZ
@given(RECORDS, st.sampled_from(["QC", "QI"]), st.booleans())
def test_every_form_gives_back_what_was_written(tmp_path_factory, generated, task, text_ids):
    rows = [
        {
            "id": f"id {number}" if text_ids else number,
            "task": task,
            "language": row["language"],
            "origin_query": row["query"],
            TARGET_FIELD[task]: row["target"],
            "label": row["label"],
            "translated_query": row["query"][::-1],
        }
        for number, row in enumerate(generated)
    ]
    for path in write_all_forms(tmp_path_factory.mktemp("forms"), rows):
        delimiter = {".csv": ",", ".tsv": "\t"}.get(path.suffix, "\n")
        if any("\n" in text and delimiter in text for text in both_texts(rows)) and delimiter != "\n":
            with pytest.raises(RecordError, match="take JSON lines or Parquet"):
                read_records(path, role="any")
            continue
        records = read_records(path, role="any")
        assert [source_record(row) for row in records.to_dict("records")] == [
            {name: row[name] for name in list(row)[:5]} for row in rows
        ], path.name
        assert records["label"].tolist() == [row["label"] for row in rows]
        assert records["translated_query"].tolist() == [row["translated_query"] for row in rows]
