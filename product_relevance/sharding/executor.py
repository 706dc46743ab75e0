"""datatrove runs the shards on this machine."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import multiprocess
import pandas as pd
from datatrove.executor import LocalPipelineExecutor
from loguru import logger

from product_relevance.sharding import plan
from product_relevance.utils import console

KILLED = "a worker was killed (out of memory?): the same command goes on where it stopped; fewer --workers take less"

LOOK = 0.05  # seconds; the pool forgets a dead worker after 0.1, so one that died at its first shard would go unseen


@dataclass(frozen=True)
class Step:
    """What datatrove calls for each task; the task's rank is the number of the shard.

    Attributes:
        folder: With the plan.
        job: From an input shard to its table; it is pickled, so it holds names and options, never a model.
    """

    folder: str
    job: Callable[[Path], pd.DataFrame]

    def __call__(self, data, rank: int, world_size: int) -> None:
        plan.process_shard(self.folder, rank, self.job)


def prepare_logs(folder: str | os.PathLike) -> tuple[str, list[int]]:
    """Let datatrove run the shards that have no whole output, whatever its own marks say.

    Args:
        folder: With the plan.

    Returns:
        The folder of datatrove's logs, and the unfinished shards.
    """
    logs, found = Path(folder).absolute() / "logs", plan.unfinished_shards(folder)
    for number in found:
        (logs / "completions" / f"{number:05d}").unlink(missing_ok=True)
        plan.manifest_path(folder, number).unlink(missing_ok=True)
    return str(logs), found


def run_local(step: Step, workers: int = 1) -> int:
    """Process the unfinished shards on this machine.

    Args:
        step: Of a folder with a plan.
        workers: Processes at a time; 1 works in this one. With several GPUs each worker takes one.

    Returns:
        How many shards were processed now.

    Raises:
        ValueError: A shard has a defect, or a worker was killed.
    """
    parts = plan.read_plan(step.folder)["shards"]
    logs, todo = prepare_logs(step.folder)
    if workers > 1:
        _share_cores(workers)
    if todo:
        logger.disable("datatrove.executor.local")  # the bar shows how many are done
        executor = _Quiet([step], tasks=len(parts), workers=workers, logging_dir=logs)
        with _Watch(step.folder, {number: parts[number]["rows"] for number in todo}):
            executor.run()
    plan.drop_remains(step.folder)
    return len(todo)


def _share_cores(workers: int) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, str(max(1, cores // workers)))


class _Quiet(LocalPipelineExecutor):
    """Logs each shard in its log file; only errors go to the console too."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1):
        logger.disable("datatrove.executor.local")
        return super()._run_for_rank(rank, local_rank + 1, node_rank)


def _raise_killed(*_) -> None:
    raise ValueError(KILLED)


class _Watch:
    """Shows how many rows are done, and ends the run when a worker is killed: datatrove's pool would wait for ever."""

    def __init__(self, folder: str, waiting: dict[int, int]):
        self.folder, self.waiting = folder, waiting
        self._ended = threading.Event()
        self._workers: set[Any] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._bar: Any = console.progress_bar(total=sum(waiting.values()), desc=f"{len(waiting)} shards", unit="row")

    def __enter__(self) -> None:
        # A signal reaches the main thread where it waits for a lock; SIGINT is ignored in background jobs.
        self._before = signal.signal(signal.SIGUSR1, _raise_killed)
        self._thread.start()

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)
        self._count_done()
        self._bar.close()

    def _run(self) -> None:
        looks = 0
        while not self._ended.wait(LOOK):
            looks += 1
            if looks % 20 == 0:
                self._count_done()
            self._workers |= set(multiprocess.active_children())
            codes = [process.exitcode or 0 for process in self._workers]
            if self.waiting and any(code < 0 and code != -signal.SIGTERM for code in codes):
                main = threading.main_thread().ident
                return signal.pthread_kill(main or 0, signal.SIGUSR1)

    def _count_done(self) -> None:
        for number in [n for n in self.waiting if plan.manifest_path(self.folder, n).is_file()]:
            self._bar.update(self.waiting.pop(number))
