"""A file that is not what its name says is one error with the way out, in every mode."""

import gzip
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from product_relevance.data.records import RecordError, read_records
from tests.helpers.record_rows import rows_of

ROWS = rows_of(*[{}] * 30)
FRAME = pd.DataFrame(ROWS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
FILES = {
    "the index of a data frame": ("a.csv", FRAME.to_csv(), "to_csv(..., index=False)"),
    "a JSON array": (
        "a.json",
        json.dumps(ROWS),
        "found a JSON array, expected JSON lines, one object a line",
    ),
    "an indented JSON array": ("a.json", json.dumps(ROWS, indent=1), "jq -c '.[]' "),
    "an array of one row a line": ("a.txt", "[\n" + LINES.replace("}\n", "},\n")[:-2] + "\n]", "a JSON array"),
    "indented objects": ("a.jsonl", json.dumps(ROWS[0], indent=1), "a JSON object over several lines"),
    "CSV in a .txt": ("a.txt", FRAME.to_csv(index=False), "give the file the ending .csv or .tsv"),
    "JSON lines in a .csv": ("a.csv", LINES, "found JSON lines, expected a header; give the file the ending .jsonl"),
    "columns of a data frame": ("a.json", FRAME.to_json(), "to_json(..., orient='records', lines=True)"),
    "Parquet under another name": ("a.txt", FRAME.to_parquet(), "found a Parquet file, expected text; give it the"),
    "gzip": ("a.csv", gzip.compress(LINES.encode()), "found a gzip archive"),
    "a workbook": ("a.csv", b"PK\x03\x04 and so on", "an Excel workbook"),
    "a Git LFS pointer": ("a.txt", POINTER, "found a Git LFS pointer, expected the file itself"),
    "a Git LFS pointer of Parquet": ("a.parquet", POINTER, "git lfs pull"),
}


@pytest.mark.parametrize("on_bad_rows", ["error", "skip"])
@pytest.mark.parametrize(("name", "content", "told"), FILES.values(), ids=FILES)
def test_a_file_of_another_kind_is_one_error(tmp_path, name, content, told, on_bad_rows):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecordError) as error:
        read_records(path, on_bad_rows=on_bad_rows, rejects_path=tmp_path / "r.jsonl")
    assert told in str(error.value) and str(error.value).startswith(str(path))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet"])
def test_a_file_that_cannot_be_read_is_one_error(tmp_path, suffix):
    broken = Path("/proc/self/mem")  # opens, and answers every read with an error
    if not broken.is_file():
        pytest.skip("this system has no /proc/self/mem")
    (tmp_path / f"a{suffix}").symlink_to(broken)
    with pytest.raises(RecordError, match="expected a file that can be read"):
        read_records(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["saved", "org/name"])
def test_a_data_set_without_its_package_is_one_error(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    with pytest.raises(RecordError, match="pip install datasets, or give a file"):
        read_records(name)
