"""Continue a fold from its last whole checkpoint, if that was trained with the same settings."""

import logging
from collections.abc import Callable
from pathlib import Path

from transformers import EarlyStoppingCallback

from product_relevance.training import distributed
from product_relevance.training.checkpointing import safe_trainer
from product_relevance.training.checkpointing.checkpoint_record import CheckpointRecord, read
from product_relevance.utils import run_folder, run_settings

logger = logging.getLogger(__name__)


def check(training, allowed: list[str], shared: dict, names: list[str]) -> None:
    """Refuse, before anything is trained, to go on from a checkpoint that was trained otherwise.

    Args:
        training: TrainingArguments of the run.
        allowed: of `--resume_allow`.
        shared: as in `shaping.settings`.
        names: of the folds to train.

    Raises:
        ValueError: it says in what, with both values, and the way out.
    """
    run_settings.check_setting_names(allowed)
    for name in names:
        if checkpoint := find_checkpoint(training, run_folder.work_folder(training.output_dir, name)):
            known = read(Path(checkpoint))[1].get("settings", {})
            changed = run_settings.compare_settings(known, run_settings.list_settings(shared, name))
            run_settings.require_allowed(changed, allowed, checkpoint)


def start(fitter, settings: dict, training, allowed: list[str], counts: Callable[[], dict] = dict):
    """Find the checkpoint that a fold goes on from, and keep a record of what it is trained with.

    Args:
        fitter: the Trainer of the fold; its `output_dir` is that of its checkpoints.
        settings: of `shaping.settings`, with the base's weights.
        training: TrainingArguments of the run.
        allowed: of `--resume_allow`.
        counts: see `CheckpointRecord.attach`.

    Returns:
        (checkpoint or None, CheckpointRecord)

    Raises:
        ValueError: the checkpoint was trained otherwise.
    """
    folder, record = Path(fitter.args.output_dir), CheckpointRecord(settings)
    checkpoint = distributed.first_decides(lambda: find_checkpoint(training, folder))
    record.go_on(checkpoint, allowed)
    record.attach(fitter, counts)
    if checkpoint:
        safe_trainer.warn_of_other_processes(Path(checkpoint), training.world_size)
        _keep_patience(fitter, Path(checkpoint))
    if training.resume_from_checkpoint:
        logger.info("resuming from %s", checkpoint or "the start: no whole checkpoint yet")
    return checkpoint, record


def _keep_patience(fitter, checkpoint: Path) -> None:
    """Let early stopping count on: the Trainer would start its patience anew, and a resumed run would stop later."""
    for callback in fitter.callback_handler.callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            known = read(checkpoint, EarlyStoppingCallback)[1]
            callback.early_stopping_patience_counter = known.get("early_stopping_patience_counter", 0)


def find_checkpoint(training, folder: Path) -> str | None:
    """Return the checkpoint of a fold that `--resume_from_checkpoint` asks for; None to start anew.

    Raises:
        ValueError: one of another fold, or one that was not written to its end.
    """
    wanted = training.resume_from_checkpoint
    if not wanted:
        return None
    if wanted in (True, "true", "True", "last"):
        found = safe_trainer.last_whole_checkpoint(folder)
        return found and str(found)
    if folder.resolve() not in Path(wanted).resolve().parents:
        raise ValueError(f"{wanted} is no checkpoint of {folder.name}: use --resume_from_checkpoint last")
    if missing := safe_trainer.what_is_missing(Path(wanted)):
        raise ValueError(f"{wanted} is not whole ({missing}): use --resume_from_checkpoint last")
    return str(wanted)
