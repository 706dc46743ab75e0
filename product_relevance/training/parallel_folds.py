"""Train the folds of a run one after the other, or several at a time, each by a process and on a GPU of its own.

The processes send each other nothing: each trains its fold as one process alone does, with the whole batch, and
publishes it into the run folder. Beside DDP, which divides each batch over all GPUs.
"""

import copy
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol

import torch

from product_relevance.data.splits import Split
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.training.base_model import BaseModelPool
from product_relevance.training.run_config import DescribedConfig, RunConfig
from product_relevance.utils import console, run_folder
from product_relevance.utils.one_line import errors_in_one_line

logger = logging.getLogger(__name__)
VISIBLE = "CUDA_VISIBLE_DEVICES"
# What a TrainingArguments finds on the GPUs that its process sees.
OF_A_PROCESS = ("_setup_devices", "distributed_state")


class FoldRows(Protocol):
    """What a fold trains on."""

    @property
    def split(self) -> Split:
        """The fold, by row numbers."""


Train = Callable[[DescribedConfig, Any, PairEncoder, BaseModelPool], Any]


@dataclass(frozen=True)
class _Job:
    """What a process is sent: the function that trains, and what it takes."""

    train: Train
    config: DescribedConfig
    fold: FoldRows
    encoder: PairEncoder
    pool: BaseModelPool
    share: float = 1.0  # of its GPU's memory


def check_parallel(config: RunConfig) -> None:
    """Check before anything is read that `--folds_parallel` can start its processes.

    Args:
        config: of the run.

    Raises:
        ValueError: a launcher or DeepSpeed, which starts processes of its own, or no GPU to count.
    """
    wanted, training = config.data.folds_parallel, config.training
    if wanted == 1:
        return
    engine = "DeepSpeed" if training.deepspeed else "FSDP" if training.fsdp else None
    if engine or training.world_size > 1:
        found = engine or f"{training.world_size} processes of a launcher"
        raise ValueError(
            f"--folds_parallel {wanted}: found {found}, expected one plain process, which starts one for each fold "
            "itself: start with python, without torchrun or deepspeed, or leave it out"
        )
    if wanted == 0 and training.device.type != "cuda":
        raise ValueError(
            f"--folds_parallel 0: one fold for each GPU, but the training runs on {training.device.type}; give a "
            "number, as --folds_parallel 2"
        )


def train_folds(
    train: Train, config: DescribedConfig, folds: Iterable[FoldRows], encoder: PairEncoder, pool: BaseModelPool
) -> None:
    """Train folds in turn in this process, or under `--folds_parallel` several at a time in processes of their own.

    Args:
        train: trains one fold and publishes its folder, from configuration, rows, encoder and pool.
        config: of the run, with its record.
        folds: rows of each fold to train.
        encoder: that made their tokens.
        pool: gives the base; it holds none yet.

    Raises:
        ValueError: a process failed; names the fold, the end of its log, and the log. The others train to their end.
    """
    waiting, places = iter(folds), _places(config)
    if len(places) > 1:
        listed = list(waiting)
        if len(listed) > 1:
            return _train_beside(_Job(train, _portable(config), listed[0], encoder, pool), listed, places)
        waiting = iter(listed)
    for fold in waiting:
        train(config, fold, encoder, pool)


def _places(config: RunConfig) -> list[str | None]:
    """Return for each process to run at a time the GPU that it sees; None on other devices, which all share."""
    wanted = config.data.folds_parallel
    if config.training.device.type != "cuda":
        return [None] * wanted
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name][:count] or list(map(str, range(count)))
    return [named[place % len(named)] for place in range(wanted or len(named))]


def _portable(config: DescribedConfig) -> DescribedConfig:
    """Return a configuration that another process can take, without what this one found out about its devices."""
    training = copy.copy(config.training)
    for name in OF_A_PROCESS:
        vars(training).pop(name, None)
    return replace(config, training=training)


def _train_beside(job: _Job, folds: list[FoldRows], places: list[str | None]) -> None:
    waiting, free = list(folds), list(places)
    share = 1 / max(map(places.count, places))
    running: list[tuple[Any, str, str | None]] = []
    failed: list[str] = []
    try:
        while waiting or running:
            started = []
            while waiting and free:
                fold, place = waiting.pop(0), free.pop(0)
                process, sender = _start(job.config.folder, fold.split.name, place, len(places))
                running.append((process, fold.split.name, place))
                started.append((sender, fold))
            for sender, fold in started:  # only now, so that all of them import at the same time
                _send(sender, replace(job, fold=fold, share=share))
            ended = connection.wait([process.sentinel for process, _, _ in running])
            for process, name, place in [each for each in running if each[0].sentinel in ended]:
                running.remove((process, name, place))
                process.join()
                free.append(place)
                if process.exitcode:
                    failed.append(_failure(job.config.folder, name, process.exitcode))
                    logger.error(failed[-1])
                else:
                    logger.info(_success(job.config.folder, name))
    finally:
        for process, _, _ in running:
            process.terminate()
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(folds)} folds failed: {'; '.join(failed)}; the others are kept: the same command "
            "with --resume_from_checkpoint last goes on with what is missing"
        )


def _start(run: Path, name: str, place: str | None, processes: int) -> tuple[Any, connection.Connection]:
    """Start a process that waits for its job."""
    log = run_folder.log_file(run, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(receiver, str(log)), name=name)
    with _environment(_settings(place, processes)):
        process.start()
    receiver.close()
    logger.info("%s: trains in process %d%s, log %s", name, process.pid, f" on GPU {place}" if place else "", log)
    return process, sender


def _settings(place: str | None, processes: int) -> dict[str, str]:
    """Return the environment of a process: the one GPU that it sees, and its share of the cores."""
    cores = max(1, (os.cpu_count() or 1) // processes)
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores))}
    return threads if place is None else threads | {VISIBLE: place}


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _send(sender: connection.Connection, job: _Job) -> None:
    try:
        sender.send(job)
    except BrokenPipeError:  # the process ended before it could read; its exit status and its log say why
        logger.debug("%s: ended before it got its rows", job.fold.split.name)
    sender.close()


def _work(receiver: connection.Connection, log: str) -> None:
    """Train one fold: what a process of its own runs."""
    with open(log, "w", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    console.quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with errors_in_one_line():
        job: _Job = receiver.recv()
        config = replace(job.config, training=replace(job.config.training))  # finds out about its own device
        if config.training.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(job.share)
        job.pool.training = config.training
        job.train(config, job.fold, job.encoder, job.pool)


def _end_with_parent() -> None:
    """End this process where the one that started it ends first, as when it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _failure(run: Path, name: str, status: int) -> str:
    log = run_folder.log_file(run, name)
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    ended = f"signal {-status}" if status < 0 else f"exit code {status}"
    return f"{name} ended with {ended} ({said}; log {log})"


def _success(run: Path, name: str) -> str:
    fold = run_folder.read_folds(run, [name])[0]
    return f"{name}: saved after {fold.steps} steps, {fold.seconds} seconds"
