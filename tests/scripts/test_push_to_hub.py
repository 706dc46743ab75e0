"""push_to_hub.py: from training to scores on another machine, dry runs, help, and messages without tokens."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import push_to_hub
import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.utils.run_folder import load_run
from tests.conftest import ROOT, rows_of, write_rows
from tests.helpers import warm
from tests.helpers.staged import BASE, NAME, base_files, base_pin, plain_run

pytest_plugins = ["tests.hub.loopback.fixture"]
PAGE = (ROOT / "docs/how-to/publish.md").read_text(encoding="utf-8")
PAIRS = [("Zapatos rojos", "shoes,women's shoes"), ("usb kabel", "pet products,dog supplies")]


def flags(base: Path, folder: Path, *more: str) -> list[str]:
    """Flags for the plain run, whose base is a local folder."""
    pin = ["--base_model_id", base_pin(base)[0], "--base_revision", base_pin(base)[1]]
    return [str(plain_run(base)), "--repo_id", NAME, *pin, "--staging_folder", str(folder / "hub"), *more]


def run(command: list[str], folder: Path, environment: dict) -> str:
    """Run a command as a user would; returns what it printed."""
    paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment | {"PATH": paths}, timeout=900
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    assert "hf_loopback" not in done.stdout + done.stderr
    return done.stdout


def run_warm(command: list[str], folder: Path, environment: dict) -> str:
    """Run a command as a user would, but for the seconds of its imports; returns what it printed."""
    done = warm.run(command, cwd=folder, env=environment)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    assert "hf_loopback" not in done.stdout + done.stderr
    return done.stdout


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def test_the_page_leads_from_a_run_to_equal_scores_elsewhere(hub, base, tmp_path):
    commit = hub.put(BASE, base_files(base))
    file = write_rows(tmp_path / "train_QC.txt", rows_of("train_QC.txt")[:120])
    tiny = "--task QC --use_cpu true --max_steps 3 --lora_r 2 --num_folds 2 --language_fix none --save_strategy no"
    tiny += " --eval_strategy no --load_best_model_at_end false"
    here, there = tmp_path / "here", tmp_path / "there"
    tiny += f" --model_name_or_path {BASE}"
    names = ["--train_file", str(file), "--output_dir", str(here / "runs/quickstart")]
    train_relevance.main([*tiny.split(), *names])
    assert load_run(here / "runs/quickstart")["base"]["revision"] == commit
    (there / "runs").mkdir(parents=True)
    for name in ("gemma-3-270m-qc", "quickstart"):  # the runs that the page exports; the tiny one has a plain class
        (there / "runs" / name).symlink_to(there / "models/name")
    for place in (here, there):
        for name in ("push_to_hub.py", "product_relevance", "model_cards", "sample", "LICENSE"):
            (place / name).symlink_to(ROOT / name)
    commands = [shlex.split(line) for line in "".join(blocks("sh")).splitlines()]
    for command in (c for c in commands if c[0] == "python"):
        run_warm(command, here, hub.environment(tmp_path / "hf-home"))  # trained with this cache
    elsewhere = hub.environment(tmp_path / "other-home")
    told = [(run if c[0] == "hf" else run_warm)(c, there, elsewhere) for c in commands if c[0] != "python"]
    assert len(commands) == 7 and "org/tiny-base" in told[1] and (there / "runs/plain/model.safetensors").is_file()
    assert (there / "runs/graph/onnx/model.onnx").is_file()
    expected = RelevanceEnsemble.from_pretrained(str(here / "runs/quickstart"), device="cpu").predict(PAIRS)
    for name in ("org/name", str(there / "models/name")):
        assert np.allclose(RelevanceEnsemble.from_pretrained(name, device="cpu").predict(PAIRS), expected, atol=1e-6)
    (code,) = blocks("python")
    shown = run_warm([sys.executable, "-c", code], there, elsewhere)
    threshold = json.loads((here / "runs/quickstart/run.json").read_text())["thresholds"]["f1"]
    assert shown.startswith("[") and float(shown.split()[-1]) == threshold
    assert hub.repo("org/name").private and hub.repo("org/name").tags.keys() == {"v1"}


def test_a_dry_run_shows_everything_and_makes_no_connection(hub, base, tmp_path):
    more = ["--dry_run", "--private", "--tag", "v1", "--collection", "Shop", "--with_metric"]
    command = [sys.executable, str(ROOT / "push_to_hub.py"), *flags(base, tmp_path, *more)]
    shown = run(command, tmp_path, hub.environment(tmp_path / "home"))
    assert hub.requests == [] and hub.repos == {}
    for text in (f"{NAME}-fold-1@main", "adapter_model.safetensors", "private", "tag v1", "Shop", "nothing was sent"):
        assert text in shown
    assert (tmp_path / "hub/ensemble/ensemble.json").is_file()


def test_what_a_dry_run_staged_is_what_is_published_then(hub, base, tmp_path, capsys):
    push_to_hub.main(flags(base, tmp_path, "--dry_run"))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "hub").rglob("*") if p.is_file()}
    push_to_hub.main(flags(base, tmp_path))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "hub").rglob("*") if p.is_file()} == before
    assert hub.repo(f"{NAME}-fold-0").read("README.md") == (tmp_path / "hub/fold-0/README.md").read_bytes()
    assert f'from_pretrained("{NAME}")' in capsys.readouterr().out


def test_every_flag_reaches_the_hub(hub, base, tmp_path):
    options = "--layout one --private --gated manual --revision next --tag v2 --with_metric --collection Shop"
    push_to_hub.main(flags(base, tmp_path, *options.split()))
    repo = hub.repo(NAME)
    assert repo.private and repo.gated == "manual" and repo.tags == {"v2": repo.branches["next"]}
    assert len(repo.history("main")) == 1 and "fold-1/adapter_model.safetensors" in repo.commit_at("next").tree
    assert hub.repo("org/relevance_f1", "space").private and hub.repo("org/relevance_f1", "space").tags == {}
    assert [found["title"] for found in hub.collections.values()] == ["Shop"]


def test_a_published_data_set_loads_with_its_folds(hub, base, tmp_path):
    import pandas as pd
    from huggingface_hub import hf_hub_download

    frame = pd.DataFrame(rows_of("train_QC.txt")[:20]).assign(fold=1)
    frame.to_parquet(tmp_path / "prepared.parquet", index=False)
    push_to_hub.main(flags(base, tmp_path, "--with_dataset", str(tmp_path / "prepared.parquet")))
    found = hf_hub_download(f"{NAME}-data", "train.parquet", repo_type="dataset")
    pd.testing.assert_frame_equal(pd.read_parquet(found), frame)
    assert hub.repo(NAME).read("README.md").decode().count(f"{NAME}-data") >= 1


def test_the_published_metric_is_loaded_by_evaluate(hub, base, tmp_path):
    push_to_hub.main(flags(base, tmp_path, "--with_metric"))
    code = "import evaluate, json\nmetric = evaluate.load('org/relevance_f1', keep_in_memory=True)\n"
    code += "print(json.dumps(metric.compute(predictions=[0.9, 0.2, 0.6], references=[1, 0, 0], threshold=0.5)))"
    home = hub.environment(tmp_path / "home", HF_MODULES_CACHE=str(tmp_path / "modules"))
    found = json.loads(run([sys.executable, "-c", code], tmp_path, home).splitlines()[-1])
    assert found["precision"] == 0.5 and found["recall"] == 1


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "the run folder comes first"),
        (["--repo_id", "org/name"], "the run folder comes first"),
        (["nowhere", "--repo_id", "org/name"], "run.json"),
        (["nowhere", "--repo_id", "org/name", "--base_model_id", "org/base"], "give both, or none"),
        (["nowhere", "--repo_id", "org/name", "--token", "hf_secretSecret"], "a token never goes into arguments"),
        (["nowhere", "--repo_id", "org/name", "--token=hf_secretSecret"], "a token never goes into arguments"),
        (["nowhere", "--repo_id", "org/name", "hf_secretSecret"], "a token never goes into arguments"),
    ],
)
def test_a_wrong_command_ends_with_one_line(argv, message, capsys):
    with pytest.raises(SystemExit, match=message) as caught:
        push_to_hub.main(argv)
    shown = capsys.readouterr()
    assert "hf_secret" not in f"{caught.value}{shown.out}{shown.err}" and len(str(caught.value).splitlines()) == 1


def test_an_error_of_the_hub_ends_with_one_line_without_the_token(hub, base, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongWrongWrong")
    with pytest.raises(SystemExit, match="error: the Hub does not accept the token") as caught:
        push_to_hub.main(flags(base, tmp_path))
    shown = capsys.readouterr()
    assert "wrongWrong" not in f"{caught.value}{shown.out}{shown.err}"


def test_an_interrupted_publication_says_how_to_go_on(hub, base, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="the same command goes on"):
        patch.setattr("huggingface_hub.HfApi.create_commit", interrupted)
        push_to_hub.main(flags(base, tmp_path))
    push_to_hub.main(flags(base, tmp_path))
    assert len(hub.repo(NAME).history("main")) == 2


def test_help_names_every_flag():
    shown = subprocess.run([sys.executable, "push_to_hub.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert {f"--{name}" for name in push_to_hub.PublishArguments.__dataclass_fields__} <= set(shown.stdout.split())


def test_the_page_names_flags_that_exist_and_no_others_are_missing():
    named = set(re.findall(r"`(--\w+)", PAGE.partition("## Download")[0]))
    known = {f"--{name}" for name in push_to_hub.PublishArguments.__dataclass_fields__}
    assert named <= known and known - named <= {"--repo_id", "--staging_folder"}
