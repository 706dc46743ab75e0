"""A table of one's own is read as it is: columns, encoding, delimiter, labels, duplicates; what is missing is made."""

import gzip
import json
import logging
import lzma
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from product_relevance.data.reading_arguments import ReadingArguments
from product_relevance.data.records import RecordError, read_records, source_record
from product_relevance.data.sources.tables import Source
from product_relevance.utils.options import Parser, read_options
from tests.helpers.record_rows import ROW

TITLES = ["Rote Damenschuhe", "USB-Kabel, 2 m", 'Monitor 24"', "Çelik termos", "Straßenlampe"]
SHOP = [
    {"search_term": f"suche {n}", "product_title": title, "grade": n % 2, "locale": "de_DE", "sku": f"A-0{n}"}
    for n, title in enumerate(TITLES, start=1)
]
COLUMNS = ["query=search_term", "target=product_title", "label=grade", "language=locale", "id=sku"]


def source(path, columns=COLUMNS, grades=2, **options):
    return Source(str(path), reading=ReadingArguments(columns=columns, **options).reading(grades))


def table(rows=SHOP, **options):
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", **options)


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def check_shop(records):
    assert records["origin_query"].tolist() == [row["search_term"] for row in SHOP]
    assert records["target"].tolist() == TITLES
    assert records["label"].tolist() == [row["grade"] for row in SHOP]
    assert records["language"].tolist() == ["de"] * 5 and records["id"].tolist() == [row["sku"] for row in SHOP]


FORMS = {
    "comma": ("a.csv", table()),
    "semicolon": ("a.csv", table(sep=";")),
    "tab in a CSV": ("a.csv", table(sep="\t")),
    "comma in a TSV": ("a.tsv", table()),
    "bar": ("a.csv", table(sep="|")),
    "all in quotes": ("a.csv", table(quoting=1)),
    "backslash": ("a.csv", table(quoting=1, doublequote=False, escapechar="\\")),
    "no quotes": ("a.tsv", "".join("\t".join(map(str, row)) + "\n" for row in [SHOP[0], *(r.values() for r in SHOP)])),
    "Windows line ends": ("a.csv", table().replace("\n", "\r\n")),
    "UTF-8 with a mark": ("a.csv", table().encode("utf-8-sig")),
    "UTF-16": ("a.csv", table(sep="\t").encode("utf-16")),
    "UTF-16, big end first": ("a.csv", table().encode("utf-16-be")),
    "UTF-16 without a mark": ("a.tsv", table().encode("utf-16-le")),
    "gzip": ("a.csv.gz", gzip.compress(table(sep=";").encode())),
    "Zstandard": ("a.tsv.zst", pa.compress(table(sep="\t").encode(), codec="zstd", asbytes=True)),
    "xz": ("a.tsv.xz", lzma.compress(table(sep="\t").encode())),
    "JSON lines": ("a.jsonl", "".join(json.dumps(row) + "\n" for row in SHOP)),
    "JSON lines in UTF-16": ("a.txt", "".join(json.dumps(row) + "\n" for row in SHOP).encode("utf-16")),
    "JSON lines in gzip": ("a.jsonl.gz", gzip.compress("".join(json.dumps(row) + "\n" for row in SHOP).encode())),
}


@pytest.mark.parametrize(("name", "content"), FORMS.values(), ids=FORMS)
def test_the_same_table_in_every_form_is_read_alike(tmp_path, caplog, name, content):
    check_shop(read_records(source(write(tmp_path / name, content))))
    assert not caplog.text.replace("'product_title' is read as item titles", "").count("Windows")


def test_parquet_with_own_columns(tmp_path):
    pd.DataFrame(SHOP).to_parquet(tmp_path / "a.parquet")
    check_shop(read_records(source(tmp_path / "a.parquet")))


