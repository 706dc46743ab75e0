"""Shards: no row lost or doubled, the same bytes after a kill, damage found, nothing else touched."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.sharding import plan as shards
from product_relevance.sharding.executor import Step, run_local
from tests.conftest import ROOT, write_rows
from tests.helpers.shard_steps import Lengths, OutOfMemory, records

KEY = Lengths().key()
NUMBER = 6


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "output").iterdir())}


def planned(tmp_path: Path, name: str, rows: int = 60) -> Path:
    source = write_rows(tmp_path / "source.txt", records(rows))
    shards.make_plan(source, tmp_path / name, NUMBER, KEY)
    return tmp_path / name


@pytest.fixture
def whole(tmp_path) -> Path:
    """A folder whose shards were worked off without a break."""
    folder = planned(tmp_path, "whole")
    for number in range(NUMBER):
        shards.process_shard(folder, number, Lengths())
    return folder


@given(st.integers(1, 10**9), st.integers(1, 5000))
def test_shards_hold_each_row_once_and_are_of_one_size(rows, number):
    edges = shards.shard_bounds(rows, number)
    sizes = [end - start for start, end in pairwise(edges)]
    assert edges[0] == 0 and edges[-1] == rows and len(sizes) == number
    assert max(sizes) - min(sizes) <= 1


LINES = st.lists(st.sampled_from([b'{"id": 1}\n', b'{"id": "\xc3\xa9"}\r\n', b"\n", b"  \n"]), min_size=1, max_size=40)


@settings(max_examples=50)
@given(LINES, st.booleans(), st.data())
def test_cut_lines_are_the_bytes_of_the_source(lines, ends, data):
    content = b"".join(lines) if ends else b"".join(lines).rstrip(b"\r\n")
    rows = sum(1 for line in content.split(b"\n") if line.strip())
    number = data.draw(st.integers(1, max(1, rows)))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.jsonl"
        source.write_bytes(content)
        if not rows:
            with pytest.raises(ValueError, match="found 0 rows"):
                shards.make_plan(source, Path(folder) / "out", number, KEY)
            return
        plan = shards.make_plan(source, Path(folder) / "out", number, KEY)
        parts = [Path(part["input"]).read_bytes() for part in plan["shards"]]
        assert b"".join(parts) == content
        counts = [sum(1 for line in part.split(b"\n") if line.strip()) for part in parts]
        assert counts == [part["rows"] for part in plan["shards"]] and min(counts) > 0


@settings(max_examples=20)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 12))
def test_cut_tables_are_the_rows_of_the_source(sizes, number):
    number, frame = min(number, sum(sizes)), pd.DataFrame(records(sum(sizes)))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        for i, (start, end) in enumerate(pairwise(np.cumsum([0, *sizes]))):
            frame[start:end].to_parquet(source / f"{i}.parquet", index=False)
        plan = shards.make_plan(source, Path(folder) / "out", number, KEY)
        paths = [Path(part["input"]) for part in plan["shards"]]
        assert pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True).equals(frame)
        assert [pq.read_metadata(path).num_rows for path in paths] == [part["rows"] for part in plan["shards"]]
        assert (paths[0].parent == source) == (number == len(sizes))  # as many files as asked for are not copied


def test_a_killed_process_goes_on_to_the_same_bytes(tmp_path, whole):
    folder = planned(tmp_path, "killed")
    code = "import sys; sys.path.insert(0, sys.argv[2]); from tests.helpers.shard_steps import Lengths\n"
    code += (
        "from product_relevance.sharding.executor import Step, run_local; run_local(Step(sys.argv[1], Lengths(0.3)))"
    )
    arguments = [sys.executable, "-c", code, str(folder), str(ROOT)]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, start_new_session=True)
    while len(list(folder.glob("output/*.json"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, (tmp_path / "log").read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = shards.unfinished_shards(folder)
    (folder / "output" / f".{left[0]:05d}.parquet.1.aa.tmp").write_bytes(b"half")
    assert 0 < len(left) < NUMBER
    assert run_local(Step(str(folder), Lengths())) == len(left)
    assert outputs(folder) == outputs(whole)


def test_a_killed_worker_ends_the_run_instead_of_a_wait_for_ever(tmp_path, whole):
    folder = planned(tmp_path, "worker")
    step = Step(str(folder), OutOfMemory(str(tmp_path / "spared")))
    with pytest.raises(ValueError, match="a worker was killed"):
        run_local(step, workers=2)
    (tmp_path / "spared").touch()
    assert run_local(step, workers=2) == NUMBER
    assert outputs(folder) == outputs(whole)


def test_a_damaged_shard_is_told_and_made_again_alone(whole, caplog):
    before = outputs(whole)
    kept = shards.output_path(whole, 0).stat().st_mtime_ns
    damaged = shards.output_path(whole, 3)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"X")
    assert run_local(Step(str(whole), Lengths())) == 1
    assert "00003.parquet: not what its manifest says" in caplog.text
    assert outputs(whole) == before
    assert shards.output_path(whole, 0).stat().st_mtime_ns == kept
    assert run_local(Step(str(whole), Lengths())) == 0


def test_marks_of_datatrove_do_not_count_without_an_output(whole):
    before = outputs(whole)
    for path in (shards.output_path(whole, 2), shards.manifest_path(whole, 4)):
        path.unlink()
    marks = whole / "logs" / "completions"
    marks.mkdir(parents=True)
    for number in range(NUMBER):
        (marks / f"{number:05d}").touch()
    assert run_local(Step(str(whole), Lengths())) == 2
    assert outputs(whole) == before


def test_a_manifest_tells_what_was_made_of_what(whole):
    manifest = json.loads(shards.manifest_path(whole, 1).read_text())
    part = shards.read_plan(whole)["shards"][1]
    assert manifest == {
        "rows": 10,
        "sha256": shards.sha256_of(shards.output_path(whole, 1)),
        "input": part["sha256"],
        "job": KEY,
    }


def test_a_changed_input_a_defect_and_a_lost_row_are_told(tmp_path):
    folder = planned(tmp_path, "out")
    with pytest.raises(ValueError, match="shard 1: found 9 rows of output, expected 10"):
        shards.process_shard(folder, 1, lambda source: Lengths()(source)[1:])
    part = Path(shards.read_plan(folder)["shards"][1]["input"])
    part.write_text(part.read_text() + "\n")
    with pytest.raises(ValueError, match="differs from what was split"):
        shards.process_shard(folder, 1, Lengths())
    bad = write_rows(tmp_path / "bad.txt", [row | {"id": max(1, row["id"])} for row in records(60)])
    shards.make_plan(bad, tmp_path / "bad", NUMBER, KEY)
    with pytest.raises(ValueError, match="shard 0, whose first row is row 1 of the source: .*field 'id'"):
        shards.process_shard(tmp_path / "bad", 0, Lengths())
    assert shards.unfinished_shards(folder) == list(range(NUMBER))


def test_shards_of_another_source_or_job_are_kept_unless_told_otherwise(tmp_path, whole):
    other = write_rows(tmp_path / "other.txt", records(50))
    for source, job in ((other, KEY), (tmp_path / "source.txt", {"job": "another"})):
        with pytest.raises(ValueError, match="--overwrite"):
            shards.make_plan(source, whole, NUMBER, job)
    assert shards.unfinished_shards(whole) == []
    shards.make_plan(other, whole, NUMBER, KEY, overwrite=True)
    assert shards.unfinished_shards(whole) == list(range(NUMBER))


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/precious").touch()
    source = write_rows(tmp_path / "source.txt", records(60))
    with pytest.raises(ValueError, match="found other things than shards"):
        shards.make_plan(source, tmp_path, NUMBER, KEY, overwrite=True)
    assert (tmp_path / "logs/precious").exists()


def test_a_cut_that_was_broken_off_is_begun_again(tmp_path, whole):
    folder = tmp_path / "broken"
    (folder / "input").mkdir(parents=True)
    (folder / "input/00000.txt").write_text("half")
    plan = shards.read_plan(whole)
    shards.write_json(folder / shards.PLAN, {key: plan[key] for key in ("source", "number", "job")})
    shards.make_plan(tmp_path / "source.txt", folder, NUMBER, KEY)
    assert run_local(Step(str(folder), Lengths())) == NUMBER
    assert outputs(folder) == outputs(whole)


@pytest.mark.parametrize(
    "name, number, told",
    [
        ("source.txt", 61, "60 rows for 61 shards"),
        ("source.txt", 0, "--shards 0"),
        ("source.csv", 2, "prepare.py"),
        ("none.txt", 2, "expected"),
    ],
)
def test_a_source_that_cannot_be_cut_is_refused(tmp_path, name, number, told):
    write_rows(tmp_path / "source.txt", records(60))
    (tmp_path / "source.csv").touch()
    with pytest.raises(ValueError, match=told):
        shards.make_plan(tmp_path / name, tmp_path / "out", number, KEY)


def test_a_shard_that_memory_may_not_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_ROWS", 20)
    with pytest.raises(ValueError, match="use --shards 3 or more"):
        shards.make_plan(write_rows(tmp_path / "source.txt", records(60)), tmp_path / "out", 2, KEY)
