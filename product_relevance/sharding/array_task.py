"""Shards by one task of a scheduler's array, as Slurm has."""

from dataclasses import dataclass
from typing import Any

from product_relevance.sharding import plan
from product_relevance.utils import console


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
