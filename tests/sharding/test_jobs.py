"""Jobs on shards: the scores and columns of one piece, one submission, and the tasks of an array."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from product_relevance.cli.main import main as relevance
from product_relevance.cli.main import make_parser
from product_relevance.data.submission import check_submission
from product_relevance.sharding import plan
from product_relevance.sharding.jobs import Columns
from tests.conftest import ROOT, rows_of, write_rows
from tests.helpers.serving import tiny_run


def test_prepared_shards_hold_what_one_piece_holds(tmp_path):
    import prepare

    rows = rows_of("test_QC.txt")[:60]
    source = write_rows(tmp_path / "test_QC.txt", [row | {"id": i} for i, row in enumerate(rows)])
    table = tmp_path / "table.csv"
    pd.DataFrame({"query": [rows[0]["origin_query"]], "translation": ["said in English"]}).to_csv(table, index=False)
    arguments = [str(source), "--task", "QC", "--role", "test", "--translation", str(table)]
    arguments += ["--max_missing_translations", "1", "--output"]
    prepare.main([*arguments, str(tmp_path / "one.parquet")])
    prepare.main([*arguments, str(tmp_path / "parts"), "--shards", "4"])
    one = pd.read_parquet(tmp_path / "one.parquet")
    parts = [pd.read_parquet(plan.output_path(tmp_path / "parts", i)) for i in range(4)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), one)
    assert one["translated_query"][0] == "said in English"
    with pytest.raises(SystemExit, match="--role test"):
        prepare.main([str(source), "--task", "QC", "--output", str(tmp_path / "train"), "--shards", "4"])


def test_prepared_test_records_get_the_submission_of_the_file_they_came_from(base_of, tmp_path):
    import prepare

    rows = [row | {"id": i} for i, row in enumerate(rows_of("test_QC.txt")[:30])]
    rows[3] |= {"language": "en", "origin_query": "zapatillas de correr para mujer baratas"}
    rows[5] |= {"category_path": None}
    rows[7] |= {"origin_query": "%"}
    source = write_rows(tmp_path / "test_QC.txt", rows)
    prepare.main([str(source), "--task", "QC", "--role", "test", "--output", str(tmp_path / "prepared.parquet")])
    assert pd.read_parquet(tmp_path / "prepared.parquet")["language"][3] == "es"
    run = tiny_run(base_of("bert"))
    direct = predict(run, source, tmp_path / "direct.txt")
    prepared = predict(run, tmp_path / "prepared.parquet", tmp_path / "submit.txt")
    assert not check_submission(source, prepared) and prepared.read_bytes() == direct.read_bytes()


def test_another_table_under_the_same_name_is_another_preparation(tmp_path):
    table = tmp_path / "table.csv"
    job = Columns(task="QC", translate=json.dumps({"engine": "table", "model": str(table)}))
    keys = []
    for said in ("red shoes", "blue shoes"):
        pd.DataFrame({"query": ["rote Schuhe"], "translation": [said]}).to_csv(table, index=False)
        keys.append(job.key())
    assert keys[0] != keys[1]


def predict(run: Path, source: Path, output: Path, *more: str) -> Path:
    relevance(["predict", str(run), str(source), "--output", str(output), "--device", "cpu", *more])
    return output


def test_shards_score_as_one_piece_does(base_of, tmp_path, capsys):
    run = tiny_run(base_of("bert"))
    rows = [row | {"id": i} for i, row in enumerate(rows_of("test_QC.txt")[:90])]
    rows[40] = rows[40] | {"origin_query": ""}  # kept, and scored by the prior
    source = write_rows(tmp_path / "test_QC.txt", rows)
    plain = predict(run, source, tmp_path / "plain.txt", "--chunk_rows", "30")
    joined = predict(run, source, tmp_path / "joined.txt", "--shards", "3")
    assert joined.read_bytes() == plain.read_bytes() and not check_submission(source, joined)
    expected, found = (pd.read_parquet(f"{path}.scores.parquet") for path in (plain, joined))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert not Path(f"{joined}.shards").exists()
    capsys.readouterr()
    predict(run, source, joined, "--shards", "3")
    assert "complete, nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="made with another threshold; add --overwrite"):
        predict(run, source, joined, "--shards", "3", "--threshold", "0.5")
    with pytest.raises(SystemExit, match="shards are joined into JSON lines only"):
        predict(run, source, tmp_path / "scores.csv", "--shards", "3")
    by_two = predict(run, source, tmp_path / "by_two.txt", "--workers", "2")
    assert "90 predictions of 2 shards" in capsys.readouterr().out
    assert pd.read_json(by_two, lines=True)["id"].tolist() == expected["id"].tolist()
    found = pd.read_parquet(f"{by_two}.scores.parquet")
    assert np.allclose(found["score"], expected["score"], atol=1e-6) and found["id"].equals(expected["id"])
    table = tmp_path / "test_QC.parquet"
    pd.DataFrame(rows).to_parquet(table, index=False)
    predict(run, table, tmp_path / "scores", "--shards", "4")  # other shards, other batches
    parts = [pd.read_parquet(plan.output_path(tmp_path / "scores", i)) for i in range(4)]
    other = pd.concat(parts, ignore_index=True)
    assert other["id"].tolist() == expected["id"].tolist()
    assert np.allclose(other["score"], expected["score"], atol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
def test_a_compiled_model_scores_as_it_did_before(base_of, tmp_path):
    from torch._dynamo.utils import counters

    run = tiny_run(base_of("bert"))
    source = write_rows(tmp_path / "test_QC.txt", rows_of("test_QC.txt")[:40])
    one = ["--merge", "weights", "--max_disagreement", "1"]
    plain = predict(run, source, tmp_path / "plain.txt", *one)
    counters.clear()
    compiled = predict(run, source, tmp_path / "compiled.txt", *one, "--compile")
    assert counters["stats"]["unique_graphs"] == 1, "one graph for all shapes"
    found, expected = (pd.read_parquet(f"{path}.scores.parquet") for path in (compiled, plain))
    assert np.allclose(found["score"], expected["score"], atol=1e-5)


def test_an_id_in_two_shards_is_told_before_a_submission_is_written(base_of, tmp_path):
    run, row = tiny_run(base_of("bert")), rows_of("test_QC.txt")[0]
    source = write_rows(tmp_path / "twice.txt", [row | {"id": i % 5} for i in range(6)])
    with pytest.raises(SystemExit, match="1 ids stand in more than one shard"):
        predict(run, source, tmp_path / "out.txt", "--shards", "2")
    assert not (tmp_path / "out.txt").exists()


def test_tasks_of_an_array_share_the_shards_and_the_command_without_a_task_joins_them(base_of, tmp_path, capsys):
    run = tiny_run(base_of("bert"))
    source = write_rows(
        tmp_path / "test_QC.txt", [row | {"id": i} for i, row in enumerate(rows_of("test_QC.txt")[:50])]
    )
    whole = predict(run, source, tmp_path / "whole.txt", "--shards", "5")
    output = tmp_path / "array.txt"
    with pytest.raises(SystemExit, match="the same command with --plan_only for --array_task"):
        predict(run, source, output, "--shards", "5", "--array_task", "0/2")
    predict(run, source, output, "--shards", "5", "--plan_only")
    predict(run, source, output, "--shards", "5", "--array_task", "1/2")
    folder = Path(f"{output}.shards")
    assert plan.unfinished_shards(folder) == [0, 2, 4] and not output.exists()
    with pytest.raises(SystemExit, match="shards of another source, run or options"):
        predict(run, source, output, "--shards", "4", "--array_task", "0/2")
    predict(run, source, output, "--shards", "5", "--array_task", "0/2")
    assert "the 3 shards of task 0/2 are finished" in capsys.readouterr().out
    predict(run, source, output, "--shards", "5")
    assert output.read_bytes() == whole.read_bytes() and not folder.exists()


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--shards 5 --array_task 2/2", "found '2/2', expected I/N with I from 0 to N-1"),
        ("--shards 5 --array_task 1", "found '1', expected I/N"),
        ("--shards 5 --array_task 0/2 --workers 2", "a task is one process"),
        ("--shards 5 --array_task 0/2 --overwrite", "give --overwrite with --plan_only"),
        ("--array_task 0/2", "expected --shards too"),
        ("--plan_only", "expected --shards too"),
    ],
)
def test_flags_of_an_array_that_do_not_fit_are_refused(flags, said, tmp_path):
    source = write_rows(tmp_path / "test_QC.txt", rows_of("test_QC.txt")[:5])
    with pytest.raises(SystemExit, match=said):
        predict(tmp_path / "run", source, tmp_path / "out.txt", *flags.split())


def test_the_array_of_the_page_on_slurm_gives_flags_that_exist():
    page = (ROOT / "docs/how-to/slurm.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"srun (relevance predict .*) && exit 0", page)
    arguments = make_parser().parse_args(shlex.split(line)[1:])
    assert arguments.array_task == "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    (shards,) = set(re.findall(r"--shards (\d+)", page))
    assert arguments.shards == int(shards)
