"""Run the steps of two stages, speed and correctness, each step in a process of its own: see gpu_suite.sh.

What all steps import is imported once, before the processes fork. A step that fails, hangs or breaks the GPU stops no
other one. Each stage ends in a file of JSON, and in what there is to look at.
"""

import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_compile
import bench_float8
import bench_folds
import bench_predict
import bench_rank
import bench_train
import functorch.compile  # noqa: F401  # which the first graph of each step would import
import gpu_checks
import measurement

from product_relevance.models import memory
from product_relevance.utils.options import Parser

LIMIT = 720  # seconds of the whole suite, with what is imported
SHARE = 0.6  # of the measured matmul peak, the goal of plain scoring and of LoRA training
DIFFERENT = {"gemma-3-12b": "qwen3-14b"}  # a second shape to train at


@dataclass(frozen=True)
class Step:
    """One step of a stage.

    Attributes:
        name: as in the JSON.
        seconds: that it may take.
        main: prints what it likes; the last line is JSON.
        words: of its command line.
    """

    name: str
    seconds: int
    main: Callable[[], None]
    words: Sequence[str] = ()


def stages_of(shape: str, device: str) -> dict[str, list[Step]]:
    """Return the steps of each stage, for a shape of `random_models.SHAPES`."""
    tiny = shape == "tiny"
    pairs, targets, steps = ("64", "16", "1") if tiny else ("2000", "1000", "16")
    ways = ["first_team", "ours"] if tiny else ["first_team", "trainer", "ours", "ours_large"]
    on = ["--shape", shape, "--device", device]
    once = ["--repeats", "1"]
    graphs = ["--backend", "eager"] if tiny else []  # a CPU may have no C++ compiler
    few = [*on, "--targets", "8", "--pairs", "64", *once]
    speed = [
        Step("peak", 10, gpu_checks.print_peaks, [device]),
        Step("predict", 55, bench_predict.main, [*on, "--pairs", pairs, *once, "--sides", "ours", "first_team"]),
        Step("rank", 55, bench_rank.main, [*on, "--targets", "1", "8", targets, "--pairs", targets, *once]),
        Step("folds", 65, bench_folds.main, [*on, "--pairs", "32" if tiny else "1000"]),
        Step("train", 85, bench_train.main, [*on, "--steps", steps, "--ways", *ways]),
        Step("compile", 70, bench_compile.main, [*on, "--steps", steps, *graphs]),
        Step("float8", 50, bench_float8.main, [*on, "--pairs", "16" if tiny else "500"]),
    ]
    if other := DIFFERENT.get(shape):
        words = ["--shape", other, "--device", device, "--steps", "8", "--ways", "first_team", "ours"]
        speed.append(Step(f"train_{other}", 60, bench_train.main, words))
    # bfloat16 is held to its bound in `rank` too; here to the same, and float32 to 1e-3
    correctness = [
        Step("exact_bfloat16", 30, bench_rank.main, [*few, "--dtype", "bfloat16"]),
        Step("exact_float32", 40, bench_rank.main, [*few, "--dtype", "float32"]),
    ]
    for name, seconds in gpu_checks.SECONDS.items():
        correctness.append(Step(name, seconds, gpu_checks.main, [name, device]))
    return {"speed": speed, "correctness": correctness}


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--shape", default="gemma-3-12b", help="of the base (default gemma-3-12b; tiny to try it out)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--out", type=Path, default=measurement.RESULTS, help="folder for JSON and log")
    parser.add_argument("--patience", type=float, default=1, help="factor of the time limits")
    parser.add_argument("--stages", nargs="+", choices=("speed", "correctness"), default=["speed", "correctness"])
    return parser


def _work(step: Step, log: str) -> None:
    """Run a step: what a process of its own does. What it prints goes to a file."""
    with open(log, "w", encoding="utf-8") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        sys.stdout = sys.stderr = file
        sys.argv = [step.name, *step.words]
        code = 1
        with contextlib.suppress(BaseException):  # said in the log; the exit code is what counts
            try:
                step.main()
                code = 0
            except SystemExit as stopped:
                code = 0 if stopped.code in (None, 0) else 1
                print(stopped.code or "")
            except BaseException:
                traceback.print_exc()
        file.flush()
        os._exit(code)


def run_step(step: Step, folder: Path, patience: float) -> dict:
    """Run a step in a fork, and kill it where it takes too long.

    Returns:
        `state` (done, failed, timed out, no JSON) and `seconds`; the JSON of its last line.
    """
    log, started = folder / f"{step.name}.log", time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_work, args=(step, str(log)))
    process.start()
    process.join(step.seconds * patience)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    found = {"state": "timed out" if late else "failed" if process.exitcode else "done"}
    found["seconds"] = round(time.monotonic() - started, 1)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    if found["state"] == "done":
        try:
            return found | json.loads(lines[-1])
        except (ValueError, IndexError, TypeError):
            found["state"] = "no JSON"
    return found | {"said": lines[-1][-500:] if lines else ""}


def run_stage(name: str, steps: list[Step], asked) -> dict:
    """Run the steps of a stage; print and keep what they gave.

    Args:
        name: of the stage.
        steps: of it.
        asked: of the command line.

    Returns:
        Figures by step.
    """
    figures: dict[str, dict] = {}
    path = asked.out / f"gpu-{name}-{asked.shape}-{asked.device}.json"
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            figures[step.name] = run_step(step, Path(folder), asked.patience)
            log = Path(folder) / f"{step.name}.log"
            text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
            with (asked.out / "gpu-suite.log").open("a", encoding="utf-8") as file:
                file.write(f"== {step.name}\n{text}\n")
            print(f"{step.name:<18}{figures[step.name]['state']:<12}{figures[step.name]['seconds']:>8}", flush=True)
            measurement.keep(path.stem, figures, asked.out)  # after each step: the machine may be gone before the last
    print("\n".join(["", *look_at(figures)]))
    print(f"kept in {path}, what was printed in {asked.out}/gpu-suite.log")
    print(json.dumps({step: found["state"] for step, found in figures.items()}), flush=True)
    return figures


def look_at(figures: dict[str, dict]) -> list[str]:
    """Return what there is to look at in the figures of a stage: steps that failed, and speeds below their goals."""
    lines = [f"look at {name}: {found['state']}: {found.get('said', '')}" for name, found in figures.items()
             if found["state"] != "done"]  # fmt: skip
    for step, found in figures.items():
        for row in found.get("results", []):
            side = row.get("side", row.get("way", ""))
            if side.startswith("ours") and step.startswith(("predict", "train")) and row["mfu"] < SHARE:
                lines.append(f"look at {step} {side}: {row['mfu']:.0%} of the matmul peak, the goal is {SHARE:.0%}")
            if found["device"] != "cpu" and (estimate := row.get("estimated_mib")):
                ratio = row["peak_mib"] / estimate
                if not 1 / memory.BEYOND <= ratio <= memory.BEYOND:
                    lines.append(f"look at {step} {side}: the peak of memory is {ratio:.2f} of its estimate")
        lines += [f"look at {step}: {reason}" for reason in found.get("look_at", [])]
    return lines or ["nothing to look at"]


def main() -> None:
    """Run the stages; exit code 1 where a step did not end well."""
    asked = make_parser().parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "gpu-suite.log").write_text("", encoding="utf-8")
    stages = stages_of(asked.shape, asked.device)
    found = [run_stage(name, stages[name], asked) for name in asked.stages]
    sys.exit(any(step["state"] != "done" for figures in found for step in figures.values()))


if __name__ == "__main__":
    main()
