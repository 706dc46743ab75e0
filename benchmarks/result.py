"""What every benchmark keeps beside its figures: commit, device, versions, date; and the matmul peak to divide by."""

import os
import platform
import re
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from product_relevance.run import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SIZES = {"cpu": 1024, "cuda": 8192}  # rows and columns of the square matmul: large enough to be bound by arithmetic


def keep(name: str, figures: dict, folder: str | os.PathLike = RESULTS) -> Path:
    """Write figures with their environment to `<folder>/<name>.json`, whole or not at all; an earlier one is replaced.

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


def environment() -> dict:
    """Return commit (None outside git; `changed` tells of edits since), device, cores, versions and UTC date."""
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