def test_windows_1252_is_read_with_a_warning_that_names_it(tmp_path, caplog):
    text = table().replace("Çelik", "Elik").replace("termos", "Straßencafé €")
    records = read_records(source(write(tmp_path / "a.csv", text, "windows-1252")))
    assert records["target"].tolist()[3:] == ["Elik Straßencafé €", "Straßenlampe"]
    assert "read as Windows-1252" in caplog.text and "--encoding" in caplog.text


def test_another_encoding_is_named(tmp_path, caplog):
    path = write(tmp_path / "a.csv", table().replace("termos", "şişe ığ"), "windows-1254")
    assert read_records(source(path, encoding="windows-1254"))["target"].tolist()[3] == "Çelik şişe ığ"
    assert "1252" not in caplog.text
    with pytest.raises(RecordError, match="found bytes that are not ascii .* name its encoding with --encoding"):
        read_records(source(path, encoding="ascii"))
    with pytest.raises(ValueError, match="--encoding klingon: expected a name such as"):
        source(path, encoding="klingon")


def test_damaged_bytes_of_utf_8_stay_a_defect(tmp_path):
    content = table().encode().replace(b"USB", b"U\xe9B")
    with pytest.raises(RecordError, match=r"a\.csv:3: field 'item_title': found .* not UTF-8"):
        read_records(source(write(tmp_path / "a.csv", content)))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.csv.xz"])
def test_a_damaged_archive_is_one_error(tmp_path, name):
    whole = table(SHOP * 200).encode()
    packed = {
        ".gz": gzip.compress(whole),
        ".zst": pa.compress(whole, codec="zstd", asbytes=True),
        ".xz": lzma.compress(whole),
    }[Path(name).suffix]
    for broken in (packed[:-20], packed[:40], b"no archive", packed[:30] + b"\xff" * 9 + packed[39:]):
        with pytest.raises(RecordError, match="expected a file that can be read; check that it is complete"):
            read_records(source(write(tmp_path / name, broken)))


def test_an_archive_without_its_ending_says_so(tmp_path):
    path = write(tmp_path / "a.csv", pa.compress(table().encode(), codec="zstd", asbytes=True))
    with pytest.raises(RecordError, match=r"found a Zstandard archive, .* give it an ending such as \.csv\.zst"):
        read_records(path)


def test_missing_columns_are_made_and_reported(tmp_path, caplog):
    rows = [
        {"search_term": "rote schuhe für damen", "product_title": "Schuh", "grade": 1},
        {"search_term": "women's running shoes", "product_title": "Shoe, red", "grade": 0},
    ]
    path = write(tmp_path / "a.csv", table(rows))
    records = read_records(source(path, COLUMNS[:3]))
    assert records["id"].tolist() == [1, 2] and records["language"].tolist() == ["de", "en"]
    assert records["task"].tolist() == ["QI", "QI"]
    for told in ("has no column of ids", "languages: those of the queries are identified: de 1, en 1", "item titles"):
        assert told in caplog.text


def test_category_paths_are_known_by_their_separators(tmp_path, caplog):
    rows = [row | {"product_title": f"Shop > Lamps > Lamp {n}"} for n, row in enumerate(SHOP)]
    records = read_records(source(write(tmp_path / "a.csv", table(rows))))
    assert set(records["task"]) == {"QC"} and "is read as category paths" in caplog.text
    assert set(read_records(source(tmp_path / "a.csv"), task="QI")["task"]) == {"QI"}


def test_an_empty_name_says_that_there_is_no_such_column(tmp_path):
    rows = [row | {"id": 7, "task": "todo"} for row in SHOP]
    path = write(tmp_path / "a.csv", table(rows))
    columns = COLUMNS[:4]
    with pytest.raises(RecordError, match="give --columns task= if this column is something else"):
        read_records(source(path, columns))
    with pytest.raises(RecordError, match=r"field 'id': found 7 again"):
        read_records(source(path, [*columns, "task="]))
    records = read_records(source(path, [*columns, "task=", "id="]))
    assert records["id"].tolist() == [1, 2, 3, 4, 5] and records["source_id"].tolist() == [7] * 5


