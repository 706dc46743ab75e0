"""A prepared file holds the columns and folds, and the reader takes it as it is."""

import os
import subprocess
import sys

from product_relevance.data.records import read_records
from tests.conftest import ROOT
from tests.helpers import warm

SCRIPT = [sys.executable, str(ROOT / "dataset_scripts/prepare.py")]


def test_a_prepared_file_is_read_back_with_folds_and_columns(tmp_path):
    output = tmp_path / "prepared.parquet"
    command = [*SCRIPT, str(ROOT / "sample/train_QC.txt"), "--task", "QC", "--output", str(output)]
    done = warm.run([*command, "--taxonomy_of", str(ROOT / "sample/train_QC.txt")])
    assert done.returncode == 0, done.stderr
    assert "no leak" in done.stdout and "complete" in done.stdout
    frame, raw = read_records(output, task="QC"), read_records(ROOT / "sample/train_QC.txt", task="QC")
    assert {"query", "clean_target", "translated_query", "given_language", "fold"} <= set(frame)
    for column in ("id", "origin_query", "target", "label"):
        assert frame[column].tolist() == raw[column].tolist()
    assert sorted(frame["fold"].unique()) == [0, 1, 2]


def test_the_same_records_give_the_same_bytes_under_another_hash_seed(tmp_path):
    for seed in ("1", "2"):
        command = [*SCRIPT, str(ROOT / "sample/train_QC.txt"), "--task", "QC", "--output", str(tmp_path / seed)]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": seed})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_bad_file_ends_with_one_clear_line(tmp_path):
    (tmp_path / "bad.txt").write_text('{"id": 1}\n')
    command = [*SCRIPT, str(tmp_path / "bad.txt"), "--task", "QC", "--output", str(tmp_path / "o.parquet")]
    done = warm.run(command)
    assert done.returncode == 1 and "bad.txt" in done.stderr and "Traceback" not in done.stderr
