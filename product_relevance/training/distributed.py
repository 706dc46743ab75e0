"""Prepare the processes of a training as the launchers and DeepSpeed need it."""

import gc
import logging
import zlib
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import numpy as np
import torch

logger = logging.getLogger(__name__)


def prepare_processes(training, folds_parallel: int = 1) -> None:
    """Make one process train on one device, and DeepSpeed know the process group before the base is loaded.

    With several GPUs and no launcher the Trainer would take DataParallel, whose loss is theirs times ours.

    Args:
        training: TrainingArguments.
        folds_parallel: of `--folds_parallel`.
    """
    if training.n_gpu > 1:
        if folds_parallel == 1:
            logger.warning(
                "%d GPUs, of which one trains: give --folds_parallel 0 to train a fold on each of them, or start with "
                "torchrun --nproc_per_node %d to train each fold on all of them",
                *(training.n_gpu, training.n_gpu),
            )
        training._n_gpu = 1
    if training.deepspeed and training.use_cpu:
        import deepspeed

        deepspeed.init_distributed(dist_backend="gloo")


def split_batch(training, pairs: int | None) -> str:
    """Derive the gradient accumulation from `--global_batch_size`, on the processes that there are.

    Args:
        training: TrainingArguments, after `prepare_processes`; its accumulation is set.
        pairs: of a step; None leaves the accumulation as it was given.

    Returns:
        A line that says how many pairs a step has.

    Raises:
        ValueError: the pairs cannot be split so.
    """
    per_device, processes = training.train_batch_size, training.world_size
    if pairs is not None:
        training.gradient_accumulation_steps = count_accumulation(pairs, per_device, processes)
    times = training.gradient_accumulation_steps
    count = f"{processes} process{'es' * (processes > 1)}"
    return f"{step_pairs(training)} pairs per step: {count} x {per_device} pairs at a time x {times} accumulated"


def count_accumulation(pairs: int, per_device: int, processes: int) -> int:
    """Return how many batches of a device make its share of a step of `--global_batch_size` pairs.

    Args:
        pairs: of a step, over all processes.
        per_device: `--per_device_train_batch_size`.
        processes: that train.

    Raises:
        ValueError: the pairs are no multiple of what all processes take at a time.
    """
    times, rest = divmod(pairs, per_device * processes)
    if rest == 0 and times:
        return times
    share, rest = divmod(pairs, processes)
    fitting = next((n for n in range(min(per_device, share), 0, -1) if share % n == 0), 0) if rest == 0 else 0
    way_out = f"--per_device_train_batch_size {fitting}" if fitting else "another number of processes"
    raise ValueError(
        f"--global_batch_size {pairs}: found --per_device_train_batch_size {per_device} on {processes} processes, "
        f"which is {per_device * processes} pairs at a time; expected a multiple of that: give {way_out}, or another "
        "--global_batch_size"
    )


def step_pairs(training) -> int:
    """Return the pairs of one optimiser step, over all processes."""
    return training.train_batch_size * training.gradient_accumulation_steps * training.world_size


def zero_stage(training) -> int:
    """Return the ZeRO stage of the DeepSpeed configuration, 0 without one."""
    config = getattr(training, "hf_deepspeed_config", None)
    return 0 if config is None else int(config.get_value("zero_optimization.stage", 0))


@contextmanager
def whole_weights(training):
    """Load models whole for a block, which transformers would spread over the processes under ZeRO-3."""
    if zero_stage(training) != 3:
        yield
        return
    from transformers.integrations import deepspeed

    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed.set_hf_deepspeed_config(training.hf_deepspeed_config)


def name_engine(model) -> str:
    """Name what really trained the model: `DeepSpeedEngine zero3`, `DistributedDataParallel` or a model class."""
    name = type(model).__name__
    return f"{name} zero{model.zero_optimization_stage()}" if hasattr(model, "zero_optimization_stage") else name


def decide_on_first(decide: Callable):
    """Let the first process decide and say the others what: what they see of a file system may differ.

    Args:
        decide: called on the first process alone; gives something that can be pickled.

    Returns:
        What it gave, on every process.

    Raises:
        ValueError: raised by `decide`; the other processes end without a word.
    """
    if not _several():
        return decide()
    found, error = [None, False], None
    if is_first():
        try:
            found = [decide(), True]
        except ValueError as raised:
            error = raised
    torch.distributed.broadcast_object_list(found, src=0)
    if error is not None:
        raise error
    if not found[1]:
        raise SystemExit(1)
    return found[0]


def gather_values(value) -> list:
    """Return what each process gives, in their order, on every process."""
    if not _several():
        return [value]
    found = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    return found


def share_computation(keys: Sequence, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Let each process compute its share of some rows, and give the whole to all of them.

    Args:
        keys: of n rows, at least one; all rows of a key go to one process, keys evenly by a hash.
        compute: from the indices of some rows to an array with a line for each; not called for none.

    Returns:
        The array of all n rows, in their order.
    """
    if not _several():
        return compute(np.arange(len(keys)))
    count = torch.distributed.get_world_size()
    owners = np.array([zlib.crc32(str(key).encode()) % count for key in keys])
    mine = np.flatnonzero(owners == torch.distributed.get_rank())
    parts = [part for part in gather_values((mine, compute(mine)) if len(mine) else None) if part is not None]
    whole = np.concatenate([values for _, values in parts])
    return whole[np.argsort(np.concatenate([rows for rows, _ in parts]), kind="stable")]


def is_first() -> bool:
    """Return whether this is the first process, or the only one."""
    return not _several() or torch.distributed.get_rank() == 0


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def wait_for_all() -> None:
    """Let every process reach this point."""
    if _several():
        torch.distributed.barrier()


def end_processes() -> None:
    """Take the process group down, so that launchers end without a warning.

    What still holds the group, as DDP's wrapper does, goes too: Gloo's threads abort a process in which they outlive
    Python (pytorch/pytorch#179291).
    """
    if _several():
        wait_for_all()
        torch.distributed.destroy_process_group()
        gc.collect()
