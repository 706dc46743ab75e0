"""The files of docs/how-to/slurm.md on a real Slurm of two nodes on this machine, with workers killed at random.

`make test-engines` runs this; without Debian's slurmctld, slurmd, slurm-client and munge it is skipped.
"""

import json
import re
import subprocess
import time
from pathlib import Path

import bench_shards
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT, free_port, rows_of, write_rows
from tests.engines import clusters
from tests.engines.conftest import KILLS, ROWS, SHARDS, Work, check_and_keep
from tests.engines.kills import choose_moments, command_of, kill_workers

pytestmark = pytest.mark.skipif(
    not ROWS or not clusters.find_slurm(), reason="make test-engines as root, after apt install slurm-wlm munge"
)
TASKS = 4
FLAGS = (
    "--task QC --use_cpu true --num_folds 2 --fold 0 --max_steps 4 --eval_steps 4 --save_steps 4 --lora_r 4"
    " --learning_rate 1e-3 --language_fix none --per_device_train_batch_size 4 --global_batch_size 16"
)
# What the page's files ask for and this machine has not.
ELSEWHERE = re.compile(r"#SBATCH --(gpus|cpus|mem)-?[\w-]*=.*\n|source .*\n|cd .*\n|export SRUN.*\n")


@pytest.fixture(scope="module")
def variables():
    with clusters.slurm() as found:
        yield found


def script_of_page(number: int) -> str:
    """Return a file of the page without what this machine has not."""
    page = (ROOT / "docs/how-to/slurm.md").read_text(encoding="utf-8")
    return ELSEWHERE.sub("", re.findall(r"```bash\n(#!.*?)```", page, re.S)[number])


def array_script(work: Work, output: Path) -> str:
    """Return the page's array with the names, shards and tasks of this test."""
    ours = " ".join(work.command(output))
    theirs = r"relevance predict [^\\]*\\\n\s*"
    script, times = re.subn(theirs, lambda _: f"{ours} ", script_of_page(0))
    assert times == 1
    return script.replace("--array=0-7", f"--array=0-{TASKS - 1}")


def train_script(flags: list[str], port: int) -> str:
    """Return the page's training, of one process a node, that meets at a port of loopback."""
    script, times = re.subn(r" train_relevance.py [^$]*$", " " + " ".join(flags) + "\n", script_of_page(1))
    assert times == 1
    return script.replace("--nproc_per_node 4", "--nproc_per_node 1").replace("$first:29500", f"127.0.0.1:{port}")


def workers_of(output: Path) -> list[psutil.Process]:
    """Return the processes of tasks that score now: no srun, no shell."""
    found = [process for process in psutil.process_iter() if f"{output} " in command_of(process)]
    return [process for process in found if "python" in command_of(process).split()[0]]


def test_killed_workers_and_a_cancelled_array_leave_the_bytes_of_a_local_run(work, variables, tmp_path):
    output, moments = tmp_path / "scores", choose_moments(SHARDS, KILLS + 1)
    script = tmp_path / "score.sbatch"
    script.write_text(array_script(work, output))
    started = time.perf_counter()
    planned = clusters.output_of([*work.command(output), "--plan_only"], variables)
    assert f"{SHARDS} shards" in planned, planned
    submit = ["sbatch", "--parsable", f"--chdir={tmp_path}", str(script)]
    job = clusters.output_of(submit, variables)
    killed = kill_workers(lambda: workers_of(output), output, moments[:KILLS])
    clusters.wait_for(lambda: bench_shards.whole(output) >= moments[-1], f"{moments[-1]} shards", 300)
    clusters.output_of(["scancel", job], variables)
    clusters.wait_for(lambda: not clusters.output_of(["squeue", "--noheader"], variables), "the cancelled array")
    cancelled = bench_shards.whole(output)
    assert cancelled < SHARDS and not workers_of(output)
    subprocess.run([submit[0], "--wait", *submit[1:]], env=variables, check=True)
    seconds = round(time.perf_counter() - started, 1)
    assert "0 of them made now" in clusters.output_of(work.command(output), variables)
    figures = {
        "version": clusters.output_of(["sbatch", "--version"], variables).split()[-1],
        "tasks": TASKS,
        "nodes": 2,
    }
    figures |= {"killed_workers_after": killed, "cancelled_after": cancelled, "seconds": seconds}
    check_and_keep(work, output, "slurm", figures)


def test_a_training_on_two_nodes_is_that_of_two_processes_without_slurm(variables, base_of, tmp_path):
    file = write_rows(tmp_path / "train_QC.txt", rows_of("train_QC.txt")[:160])
    flags = [str(ROOT / "train_relevance.py"), *FLAGS.split(), "--model_name_or_path", str(base_of("qwen3"))]
    flags += ["--train_file", str(file), "--output_dir"]
    script = tmp_path / "train.sbatch"
    script.write_text(train_script([*flags, str(tmp_path / "slurm")], free_port()))
    submit = ["sbatch", "--wait", "--parsable", f"--chdir={tmp_path}", str(script)]
    done = subprocess.run(submit, env=variables, capture_output=True, text=True, timeout=600)
    log = "".join(path.read_text() for path in tmp_path.glob("train-*.log"))
    assert done.returncode == 0, log[-6000:]
    alone = ["torchrun", "--nproc_per_node", "2", "--master_port", str(free_port()), *flags, str(tmp_path / "alone")]
    subprocess.run(alone, env=variables, cwd=tmp_path, check=True, capture_output=True)
    slurm, other = (tmp_path / name / "fold-0" for name in ("slurm", "alone"))
    assert json.loads((slurm / "fold.json").read_text())["engine"] == "DistributedDataParallel"
    pd.testing.assert_frame_equal(pd.read_parquet(slurm / "oof.parquet"), pd.read_parquet(other / "oof.parquet"))
    two, one = (load_file(folder / "adapter_model.safetensors") for folder in (slurm, other))
    assert two.keys() == one.keys() and all(torch.equal(two[name], one[name]) for name in one)
