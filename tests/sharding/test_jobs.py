"""Jobs on shards: the scores and columns of one piece, one submission, and the page's example for Slurm."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from product_relevance.cli.main import main as relevance
from product_relevance.data.submission import check_submission
from product_relevance.sharding import plan
from product_relevance.sharding.jobs import Columns
from tests.conftest import ROOT, rows_of, write_rows
from tests.helpers.serving import tiny_run
from tests.helpers.shard_steps import Lengths, records

NUMBER = 6
# Stand-ins for Slurm: each task of the array runs here, at once, with its number.
SLURM = {
    "sbatch": """file="${@: -1}"; last=$(grep -oP '(?<=--array=0-)\\d+' "$file")
for i in $(seq 0 "$last"); do
    SLURM_ARRAY_TASK_ID=$i RUN_OFFSET=0 SLURM_NODELIST=here bash "$file" >> "$SLURM_LOG" 2>&1
done
echo Submitted batch job 7""",
    "srun": 'exec "${@: -2}"',
    "scontrol": "echo here",
}


def test_the_slurm_example_of_the_page_runs_with_stand_ins_for_slurm(tmp_path, monkeypatch):
    page = (ROOT / "docs/how-to/large-files.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    place = tmp_path / "shared"
    (place / "venv/bin").mkdir(parents=True)
    (place / "venv/bin/activate").write_text(f"export PATH={Path(sys.executable).parent}:$PATH")
    for name, script in SLURM.items():
        (place / name).write_text(f"#!/bin/bash\n{script}\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SLURM_LOG", str(place / "log"))
    code, times = re.subn(r"job = Score\(.*\)", "from tests.helpers.shard_steps import Lengths; job = Lengths()", code)
    assert times == 1
    pd.DataFrame(records(60)).to_parquet(place / "pairs.parquet", index=False)
    exec(code.replace("/shared", str(place)).replace("10_000", str(NUMBER)), {})
    assert plan.unfinished_shards(place / "scores") == [], (place / "log").read_text()
    made = [pd.read_parquet(plan.output_path(place / "scores", number)) for number in range(NUMBER)]
    assert pd.concat(made, ignore_index=True).equals(Lengths()(place / "pairs.parquet"))
    assert len(list((place / "scores/logs/completions").iterdir())) == NUMBER


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
