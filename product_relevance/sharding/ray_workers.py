"""Shards by workers on a Ray cluster; what a dead worker or a lost machine was doing is done again by another one."""

import contextlib
import logging
import os
import socket
from collections import Counter, deque
from pathlib import Path
from typing import Any

from product_relevance.sharding import plan
from product_relevance.utils import console
from product_relevance.utils.extras import how_to_install

ANSWER = 10  # seconds that the head of a cluster has to answer; Ray itself would try for two minutes
LOOK = 10  # seconds without a finished shard, after which workers without a machine are looked for
DEATHS = 4  # of workers at one shard: a machine may go, but a shard that kills each worker must not go on for ever


class Worker:
    """An actor of Ray: it loads the model at its first shard and keeps it."""

    def __init__(self, folder: str, job: Any):
        self.folder, self.job = folder, job

    def process(self, number: int) -> None:
        """Process one shard."""
        plan.process_shard(self.folder, number, self.job)


def run_ray(folder: str, job: Any, workers: int) -> int:
    """Process the unfinished shards on the Ray cluster that runs here, or that RAY_ADDRESS names.

    Each worker takes one CPU, and one GPU if the cluster has any. A worker that died is replaced; its shard is done
    again. If a machine is gone, the others go on with as many workers as they have room for.

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
            _Pool(ray, workers, (folder, job)).process(todo)
        finally:
            ray.shutdown()
    plan.drop_remains(folder)
    return len(todo)


def _connect():
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError(f"--cluster ray needs Ray: {how_to_install('ray')}") from None
    _require_answer(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(address="auto", logging_level=logging.WARNING, log_to_driver=False)
    except ConnectionError:
        found = "found no cluster; start Ray on this machine, or name the head of a cluster in RAY_ADDRESS"
        raise ValueError(f"--cluster ray: {found}") from None
    return ray


def _require_answer(address: str) -> None:
    """Raise ValueError if an address of the form HOST:PORT is one at which nothing answers."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:  # empty, auto, or ray://HOST:PORT
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except OSError as error:
        raise ValueError(
            f"--cluster ray: RAY_ADDRESS {address}: found nothing that answers there ({error.strerror or error}), "
            "expected the head of a cluster; start it, or name another one"
        ) from None


class _Pool:
    """Workers, and the shards they do. Ray's ActorPool does not say which shard died with its worker."""

    def __init__(self, ray, workers: int, arguments: tuple):
        self.ray, self.workers, self.arguments = ray, workers, arguments
        self.kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
        if workers > (room := self._room()):
            found = f"the cluster has {room} of the resource {self.kind}"
            raise ValueError(f"--workers {workers}: {found}, expected one a worker")
        self.waiting: deque[int] = deque()
        self.deaths: Counter[int] = Counter()
        self.idle: list[tuple] = []  # an actor, and a reference that is done once it has a machine
        self.running: dict[Any, tuple] = {}  # a reference to (actor, placed, shard)

    def process(self, numbers: list[int]) -> None:
        """Process shards, each by one worker."""
        self.waiting.extend(numbers)
        bar: Any = console.progress_bar(total=len(numbers), desc="shards on Ray", unit="shard")
        while self.waiting or self.running:
            self._send()
            done, _ = self.ray.wait(list(self.running), timeout=LOOK)
            for reference in done:
                bar.update(self._take(reference))
            if not done:
                self._take_back_unplaced()
        bar.close()

    def _room(self) -> int:
        return int(self.ray.cluster_resources().get(self.kind, 0))

    def _send(self) -> None:
        room = min(self.workers, self._room())
        if not room and not self.running:
            raise ValueError(f"--cluster ray: no machine with a {self.kind} is left; the same command goes on later")
        while self.waiting and len(self.running) < room:
            actor, placed = self.idle.pop() if self.idle else self._start()
            number = self.waiting.popleft()
            self.running[actor.process.remote(number)] = actor, placed, number

    def _start(self) -> tuple:
        options = {"num_cpus": 1, "num_gpus": int(self.kind == "GPU")}
        actor = self.ray.remote(**options)(Worker).remote(*self.arguments)
        return actor, actor.__ray_ready__.remote()

    def _take(self, reference) -> int:
        """Take what a worker did, and return the number of shards that it finished: 0 where it died."""
        actor, placed, number = self.running.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            self._end(actor)
            self.waiting.append(number)
            self.deaths[number] += 1
            if self.deaths[number] == DEATHS:
                died = f"shard {number}: {DEATHS} workers died at it (out of memory?)"
                raise ValueError(
                    f"{died}; the same command goes on where it stopped. Ray: {str(error).splitlines()[0]}"
                ) from error
            return 0
        self.idle.append((actor, placed))
        return 1

    def _take_back_unplaced(self) -> None:
        """Give up workers that wait for a machine that is gone: they would wait for ever."""
        if len(self.running) + len(self.idle) <= self._room():
            return
        for reference, (actor, placed, number) in list(self.running.items()):
            if not self.ray.wait([placed], timeout=0)[0]:
                del self.running[reference]
                self._end(actor)
                self.waiting.append(number)

    def _end(self, actor) -> None:
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(actor)
