"""Killed, damaged or changed, a preparation goes on from its last good part, to the bytes of an undisturbed one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import prepare as program
import pytest
import yaml

from product_relevance.data.provenance import read_facts, read_prepared
from product_relevance.models import sentence_encoder
from product_relevance.models.loading import checkpoints
from product_relevance.preparation.labels import corrections
from product_relevance.utils import run_folder
from tests.conftest import ROOT, rows_of, write_rows
from tests.helpers.made_rows import encode

STEPS = [{"noise": {"rate": 0.3}}, {"easy_negatives": {"negative_share": 0.5}}]


def recipe_of(folder: Path, steps: list = STEPS, **changes) -> list[str]:
    """Command line of a recipe on 240 rows of the sample."""
    folder.mkdir(exist_ok=True)
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:240])
    content = {"file": str(file), "task": "QC", "output": str(folder / "out.parquet"), "language_fix": "none"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content | {"steps": steps} | changes), encoding="utf-8")
    return [str(folder / "recipe.yaml")]


def prepared(folder: Path, steps: list = STEPS, **changes) -> bytes:
    """Prepare, and return the bytes of the rows and of the card."""
    program.main(recipe_of(folder, steps, **changes))
    return (folder / "out.parquet").read_bytes() + (folder / "out.md").read_bytes()


def parts_of(folder: Path) -> dict[str, int]:
    """When each part was last written."""
    return {path.name: path.stat().st_mtime_ns for path in sorted((folder / "out.parquet.parts").glob("*.parquet"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, bytes]:
    """An uninterrupted preparation; read only."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, prepared(folder)


def python(code: str, argv: list[str], **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, str(ROOT / "dataset_scripts"), *argv]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


