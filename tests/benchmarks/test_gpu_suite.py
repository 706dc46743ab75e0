"""The suite for a GPU: runs on a CPU in a toy shape, with nothing installed but what it says, never stopping early."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
import random_models
import torch

from tests.conftest import ROOT

NEEDED = ["torch", "transformers", "peft", "accelerate", "numpy", "pandas", "pyarrow"]
STAGES = ["peak", "predict", "rank", "train", "exact_bfloat16", "exact_float32"]


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


def suite(python: Path, out: Path, **more: str) -> tuple[int, dict, str]:
    """Run the suite; its exit status, what it kept and what it printed."""
    settings = {
        "PYTHON": str(python),
        "OUT": str(out),
        "SHAPE": "tiny",
        "DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    } | more
    done = subprocess.run(
        [ROOT / "benchmarks/speed/gpu_suite.sh"],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    kept = out / "gpu-suite-tiny-cpu.json"
    assert kept.is_file(), done.stdout + done.stderr
    return done.returncode, json.loads(kept.read_text()), done.stdout


def test_every_stage_gives_its_figures_with_the_named_packages_alone(tmp_path):
    python = bare_python(tmp_path)
    assert subprocess.run([python, "-c", "import sklearn"], capture_output=True).returncode == 1
    status, kept, printed = suite(python, tmp_path / "out", PATIENCE="20")
    figures = kept["figures"]
    assert list(figures) == STAGES
    log = (tmp_path / "out/gpu-suite.log").read_text()
    assert status == 0 and {stage["state"] for stage in figures.values()} == {"done"}, log[-6000:]
    assert figures["peak"]["tflops"]["float32"] > 0
    assert figures["predict"]["dtype"] == figures["train"]["dtype"] == "bfloat16"
    for stage in ("predict", "train"):
        assert all(row["pairs_per_second"] > 0 and row["mfu"] > 0 for row in figures[stage]["results"]), stage
    ours, theirs = (next(r for r in figures["train"]["results"] if r["way"] == w) for w in ("ours", "first_team"))
    assert ours["padding"] < theirs["padding"] and abs(ours["loss"] - theirs["loss"]) < 1e-3
    assert max(row["max_difference"] for row in figures["exact_float32"]["results"]) < 1e-5
    assert kept["environment"]["versions"]["torch"] == torch.__version__
    assert json.loads(printed.splitlines()[-1]) == dict.fromkeys(STAGES, "done")


def test_a_stage_that_fails_or_hangs_stops_no_other(tmp_path):
    fake = tmp_path / "python"
    fake.write_text(
        f"""#!/bin/sh
case "$*" in
-\\ *) exec {sys.executable} "$@" ;;
*bench_rank*float32*) sleep 300 ;;
*bench_predict*) echo broken >&2; exit 3 ;;
*bench_rank*bfloat16*) echo '{{"found": 1}}'; echo goodbye ;;
*) echo table; echo '{{"found": 1}}' ;;
esac
"""
    )
    fake.chmod(0o755)
    short = tmp_path / "bin"
    short.mkdir()
    (short / "timeout").write_text('#!/bin/sh\nshift 3\nexec /usr/bin/timeout 2 "$@"\n')  # for `timeout -k 5 SECONDS`
    (short / "timeout").chmod(0o755)
    status, kept, _ = suite(fake, tmp_path / "out", PATH=f"{short}:{os.environ['PATH']}")
    states = {name: stage["state"] for name, stage in kept["figures"].items()}
    assert states == dict.fromkeys(STAGES, "done") | {
        "predict": "failed 3",
        "exact_bfloat16": "no JSON",
        "exact_float32": "timed out",
    }
    assert status == 1 and kept["figures"]["train"]["found"] == 1
    assert "broken" in (tmp_path / "out/gpu-suite.log").read_text()


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
