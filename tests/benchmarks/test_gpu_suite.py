"""The suite for a GPU: runs on a CPU in a toy shape, with nothing installed but what it says, never stopping early."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace

import gpu_checks
import gpu_suite
import pytest
import random_models
import torch

from tests.conftest import ROOT

NEEDED = ["torch", "transformers", "peft", "accelerate", "numpy", "pandas", "pyarrow"]
STAGES = {
    "speed": ["peak", "predict", "rank", "folds", "train", "compile", "float8"],
    "correctness": ["exact_bfloat16", "exact_float32", *gpu_checks.SECONDS],
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def bare_python(folder: Path) -> Path:
    """Make a Python that knows the named packages and what they require, no others."""
    known, wanted = {canonical(d.metadata["Name"]): d for d in distributions()}, list(NEEDED)
    taken: set[str] = set()
    packages = folder / "packages"
    packages.mkdir()
    while wanted:
        name = canonical(wanted.pop())
        if name in taken or name not in known:
            continue
        taken.add(name)
        lines = [line for line in known[name].requires or [] if "extra ==" not in line]
        wanted += [re.match(r"[\w.-]+", line).group() for line in lines]
        for top in {file.parts[0] for file in known[name].files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(known[name].locate_file(top))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{packages}" exec {sys._base_executable} -S "$@"\n')
    python.chmod(0o755)
    return python


def suite(python: Path, out: Path, **more: str) -> tuple[int, dict[str, dict], str]:
    """Run the suite; its exit status, what each stage kept, and what was printed."""
    settings = {"PYTHON": str(python), "OUT": str(out), "SHAPE": "tiny", "DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [ROOT / "benchmarks/speed/gpu_suite.sh"],
        env=os.environ | settings | more,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    files = {name: out / f"gpu-{name}-tiny-cpu.json" for name in STAGES}
    assert all(file.is_file() for file in files.values()), done.stdout + done.stderr
    return done.returncode, {name: json.loads(file.read_text()) for name, file in files.items()}, done.stdout


def test_every_step_gives_its_figures_with_the_named_packages_alone(tmp_path):
    python = bare_python(tmp_path)
    assert subprocess.run([python, "-c", "import sklearn"], capture_output=True).returncode == 1
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    status, kept, printed = suite(python, tmp_path / "out", PATIENCE="20")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    log = (tmp_path / "out/gpu-suite.log").read_text()
    figures = {name: stage["figures"] for name, stage in kept.items()}
    assert {name: list(steps) for name, steps in figures.items()} == STAGES
    assert status == 0 and all(step["state"] == "done" for steps in figures.values() for step in steps.values()), log
    # seconds of CPU, with all imports; a slow machine took 34
    assert used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < 60
    speed, correctness = figures["speed"], figures["correctness"]
    assert speed["peak"]["tflops"]["float32"] > 0
    assert speed["predict"]["dtype"] == speed["train"]["dtype"] == "bfloat16"
    for step in ("predict", "train"):
        assert all(row["pairs_per_second"] > 0 and row["mfu"] > 0 for row in speed[step]["results"]), step
    ours, theirs = (next(r for r in speed["train"]["results"] if r["way"] == w) for w in ("ours", "first_team"))
    assert ours["padding"] < theirs["padding"] and abs(ours["loss"] - theirs["loss"]) < 1e-3
    assert ours["estimated_mib"] > 0
    ways = {row["way"]: row for row in speed["folds"]["results"]}
    assert list(ways) == ["upper_beside", "shared_layers", "beside", "merged_in_turn", "mean_weights"]
    assert all(row["ratio"] > 0 and row["equal_decisions"] > 0.8 for row in ways.values())
    assert ways["shared_layers"]["max_difference"] < 1e-2 and 0 < ways["mean_weights"]["max_difference"] < 0.1
    graphs = {row["way"]: row["graphs"] for row in speed["compile"]["results"]}
    assert graphs == {"score_plain": 0, "train_plain": 0, "score_compiled": 1, "train_compiled": 2}
    rounded = {row["way"]: row["max_difference"] for row in speed["float8"]["results"]}
    assert 0 == rounded["bfloat16"] < rounded["fp8"] < 0.1
    assert max(row["max_difference"] for row in correctness["exact_float32"]["results"]) < 1e-5
    assert all(correctness[name]["ok"] for name in gpu_checks.SECONDS), correctness
    assert correctness["qlora"]["skipped"] == "bitsandbytes is not installed"
    assert kept["speed"]["environment"]["versions"]["torch"] == torch.__version__
    ends = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert ends == [dict.fromkeys(steps, "done") for steps in STAGES.values()]


def test_the_steps_take_twelve_minutes_at_most():
    stages = gpu_suite.stages_of("gemma-3-12b", "cuda").values()
    assert sum(step.seconds for steps in stages for step in steps) + 30 <= gpu_suite.LIMIT == 12 * 60


def print_json() -> None:
    print('table\n{"found": 1}')


def fail() -> None:
    raise RuntimeError("broken")


def hang() -> None:
    time.sleep(300)


def break_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def say_goodbye() -> None:
    print_json()
    print("goodbye")


def test_a_step_that_fails_hangs_or_breaks_its_process_stops_no_other(tmp_path, capsys):
    mains = {"good": print_json, "failing": fail, "hanging": hang, "broken": break_process, "talking": say_goodbye}
    steps = [gpu_suite.Step(name, 1, main) for name, main in mains.items()] + [gpu_suite.Step("last", 1, print_json)]
    asked = SimpleNamespace(out=tmp_path, shape="tiny", device="cpu", patience=1)
    gpu_suite.run_stage("speed", steps, asked)
    kept = json.loads((tmp_path / "gpu-speed-tiny-cpu.json").read_text())["figures"]
    assert {name: found["state"] for name, found in kept.items()} == {
        "good": "done",
        "failing": "failed",
        "hanging": "timed out",
        "broken": "failed",
        "talking": "no JSON",
        "last": "done",
    }
    assert kept["last"]["found"] == 1 and "broken" in kept["failing"]["said"]
    assert "RuntimeError: broken" in (tmp_path / "gpu-suite.log").read_text()
    assert "look at failing: failed: RuntimeError: broken" in capsys.readouterr().out


def test_what_is_below_its_goal_is_named():
    row = {"way": "ours", "mfu": 0.45, "peak_mib": 900.0, "estimated_mib": 450.0}
    figures = {"train": {"state": "done", "device": "cuda", "results": [row, row | {"way": "trainer"}]}}
    assert gpu_suite.look_at(figures) == [
        "look at train ours: 45% of the matmul peak, the goal is 60%",
        "look at train ours: the peak of memory is 2.00 of its estimate",
        "look at train trainer: the peak of memory is 2.00 of its estimate",
    ]
    assert gpu_suite.look_at({"peak": {"state": "done"}}) == ["nothing to look at"]


@pytest.mark.parametrize(
    ("shape", "billions"), [("gemma-3-12b", 10.758), ("qwen3-14b", 13.212), ("gemma-2-9b", 8.324)]
)
def test_a_shape_has_the_matmul_weights_of_its_base(shape, billions):
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(random_models.config_of(shape), dtype=torch.bfloat16)
    assert random_models.matmul_weights(model) / 1e9 == pytest.approx(billions, abs=1e-3)


def test_a_built_shape_scores_random_rows_with_two_finite_logits():
    from product_relevance.models.batching import pad_rows

    model, vocabulary = random_models.build("tiny", "cpu", torch.bfloat16)
    rows = random_models.random_rows(400, vocabulary)
    lengths = [len(row) for row in rows]
    assert (
        sum(lengths) / 400 == pytest.approx(45, abs=2) and 1 <= min(map(min, rows)) <= max(map(max, rows)) < vocabulary
    )
    logits = model(**pad_rows(rows[:4], 0)).logits
    assert logits.shape == (4, 2) and logits.dtype == torch.bfloat16 and torch.isfinite(logits).all()


def test_an_unknown_shape_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match="gemma-3-12b"):
        random_models.build("gemma-5", "cpu", torch.float32)