def test_a_column_with_a_name_of_ours_that_holds_something_else_is_kept_under_another_name(tmp_path):
    rows = [row | {"label": "sale"} for row in SHOP]
    records = read_records(source(write(tmp_path / "a.csv", table(rows))))
    check_shop(records)
    assert records["source_label"].tolist() == ["sale"] * 5


def test_missing_columns_are_one_error_with_the_header_and_the_flag_to_add(tmp_path):
    path = write(tmp_path / "a.csv", table())
    with pytest.raises(RecordError) as error:
        read_records(path)
    assert "there are: 'search_term', 'product_title', 'grade', 'locale', 'sku'" in str(error.value)
    flag = "--columns query=search_term target=product_title label=grade"
    assert str(error.value).endswith(flag)
    read_records(source(path, flag.split()[1:]))
    with pytest.raises(RecordError, match=r"query=serch_term: found no column .*; did you mean query=search_term\?"):
        read_records(source(path, ["query=serch_term", *COLUMNS[1:]]))
    path = write(tmp_path / "b.csv", "x,product title,y\n1,2,3\n")
    told = r"--columns query=COLUMN 'target=product title' label=COLUMN, with the column's own name in place of COLUMN"
    with pytest.raises(RecordError, match=told):
        read_records(path)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["search_term"], r"--columns search_term: found no '='"),
        (["qury=a"], r"unknown field 'qury'; did you mean query\?"),
    ],
)
def test_a_map_that_cannot_be_read(given, told):
    with pytest.raises(ValueError, match=told):
        ReadingArguments(columns=given)


def test_a_mapping_and_an_own_name_are_a_map_as_well(tmp_path):
    path = write(tmp_path / "a.csv", table())
    columns = {"origin_query": "search_term", "item_title": "product_title", "grade": "grade", "id": "sku"}
    assert read_records(source(path, columns))["id"].tolist() == [row["sku"] for row in SHOP]


LABELS = {
    "truth values": ([True, False, True], {}, [1, 0, 1]),
    "words": (["yes", "No", "TRUE"], {}, [1, 0, 1]),
    "relevant": (["relevant", "irrelevant", "Not relevant"], {}, [1, 0, 0]),
    "decimals": (["1.0", 0.0, "1"], {}, [1, 0, 1]),
    "a map": (["E", "S", "i"], {"label_map": ["E=1", "S=1", "C=0", "I=0"]}, [1, 1, 0]),
    "a map of numbers": ([3, "2.0", 0.0], {"label_map": {"3": 1, "2": 1, "1": 0, "0": 0}}, [1, 1, 0]),
    "grades": ([3, "1.0", 0.0], {"grades": 4}, [3, 1, 0]),
    "a map of grades": (["E", "C", "I"], {"label_map": ["E=3", "S=2", "C=1", "I=0"], "grades": 4}, [3, 1, 0]),
}


@pytest.mark.parametrize(("values", "options", "labels"), LABELS.values(), ids=LABELS)
def test_labels_in_every_form(tmp_path, values, options, labels):
    rows = [row | {"grade": value} for row, value in zip(SHOP, values, strict=False)]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert read_records(source(path, **options))["label"].tolist() == labels


def test_a_label_of_no_grade_is_a_defect(tmp_path):
    path = write(tmp_path / "a.csv", table([row | {"grade": n + 1} for n, row in enumerate(SHOP)]))
    with pytest.raises(RecordError, match=r"found '4', expected a whole number from 0 to 3"):
        read_records(source(path, grades=4))
    with pytest.raises(RecordError, match=r"found '2', expected one of 1, 5"):
        read_records(source(path, label_map=["1=0", "5=1"]))
    with pytest.raises(ValueError, match=r"--label_map E=3: found '3', expected 0 or 1"):
        source(path, label_map=["E=3"])


