"""Programs of this repository in a fork of a process that has imported what they need: a fresh one imports for 10 s.

Not for tests of the process itself: its imports, signals, hash seed, warnings at import, or the time of --help.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "transformers", "peft", "datasets", "sklearn.metrics", "tests.conftest"])


def run(command: list, cwd: Path | str | None = None, env: dict | None = None, timeout: float = 900):
    """Run `python SCRIPT`, `python -m MODULE`, `python -c CODE` or `relevance ...`, as subprocess.run would.

    Returns:
        subprocess.CompletedProcess with both outputs as text.
    """
    words = [str(word) for word in command]
    words = ["-m", "product_relevance.cli.main", *words[1:]] if words[0] == "relevance" else words[1:]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        place = os.path.abspath(cwd or os.getcwd())
        process = _CONTEXT.Process(target=_work, args=(words, place, dict(env or os.environ), out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        return subprocess.CompletedProcess(command, process.exitcode, out.read_text("utf-8"), err.read_text("utf-8"))


def _work(words: list[str], folder: str, environment: dict, out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0:0] = environment.get("PYTHONPATH", "").split(os.pathsep) if environment.get("PYTHONPATH") else []
    import torch

    if "HF_ENDPOINT" in environment:  # a Hub on loopback
        from pytest import MonkeyPatch

        from tests.hub.loopback.fixture import read_environment

        read_environment(MonkeyPatch())
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    first, *rest = words
    if first == "-m":
        sys.argv = rest
        sys.path.insert(0, folder)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, folder)
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(first).absolute().parent))
        runpy.run_path(first, run_name="__main__")
