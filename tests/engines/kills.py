"""Kill workers at random moments while shards are scored."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import bench_shards
import psutil

from tests.engines.clusters import wait_for


def choose_moments(shards: int, kills: int, seed: int = 0) -> list[int]:
    """Return after how many finished shards something is killed: different numbers, ascending, in the first half."""
    return sorted(random.Random(seed).sample(range(1, shards // 2), kills))


def kill_workers(find: Callable[[], Sequence[psutil.Process]], output: Path, moments: list[int]) -> list[int]:
    """Kill one random worker by SIGKILL after each number of finished shards.

    Args:
        find: Returns the workers that live now.
        output: With the plan.
        moments: Numbers of finished shards.

    Returns:
        How many shards were finished at each kill.
    """
    found, rng = [], random.Random(len(moments))
    for moment in moments:
        wait_for(lambda moment=moment: bench_shards.whole(output) >= moment and find(), f"{moment} shards", 300)
        time.sleep(rng.uniform(0, 0.5))
        victim = rng.choice(find())
        victim.kill()
        found.append(bench_shards.whole(output))
        wait_for(lambda victim=victim: not is_alive(victim), "the end of a killed worker")
    return found


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that ended and is not collected does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def having(processes: Sequence[psutil.Process], word: str) -> list[psutil.Process]:
    """Return those whose command line holds a word."""
    return [process for process in processes if word in command_of(process)]


def command_of(process: psutil.Process) -> str:
    """Return the command line of a process, an empty one where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