def test_labels_of_another_scale_are_one_error_with_the_flag_to_add(tmp_path):
    rows = [row | {"grade": "ESCI"[n % 4], "sku": n} for n, row in enumerate(SHOP * 8)]
    path = write(tmp_path / "a.csv", table(rows))
    with pytest.raises(RecordError) as error:
        read_records(source(path))
    assert "--label_map E=1,S=1,C=0,I=0, or keep 4 grades: train_relevance.py --grades 4" in str(error.value)
    assert "'E' (10 rows)" in str(error.value)
    read_records(source(path, label_map=["E=1", "S=1", "C=0", "I=0"], on_duplicates="majority"))
    with pytest.raises(RecordError, match="--label_map E=3,S=2,C=1,I=0"):
        read_records(source(path, grades=4))


PAIRS = [("a", 1), ("A ", 1), ("b", 1), ("b", 0), ("b", 1), ("c", 0), ("c", 1), ("d", 0)]
KEPT = {
    "keep": ([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 1, 0, 1, 0, 1, 0]),
    "drop": ([1, 8], [1, 0]),
    "majority": ([1, 3, 8], [1, 1, 0]),
    "mean": ([1, 3, 6, 8], [1, 1, 1, 0]),
}


@pytest.mark.parametrize(("how", "kept", "labels"), [(how, *found) for how, found in KEPT.items()], ids=KEPT)
def test_duplicates_and_contradictions_are_settled_as_asked(tmp_path, caplog, how, kept, labels):
    rows = [{"search_term": query, "product_title": "x", "grade": grade} for query, grade in PAIRS]
    path = write(tmp_path / "a.csv", table(rows))
    with pytest.raises(RecordError, match="5 defects"):
        read_records(source(path, COLUMNS[:3]))
    caplog.set_level(logging.WARNING)
    for role in ("train", "any"):
        records = read_records(source(path, COLUMNS[:3], on_duplicates=how), role=role)
        assert records["id"].tolist() == kept and records["label"].tolist() == labels
        assert records.attrs["duplicates"] == 8 - len(kept) and records.attrs["rejected"] == 0
    assert len(read_records(source(path, COLUMNS[:3], on_duplicates=how), role="test")) == 8
    assert how == "keep" or f"left out ({how})" in caplog.text


def test_the_mean_of_grades_is_rounded_with_halves_up(tmp_path):
    rows = [{"search_term": "a", "product_title": "x", "grade": grade} for grade in (0, 3)]
    path = write(tmp_path / "a.csv", table(rows))
    assert read_records(source(path, COLUMNS[:3], grades=4, on_duplicates="mean"))["label"].tolist() == [2]


def shares(tmp_path):
    write(tmp_path / "jan.csv", table(SHOP[:2], sep=";"))
    write(tmp_path / "mar.csv.gz", gzip.compress(table(SHOP[2:]).encode("utf-16")))
    write(tmp_path / "notes.md", "no records")
    return tmp_path


@pytest.mark.parametrize("name", ["{}", "{}/*ar.csv*,", "{}/*.csv*", "{0}/jan.csv,{0}/mar.csv.gz"])
def test_several_files_are_one_source(tmp_path, name):
    name = name.format(shares(tmp_path)).removesuffix(",")
    records = read_records(source(name))
    expected = SHOP[2:] if "*ar" in name else SHOP
    assert records["id"].tolist() == [row["sku"] for row in expected] and records.attrs["source"] == name
    assert len(records.attrs["sha256"]) == 64


def test_a_defect_in_one_of_several_files_names_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shares(tmp_path)
    write(tmp_path / "zzz.jsonl", json.dumps(SHOP[0] | {"grade": 9, "sku": "A-01"}) + "\n{\n")
    with pytest.raises(RecordError, match=r"2 defects") as error:
        read_records(source(tmp_path))
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{tmp_path}/zzz.jsonl:") for line in lines[1:3])
    records = read_records(source(f"{tmp_path}/*.[cj]s*"), on_bad_rows="skip")
    assert len(records) == 5 and records.attrs["rejected"] == 2
    (rejects,) = tmp_path.glob("*.rejects.jsonl")
    told = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert {row["file"] for row in told} == {f"{tmp_path}/zzz.jsonl"} and told[0]["raw"]["search_term"] == "suche 1"


