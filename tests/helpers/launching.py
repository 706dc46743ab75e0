"""Two processes of train_relevance.py under a real launcher."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, free_port

BIN = Path(sys.executable).parent
PROCESSES = {"torchrun": "--nproc_per_node", "deepspeed": "--num_accelerators"}


def launch_in_turn(launcher: str, trainings: list[list[str]]) -> None:
    """Train several times in one job of two processes, which import once; fail with what they printed.

    The first training meets where the launcher says, each of the others at a port of its own.
    """
    jobs = json.dumps([(free_port() if number else None, flags) for number, flags in enumerate(trainings)])
    script = ROOT / "tests/helpers/train_in_turn.py"
    command = [BIN / launcher, PROCESSES[launcher], "2", "--master_port", free_port(), script, jobs]
    paths = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | paths
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=900, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
