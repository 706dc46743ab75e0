"""What every benchmark prints and keeps: a table, JSON, commit, device, versions, date; and the matmul peak."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from product_relevance.ensemble.published import canaries
from product_relevance.utils.run_folder import write_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SIZES = {"cpu": 1024, "cuda": 8192}  # rows and columns of the square matmul: large enough to be bound by arithmetic


def keep(name: str, figures: dict, folder: str | os.PathLike = RESULTS) -> Path:
    """Write figures with their environment to `<folder>/<name>.json`, whole or not at all; an old file is replaced.

    Args:
        name: Of the result, as predict-e5-small-cpu.
        figures: What JSON can hold.
        folder: Made when it is missing.

    Returns:
        The file.

    Raises:
        ValueError: A name that is no plain file name, or a figure that is not finite.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"result {name!r}: expected letters, digits, '.', '_' and '-' only")
    path = Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"environment": environment(), "figures": figures})
    return path


def described(name: str, arguments, device: str, dtype: str) -> dict:
    """Return what the figures of a benchmark of one model begin with.

    Args:
        name: Of the benchmark.
        arguments: With `shape`, or `model` where that is None.
        device, dtype: Of the model.
    """
    import torch

    about = {"benchmark": name, "model": arguments.shape or Path(arguments.model).name, "device": device}
    return about | {"dtype": dtype, "threads": torch.get_num_threads()}


def report(run: Callable[..., dict], arguments, names: Sequence[str], columns: Sequence[str]) -> None:
    """Run a benchmark; print its rows as a table, where they were kept, and all of it as one line of JSON.

    Args:
        run: From the arguments to the figures, with the rows in `results`; a ValueError ends with one line.
        arguments: Of the command line, with `keep`.
        names: Keys that name a row, the texts first.
        columns: Keys of its figures.
    """
    try:
        figures = run(arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")
    rows = figures["results"]
    texts = [name for name in names if isinstance(rows[0][name], str)]
    others = [name for name in names if name not in texts]
    width = {name: max(12, *(len(row[name]) for row in rows)) + 2 for name in texts}
    titles = "".join(f"{name:<{width[name]}}" for name in texts) + "".join(f"{name:>9}" for name in others)
    print(titles + "".join(f"{name:>22}" for name in columns))
    for row in rows:
        line = "".join(f"{row[name]:<{width[name]}}" for name in texts) + "".join(
            f"{row[name]:>9,}" for name in others
        )
        print(line + "".join(f"{row[name]:>22,.6g}" for name in columns))
    if arguments.keep:
        print(f"kept in {keep(arguments.keep, figures).relative_to(ROOT)}")
    print(json.dumps(figures))


def environment() -> dict:
    """Return commit (None outside git; `changed` if files were edited since), device, cores, versions and UTC date."""
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "numpy")}
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit or None,
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None,
        "device": device_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {"python": platform.python_version(), **packages},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name() -> str:
    """Return the name of the GPU, or of the CPU with the best vector instructions that torch may use."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def largest_difference(dtype: str) -> float:
    """Return how far the probabilities of two ways to compute the same model may lie apart.

    Beyond float32 two batchings of 48 layers of random weights differ by up to 0.03 in 400 pairs, and by more in more;
    a wrong mask or cache shows in float32 too.
    """
    return canaries.EXACT if dtype == "float32" else 0.1


def matmul_peak(device: str, dtype: str, seconds: float = 0.5) -> float:
    """Measure the best speed of a square matrix product, which no model can pass.

    Args:
        device: cpu, cuda, cuda:1.
        dtype: float32, bfloat16, float16.
        seconds: How long to measure; at least three products.

    Returns:
        FLOP/s of the fastest product, with torch's present number of threads.
    """
    import torch

    size = SIZES["cuda" if device.startswith("cuda") else "cpu"]
    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 4 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        a @ a
        synchronize(device)
        times.append(time.perf_counter() - before)
    return 2 * size**3 / min(times[1:])  # the first one warms up


def synchronize(device: str) -> None:
    """Wait until a GPU has done what it was given; a CPU has."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