def test_two_exports_may_use_the_same_ids(tmp_path, caplog):
    for month in ("2026-10", "2026-11"):
        write(tmp_path / f"{month}.csv.gz", gzip.compress(table().encode()))
    records = read_records(source(tmp_path))
    assert records["id"].tolist() == [f"{month}:{row['sku']}" for month in ("2026-10", "2026-11") for row in SHOP]
    assert "each id has its file's name in front, as 2026-10:A-01" in caplog.text


def test_an_id_twice_in_one_of_two_exports_stays_a_defect(tmp_path):
    write(tmp_path / "2026-10.csv", table())
    write(tmp_path / "2026-11.csv", table([*SHOP, SHOP[0] | {"product_title": "Sandale"}]))
    with pytest.raises(RecordError, match=r"'2026-11:A-01' again, first at .*2026-11.csv:2"):
        read_records(source(tmp_path))


@pytest.mark.parametrize("name", ["*.csv", "a.csv,b.csv"])
def test_files_that_are_not_there_are_one_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordError, match="found no (such )?file"):
        read_records(name)


def test_ids_that_are_texts_come_back_as_they_were(tmp_path):
    records = read_records(source(write(tmp_path / "a.csv", table())), role="test")
    assert [source_record(row)["id"] for row in records.to_dict("records")] == [row["sku"] for row in SHOP]


def test_a_delimiter_is_named(tmp_path):
    path = write(tmp_path / "a.csv", table(sep="~"))
    check_shop(read_records(source(path, delimiter="~")))
    with pytest.raises(ValueError, match="--delimiter ab: expected one character"):
        source(path, delimiter="ab")


def test_a_recipe_has_a_mapping_and_flags_a_list(tmp_path):
    mapping = {"query": "search, term", "target": "product title", "label": "grade"}
    found = read_options((ReadingArguments,), {"columns": mapping, "label_map": {"E": 1, "I": 0}}, "a.yaml")
    asked = ReadingArguments(**found).reading()
    assert asked.columns.given() == mapping and asked.scale.names == (("E", 1), ("I", 0))
    parser = Parser((ReadingArguments,))
    words = ["--columns", "query=search_term,target=product title", "label=grade", "--label-map=E=1,I=0"]
    asked = ReadingArguments(**vars(parser.parse_args(words))).reading()
    assert asked.columns.given() == mapping | {"query": "search_term"} and asked.scale.names == (("E", 1), ("I", 0))
    with pytest.raises(ValueError, match="a.yaml: label_map: found True, .* write it in quotes"):
        read_options((ReadingArguments,), {"label_map": {True: 1}}, "a.yaml")


def test_columns_of_another_file_hold_where_they_are_there(tmp_path):
    rows = [row | {"grade": "EI"[n % 2]} for n, row in enumerate(SHOP)]
    asked = ReadingArguments(columns=COLUMNS, label_map=["E=1", "I=0"]).reading()
    remembered = replace(asked, remembered=("columns", "label_map"))
    path = write(tmp_path / "a.csv", table(rows))
    assert read_records(Source(str(path), reading=remembered))["label"].tolist() == [1, 0, 1, 0, 1]
    ours = [ROW | {"id": n, "label": n} for n in (0, 1)]
    path = write(tmp_path / "b.jsonl", "".join(json.dumps(row) + "\n" for row in ours))
    assert read_records(Source(str(path), reading=remembered), role="any")["label"].tolist() == [0, 1]
    with pytest.raises(RecordError, match="found no column 'search_term'"):
        read_records(Source(str(path), reading=asked))
