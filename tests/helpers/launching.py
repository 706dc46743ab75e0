"""Two processes of train_relevance.py under a real launcher."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, free_port

BIN = Path(sys.executable).parent
PROCESSES = {"torchrun": "--nproc_per_node", "deepspeed": "--num_accelerators"}


def launch(launcher: str, *flags: str) -> None:
    """Train under `torchrun` or `deepspeed` in two processes of one thread; fail with what they printed."""
    _start(launcher, ROOT / "train_relevance.py", *flags)


def launch_in_turn(launcher: str, trainings: list[list[str]]) -> None:
    """Train several times in one job of two processes, which import once; fail with what they printed."""
    jobs = [(free_port(), flags) for flags in trainings]
    _start(launcher, ROOT / "tests/helpers/train_in_turn.py", json.dumps(jobs))


def _start(launcher: str, script: Path, *words: str) -> None:
    command = [BIN / launcher, PROCESSES[launcher], "2", "--master_port", free_port(), script, *words]
    paths = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | paths
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=420, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
