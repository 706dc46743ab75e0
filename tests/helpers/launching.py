"""Two processes of train_relevance.py under a real launcher."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, free_port

BIN = Path(sys.executable).parent
PROCESSES = {"torchrun": "--nproc_per_node", "deepspeed": "--num_accelerators"}


def launch(launcher: str | None, *flags: str) -> None:
    """Train under `torchrun` or `deepspeed` in two processes of one thread, or alone; fail with what they printed."""
    alone = [sys.executable]
    command = [BIN / launcher, PROCESSES[launcher], "2", "--master_port", free_port()] if launcher else alone
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*map(str, command), str(ROOT / "train_relevance.py"), *flags],
        capture_output=True, text=True, timeout=420, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
