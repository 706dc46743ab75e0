"""Real clusters of this one machine: Ray's head, and Slurm's controller with two nodes; nothing is left running."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.conftest import ROOT, free_port

BIN = Path(sys.executable).parent
SLURM = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
CONF = """ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000"
NODES = ("node0", "node1")


def find_slurm() -> bool:
    """Return whether Slurm can be started here: its programs are there, and this is root, as whom slurmd runs."""
    return os.geteuid() == 0 and all(shutil.which(name, path=_path()) for name in SLURM)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something holds; fail after a time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def ray_head(cpus: int) -> Iterator[tuple[dict[str, str], psutil.Process]]:
    """Start a head of Ray on loopback; yield the variables of a driver, and the process whose children work."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # names of sockets have 107 bytes at most
        address = f"127.0.0.1:{free_port()}"
        variables = environment() | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": address}
        variables["RAY_memory_monitor_refresh_ms"] = "0"  # what others hold on this machine kills no worker
        flags = f"--head --block --num-cpus {cpus} --port {address.split(':')[1]}"
        flags += f" --include-dashboard false --object-store-memory 100000000 --temp-dir {folder}"
        command = [str(BIN / "ray"), "start", *flags.split()]
        with _daemons(Path(folder)) as start:
            head = start(command, {k: v for k, v in variables.items() if k != "RAY_ADDRESS"})
            log = Path(folder) / "0.log"
            wait_for(lambda: "Ray runtime started" in log.read_text(), f"Ray: {log.read_text()}")
            yield variables, head


@contextlib.contextmanager
def ray_machine(variables: dict[str, str], cpus: int) -> Iterator[psutil.Process]:
    """Join a second machine, which is this one again, to a cluster of Ray; yield its process."""
    with tempfile.TemporaryDirectory() as folder, _daemons(Path(folder)) as start:
        flags = f"--address {variables['RAY_ADDRESS']} --block --num-cpus {cpus} --object-store-memory 100000000"
        machine = start([str(BIN / "ray"), "start", *flags.split()], variables)
        log = Path(folder) / "0.log"
        wait_for(lambda: "Ray runtime started" in log.read_text(), f"Ray: {log.read_text()}")
        yield machine


@contextlib.contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """Start munged, slurmctld and two nodes of one CPU; yield the variables that Slurm's commands need."""
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as name:
        folder, host = Path(name), socket.gethostname().split(".")[0]
        folder.chmod(0o755)
        for part in ("state", *NODES):
            (folder / part).mkdir()
        nodes = "\n".join(NODE.format(name=node, host=host, port=free_port()) for node in NODES)
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=host, port=free_port(), nodes=nodes))
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)
        variables = environment() | {"SLURM_CONF": str(folder / "slurm.conf")}
        with _daemons(folder) as start:
            paths = {"key-file": "key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "seed"}
            names = [f"--{flag}={folder / file}" for flag, file in paths.items()]
            start(["munged", "--foreground", "--force", f"--log-file={folder / 'munge.log'}", *names], variables)
            wait_for((folder / "munge.socket").exists, "munged")
            start(["slurmctld", "-D"], variables)
            for node in NODES:
                start(["slurmd", "-D", "-N", node], variables)
            state = ["sinfo", "--noheader", "--format=%T"]
            wait_for(lambda: output_of(state, variables).split() == ["idle"], f"Slurm, see {folder}")
            yield variables
            output_of(["scancel", "--user=root"], variables)
            wait_for(lambda: not output_of(["squeue", "--noheader"], variables), "the end of the jobs")


def output_of(command: list[str], variables: dict[str, str]) -> str:
    """Run a command to its end; return what it printed, or its error."""
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    return (done.stdout + done.stderr).strip()


def environment() -> dict[str, str]:
    """Return the variables of what runs on a cluster: this checkout, one thread, float32, no downloads."""
    added = {"PATH": _path(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RELEVANCE_DTYPE": "float32"}
    return os.environ | added | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _path() -> str:
    return f"{BIN}:{os.environ['PATH']}:/usr/sbin"


@contextlib.contextmanager
def _daemons(folder: Path) -> Iterator[Callable[[list[str], dict[str, str]], psutil.Process]]:
    """Give a function that starts a daemon in the foreground; end all of them, and what they started, at last."""
    started: list[psutil.Popen] = []

    def start(command: list[str], variables: dict[str, str]) -> psutil.Process:
        with open(folder / f"{len(started)}.log", "wb") as log:
            started.append(psutil.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True))
        return started[-1]

    try:
        yield start
    finally:
        families = [(daemon, daemon.children(recursive=True)) for daemon in reversed(started) if daemon.is_running()]
        for daemon, children in families:
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired, psutil.TimeoutExpired):
                daemon.wait(15)
            for process in [daemon, *children]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        psutil.wait_procs([process for daemon, children in families for process in [daemon, *children]], timeout=10)