MAIN = "import sys; sys.path.insert(0, sys.argv[1]); import prepare; prepare.main(sys.argv[2:])"
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import prepare
from product_relevance.preparation.augmentation import negatives
negatives.mine_easy_negatives = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
prepare.main(sys.argv[2:])
"""


def test_rows_tell_where_they_came_from_and_keep_the_fold_of_their_source(whole):
    frame = read_prepared(whole[0] / "out.parquet", "QC")
    made = frame[frame["method"] != "original"]
    assert set(made["method"]) == {"noise", "easy_negative"} and set(made["seed"]) == {42}
    assert made["fold"].tolist() == frame.set_index("id").loc[made["source_row"], "fold"].tolist()
    assert (frame["method"] == "original").sum() == 240 and frame["id"].is_unique


def test_another_folder_and_hash_seed_give_the_same_bytes(whole, tmp_path):
    done = python(MAIN, recipe_of(tmp_path), PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.parquet").read_bytes() + (tmp_path / "out.md").read_bytes() == whole[1]


def test_after_a_kill_the_finished_steps_are_kept_and_the_bytes_are_the_same(whole, tmp_path, capsys):
    done = python(KILLED, recipe_of(tmp_path))
    assert done.returncode == -signal.SIGKILL and not (tmp_path / "out.parquet").exists()
    before = parts_of(tmp_path)
    assert list(before) == ["1-columns.parquet", "2-folds.parquet", "3-noise.parquet"]
    assert prepared(tmp_path) == whole[1]
    assert parts_of(tmp_path).items() >= before.items()
    assert "3 noise: kept" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [b"", b"\0" * 100])
def test_a_damaged_part_is_made_again_and_those_before_it_are_kept(whole, tmp_path, damage):
    prepared(tmp_path)
    before, last = parts_of(tmp_path), tmp_path / "out.parquet.parts/4-easy_negatives.parquet"
    last.write_bytes(last.read_bytes()[:-100] + damage)
    assert prepared(tmp_path) == whole[1]
    changed = {name for name, time in parts_of(tmp_path).items() if time != before[name]}
    assert changed == {"4-easy_negatives.parquet"}


def test_a_damaged_manifest_and_a_part_of_another_step_are_not_trusted(whole, tmp_path):
    prepared(tmp_path)
    folder = tmp_path / "out.parquet.parts"
    (folder / "4-easy_negatives.json").write_bytes(b"[1, 2")
    (folder / "3-noise.json").write_bytes((folder / "2-folds.json").read_bytes())
    before = parts_of(tmp_path)
    assert prepared(tmp_path) == whole[1]
    assert {name for name, time in parts_of(tmp_path).items() if time == before[name]} == {
        "1-columns.parquet",
        "2-folds.parquet",
    }


def test_a_changed_option_runs_from_its_step_on_and_leaves_no_old_part(tmp_path):
    prepared(tmp_path)
    before = parts_of(tmp_path)
    fewer = prepared(tmp_path, [{"noise": {"rate": 0.2}}])
    after = parts_of(tmp_path)
    assert list(after) == ["1-columns.parquet", "2-folds.parquet", "3-noise.parquet"]
    assert {name for name in after if after[name] == before[name]} == {"1-columns.parquet", "2-folds.parquet"}
    assert fewer == prepared(tmp_path / "fresh", [{"noise": {"rate": 0.2}}])


def test_other_records_and_other_tables_are_other_preparations(tmp_path):
    table, steps = tmp_path / "table.csv", [{"translate": {"engine": "table", "model": str(tmp_path / "table.csv")}}]
    table.write_text("query,translation\nx,y\n", encoding="utf-8")
    prepared(tmp_path, steps)
    first = parts_of(tmp_path)
    query = rows_of("train_QC.txt")[0]["origin_query"]
    table.write_text(f"query,translation\n{query},something\n", encoding="utf-8")
    prepared(tmp_path, steps)
    assert not first.items() & parts_of(tmp_path).items()
    frame = read_prepared(tmp_path / "out.parquet", "QC")
    assert (frame.loc[frame["origin_query"] == query, "translated_query"] == "something").all()


def test_without_steps_nothing_is_kept_but_the_file_and_its_card(tmp_path):
    prepared(tmp_path, [])
    assert {path.name for path in tmp_path.iterdir()} == {"train_QC.txt", "recipe.yaml", "out.parquet", "out.md"}
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert "method" not in frame and frame["id"].tolist() == list(range(1, 241))


def test_flags_win_over_the_recipe_and_a_file_may_be_given(tmp_path, capsys):
    words = recipe_of(tmp_path)
    other = write_rows(tmp_path / "other.txt", rows_of("train_QC.txt")[:90])
    program.main([*words, str(other), "--num_folds", "2", "--output", str(tmp_path / "two.parquet")])
    frame = read_prepared(tmp_path / "two.parquet", "QC")
    assert set(frame["fold"]) == {0, 1} and (frame["method"] == "original").sum() == 90


def test_test_rows_can_be_translated_and_nothing_else(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "label"} for row in rows_of("train_QC.txt")[:60]]
    table = tmp_path / "table.csv"
    table.write_text(f"query,translation\n{rows[0]['origin_query']},something\n", encoding="utf-8")
    steps = [{"translate": {"engine": "table", "model": str(table)}}]
    words = recipe_of(tmp_path, steps, role="test")
    file = write_rows(tmp_path / "test.txt", [*rows, rows[0] | {"id": 61, "origin_query": ""}])
    program.main([*words, str(file)])
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert len(frame) == 61 and "fold" not in frame and "something" in set(frame["translated_query"])
    with pytest.raises(SystemExit, match="expected translate only"):
        program.main(recipe_of(tmp_path, role="test"))


def test_records_that_hold_made_rows_are_not_given_new_folds(whole, tmp_path):
    with pytest.raises(SystemExit, match="found made rows .* expected originals"):
        prepared(tmp_path, file=str(whole[0] / "out.parquet"))


@pytest.fixture
def scored_run(tmp_path) -> Path:
    """Out-of-fold scores of the records, which contradict the first three labels and know the others."""
    rows = rows_of("train_QC.txt")[:240]
    scores = [abs(row["label"] - (0.97 if i < 3 else 0.1)) for i, row in enumerate(rows)]
    oof = pd.DataFrame({name: [row[name] for row in rows] for name in ("id", "language", "label")})
    (tmp_path / "run/fold-0").mkdir(parents=True)
    oof.assign(score=scores, fold="fold-0").to_parquet(tmp_path / "run/fold-0/oof.parquet")
    run_folder.write_json(tmp_path / "run/fold-0/fold.json", {})
    return tmp_path / "run"


def test_the_third_teams_pipeline_runs_from_its_recipe(scored_run, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sentence_encoder, "load_encoder", lambda *a, **k: encode)
    monkeypatch.setattr(checkpoints, "checkpoint_identity", lambda *a: "stand-in")
    content = yaml.safe_load((ROOT / "recipes/data/third-team-qc.yaml").read_text(encoding="utf-8"))
    steps = content["steps"]
    steps[2]["hard_negatives"] |= {"band": [0.2, 0.9]}
    steps[3]["filter"] |= {"run": str(scored_run), "output": str(tmp_path / "review.parquet")}
    prepared(tmp_path, steps)
    frame = read_prepared(tmp_path / "out.parquet", "QC")
    counts = frame["method"].value_counts()
    assert counts["translated"] > 20 and counts["hard_negative"] > 20
    listed = set(pd.read_parquet(tmp_path / "review.parquet")["id"])
    assert listed == {str(row["id"]) for row in rows_of("train_QC.txt")[:3]} and not listed & set(frame["id"])
    told = read_facts(tmp_path / "out.parquet")["steps"][-1]
    assert told["counts"]["dropped"] >= 3 and told["counts"]["listed"] == 3 and told["options"]["run"] == "run"


def test_decisions_of_a_person_are_applied_without_a_run(tmp_path):
    made = tmp_path / "decisions.jsonl"
    rows = rows_of("train_QC.txt")
    corrections.append_decisions(made, [corrections.make_decision(rows[0]["id"], "drop", rows[0]["label"], "anna")])
    corrections.append_decisions(
        made, [corrections.make_decision(rows[1]["id"], "down_weight", rows[1]["label"], "anna", 0.25)]
    )
    prepared(tmp_path, [{"noise": {"rate": 1.0}}, {"filter": {"apply": str(made)}}])
    frame = read_prepared(tmp_path / "out.parquet", "QC").set_index("source_row")
    assert str(rows[0]["id"]) not in frame.index
    assert set(frame.loc[str(rows[1]["id"]), "weight"]) == {0.25} and (frame["weight"] == 1).sum() > 200


def test_training_takes_a_prepared_file_with_folds_made_rows_and_weights(base_of, tmp_path):
    import train_relevance

    made = tmp_path / "decisions.jsonl"
    row = rows_of("train_QC.txt")[0]
    corrections.append_decisions(
        made, [corrections.make_decision(row["id"], "down_weight", row["label"], "anna", 0.5)]
    )
    prepared(tmp_path, [*STEPS, {"filter": {"apply": str(made)}}])
    frame = read_prepared(tmp_path / "out.parquet", "QC")
    flags = "--task QC --use_cpu true --max_steps 2 --lora_r 2 --fold 0 --save_strategy no --eval_strategy no"
    flags += " --load_best_model_at_end false --translation column"
    names = ["--model_name_or_path", str(base_of("bert")), "--train_file", str(tmp_path / "out.parquet")]
    train_relevance.main([*flags.split(), *names, "--output_dir", str(tmp_path / "trained")])
    held = frame[(frame["fold"] == 0) & (frame["method"] == "original")]
    oof = run_folder.read_oof(tmp_path / "trained", ["fold-0"])
    assert sorted(oof["id"].astype(str)) == sorted(held["id"])
    fold = run_folder.read_json(tmp_path / "trained/fold-0/fold.json")
    assert fold["train_rows"] == (frame["fold"] != 0).sum() and fold["valid_rows"] == len(held)


def test_each_step_splits_paths_as_the_folds_did(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("home & garden,pet products\n", encoding="utf-8")
    by = {"group_by": "prefix", "prefix_levels": 1, "level_names": str(names)}
    prepared(tmp_path / "one", STEPS[1:], **by)
    frame = read_prepared(tmp_path / "one/out.parquet", "QC")
    first = frame["target"].str.extract("^(home & garden,pet products|[^,]+)")[0]
    assert (frame.groupby(first)["fold"].nunique() == 1).all() and (frame["method"] == "easy_negative").any()
    assert frame.loc[frame["target"].str.startswith("home & garden,"), "fold"].nunique() > 1
