"""Shards on a cluster: by actors of Ray, or by one task of a scheduler's array."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from product_relevance.sharding import plan
from product_relevance.utils import console
from product_relevance.utils.extras import how_to_install

logger = logging.getLogger(__name__)

RESTARTS = 3  # of one shard: a node may go, but a shard that kills each of its workers must not go on for ever


@dataclass(frozen=True)
class ArrayTask:
    """One task of an array: it processes the shards index, index + count, index + 2 count and so on.

    Attributes:
        index: From 0.
        count: Of the tasks.
    """

    index: int
    count: int

    @classmethod
    def from_text(cls, text: str) -> "ArrayTask":
        """Read I/N, as 3/8.

        Raises:
            ValueError: Not of this form, or I is not from 0 to N - 1.
        """
        numbers = text.split("/")
        if len(numbers) == 2 and all(number.isascii() and number.isdigit() for number in numbers):
            index, count = map(int, numbers)
            if index < count:
                return cls(index, count)
        raise ValueError(
            f"found {text!r}, expected I/N with I from 0 to N-1, as 3/8; the tasks of the array count from 0"
        )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def run_array_task(folder: str, job: Any, task: ArrayTask) -> int:
    """Process the unfinished shards of one task, one after the other in this process.

    Args:
        folder: With the plan; all tasks share it.
        job: See `executor.Step`.
        task: Which shards.

    Returns:
        How many shards the task has.

    Raises:
        ValueError: A shard has a defect, or there are fewer shards than tasks.
    """
    parts = plan.read_plan(folder)["shards"]
    if len(parts) < task.count:
        raise ValueError(f"--array_task {task}: found {len(parts)} shards, expected one for each task at least")
    numbers = range(task.index, len(parts), task.count)
    for number in console.progress_bar(numbers, desc=f"task {task}", unit="shard"):
        plan.process_shard(folder, number, job)
    return len(numbers)


class Worker:
    """An actor of Ray: it loads the model at its first shard and keeps it."""

    def __init__(self, folder: str, job: Any):
        self.folder, self.job = folder, job

    def process(self, number: int) -> int:
        """Process one shard and return its rows."""
        return plan.process_shard(self.folder, number, self.job)["rows"]


def run_ray(folder: str, job: Any, workers: int) -> int:
    """Process the unfinished shards on the Ray cluster that runs here, or that RAY_ADDRESS names.

    Each worker takes one CPU, and one GPU if the cluster has any. Ray replaces a worker that died; the new one does
    the shard again.

    Args:
        folder: With the plan; one that all machines share, with the same path.
        job: See `executor.Step`; each machine has this package installed.
        workers: Actors at a time.

    Returns:
        How many shards were processed now.

    Raises:
        ValueError: No Ray, no cluster, more workers than it has room for, a shard has a defect, or its workers died.
    """
    folder, todo = str(Path(folder).absolute()), plan.unfinished_shards(folder)
    if todo:
        ray = _connect()
        try:
            pool = _pool(ray, min(workers, len(todo)), Worker, (folder, job))
            _process(ray, pool, todo)
        finally:
            ray.shutdown()
    plan.drop_remains(folder)
    return len(todo)


def _connect():
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError(f"--cluster ray needs Ray: {how_to_install('ray')}") from None
    try:
        ray.init(address="auto", logging_level=logging.WARNING, log_to_driver=False)
    except ConnectionError as error:
        raise ValueError(
            f"--cluster ray: found no cluster ({error}); start Ray on this machine, or name its head in RAY_ADDRESS"
        ) from None
    return ray


def _pool(ray, workers: int, actor: type, arguments: tuple):
    found = ray.cluster_resources()
    kind = "GPU" if found.get("GPU") else "CPU"
    if workers > (room := int(found.get(kind, 0))):
        raise ValueError(f"--workers {workers}: the cluster has {room} of the resource {kind}, expected one a worker")
    options = {"num_cpus": 1, "num_gpus": int(kind == "GPU"), "max_restarts": -1, "max_task_retries": RESTARTS}
    made = [ray.remote(**options)(actor).remote(*arguments) for _ in range(workers)]
    return ray.util.ActorPool(made)


def _process(ray, pool, numbers: list[int]) -> None:
    made = pool.map_unordered(lambda worker, number: worker.process.remote(number), numbers)
    try:
        for _ in console.progress_bar(made, total=len(numbers), desc="shards on Ray", unit="shard"):
            pass
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        died = f"a shard's worker died {RESTARTS + 1} times (out of memory?)"
        raise ValueError(f"{died}: the same command goes on where it stopped; Ray: {error}") from error
