"""A study: pairs its rows, goes on where it stopped, and finds no difference between equal rows."""

import json
import subprocess
from pathlib import Path

import ablate
import pytest
import study as studies
import yaml

import train_relevance
from product_relevance.cli import main
from tests.conftest import ROOT, rows_of, write_rows
from tests.helpers import warm


@pytest.fixture(scope="module")
def small(base_of, tmp_path_factory):
    """A study of three trained rows, two of them equal, and one that judges another's runs."""
    folder = tmp_path_factory.mktemp("study")
    write_rows(folder / "train.txt", rows_of("train_QC.txt")[:120])
    write_rows(folder / "dev.txt", rows_of("dev_QC.txt")[:90])
    arguments = {"train_file": "train.txt", "task": "QC", "fold": 0, "max_steps": 4, "use_cpu": True, "lora_r": 4}
    arguments |= {"model_name_or_path": str(base_of("bert")), "pooling": "auto", "eval_strategy": "no"}
    arguments |= {"save_strategy": "no", "load_best_model_at_end": False, "language_fix": "none"}
    content = {
        "title": "small",
        "recipe": "recipes/e5-small-qc.yaml",
        "arguments": arguments,
        "evaluate": "dev.txt",
        "seeds": [1],
        "held_out_languages": ["fr", "ja"],
        "rows": {
            "plain": {},
            "the same": None,
            "no learning": {"train": {"learning_rate": 0.0}},
            "a vote": {"same_as": "plain", "evaluate": {"vote": "majority"}},
        },
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def test_a_study_can_take_a_part_of_its_files_and_keeps_queries_whole(small, tmp_path):
    content = yaml.safe_load((small / "study.yaml").read_text()) | {"rows_at_most": {"train_file": 40}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    short = studies.read_study(str(tmp_path / "study.yaml"), str(small)).shortened(tmp_path)
    query = lambda line: json.loads(line)["origin_query"].lower()  # noqa: E731
    kept = Path(short.arguments["train_file"]).read_bytes().splitlines()
    others = set((small / "train.txt").read_bytes().splitlines()) - set(kept)
    assert 40 <= len(kept) < 50 and others
    assert not {query(line) for line in kept} & {query(line) for line in others}


def run(folder, *more) -> None:
    ablate.main([str(folder / "study.yaml"), "--data", str(folder), "--output", str(folder / "out"), *more])


def call_here(program: str, arguments: list[str], folder: Path, jobs: int) -> None:
    """Run a program in this process: starting one takes longer than its tiny training."""
    if program == "-m":
        assert main.main(arguments[1:]) is None
    else:
        train_relevance.main(arguments)


def run_warm(command: list[str], stdout, env: dict, **_) -> subprocess.CompletedProcess:
    """Stand in for subprocess.run, but for the seconds of the imports."""
    done = warm.run(command, env=env)
    stdout.write(done.stdout + done.stderr)
    return done


def test_a_study_compares_its_rows_and_goes_on_where_it_stopped(small, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", run_warm)
        run(small, "--only", "plain")
    assert "no learning" not in (small / "out/table.md").read_text()
    before = (small / "out/plain/1/done.json").stat().st_mtime_ns
    capsys.readouterr()
    monkeypatch.setattr(ablate, "_call", call_here)
    run(small)
    assert (small / "out/plain/1/done.json").stat().st_mtime_ns == before
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert list(told) == ["plain", "the same", "no learning", "a vote"]
    for name in ("auc", "macro_f1", "f1"):
        same = told["the same"][name]
        assert same["difference"] == same["low"] == same["high"] == 0
    assert told["no learning"]["auc"]["difference"] != 0
    assert (small / "out/differences.png").stat().st_size > 5000
    assert not (small / "out/a-vote/1/run").exists()
    selection = json.loads((small / "out/table.json").read_text())["selection"]
    assert [row["row"] for row in selection] == ["plain", "the same", "no learning"]
    assert all(0 < row[name] < 1 for row in selection for name in ("validation", "held_out", "seen"))
    assert "languages held out: chooses **" in (small / "out/table.md").read_text()
    without = json.loads((small / "out/plain/1/held-out/run.json").read_text())["metrics"]["by_language"]
    assert set(without) == {"fr", "ja"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rows": {"plain": {"trian": {}}}}, "found trian, expected evaluate, prepare, same_as, train"),
        ({"baseline": "other"}, "baseline: found other, expected one of"),
        ({"evaluate": "none.txt"}, "--data FOLDER"),
        ({"held_out_languages": "ja"}, "expected a list of codes"),
        ({"held_out_languages": ["ja", False]}, "'no' in quotes"),
        ({"rows": {"plain": {}, "a, b": {}, "a: b": {}}}, "one folder for a, b, a: b"),
        ({"arguments": {"train_file": "train.txt"}}, "arguments.task"),
        ({"recipe": "recipes/none.yaml"}, "expected a recipe"),
        ({"rows": {"plain": {"same_as": "x"}}}, "expected one of plain"),
        ({"rows": {"plain": {"evaluate": {"threshold": "f1"}}}}, "0 < number < 1"),
    ],
)
def test_a_malformed_study_is_refused(change, told, small, tmp_path):
    content = yaml.safe_load((small / "study.yaml").read_text()) | change
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=told):
        studies.read_study(str(tmp_path / "study.yaml"), str(small))


def test_a_row_that_judges_anothers_runs_is_judged_again_when_these_change(small, tmp_path):
    content = yaml.safe_load((small / "study.yaml").read_text())
    keys = []
    for options in ({}, {"train": {"lora_alpha": 1}}):
        content["rows"]["plain"] = options
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
        study = studies.read_study(str(tmp_path / "study.yaml"), str(small))
        keys.append({row.name: study.key(row, 1, {}) for row in study.rows})
    changed = {name for name in keys[0] if keys[0][name] != keys[1][name]}
    assert changed == {"plain", "a vote"}


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_of_the_project_is_well_formed(path, tmp_path):
    content = yaml.safe_load(path.read_text())
    trained = [content["arguments"], *((row or {}).get("train", {}) for row in content["rows"].values())]
    files = ",".join(options["train_file"] for options in trained if "train_file" in options)
    for name in (*files.split(","), content["evaluate"]):
        (tmp_path / name).touch()
    found = studies.read_study(str(path), str(tmp_path))
    from product_relevance.training.arguments import parse_arguments

    for row in found.rows:
        flags = found.flags(row, 1, tmp_path / "train.txt", tmp_path / "run")
        assert parse_arguments([*flags, "--bf16", "false"])[-1].seed == 1
