"""Continue a fold from its last whole checkpoint, if that was trained with the same settings."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainingArguments

from product_relevance.training import distributed
from product_relevance.training.checkpointing import safe_trainer
from product_relevance.training.checkpointing.checkpoint_record import (
    CheckpointRecord,
    ResumableTrainer,
    read_checkpoint,
)
from product_relevance.training.run_config import DescribedConfig
from product_relevance.utils import run_folder, run_settings

logger = logging.getLogger(__name__)


def check_checkpoints(config: DescribedConfig, names: list[str]) -> None:
    """Check, before anything is trained, that the folds go on as their checkpoints were trained.

    Args:
        config: of the run.
        names: of the folds to train.

    Raises:
        ValueError: a checkpoint was trained otherwise; it says in what, with both values, and the way out.
    """
    run_settings.check_setting_names(config.data.resume_allow)
    for name in names:
        if checkpoint := find_checkpoint(config.training, run_folder.work_folder(config.folder, name)):
            known = read_checkpoint(Path(checkpoint)).settings or {}
            changed = run_settings.compare_settings(known, run_settings.list_settings(config.record, name))
            run_settings.require_allowed(changed, config.data.resume_allow, checkpoint)


def prepare_resume(
    fitter: ResumableTrainer, config: DescribedConfig, settings: Mapping[str, Any]
) -> tuple[str | None, CheckpointRecord]:
    """Find the checkpoint that a fold goes on from, and keep a record of what it is trained with.

    Args:
        fitter: the Trainer of the fold; its `output_dir` is that of its checkpoints.
        config: of the run.
        settings: of `run_settings.list_settings`, with the base's weights.

    Returns:
        The checkpoint, None for the start, and the record.

    Raises:
        ValueError: the checkpoint was trained otherwise.
    """
    folder, record = Path(str(fitter.args.output_dir)), CheckpointRecord(settings, fitter)
    checkpoint = distributed.decide_on_first(lambda: find_checkpoint(config.training, folder))
    if checkpoint:
        record.go_on(checkpoint, config.data.resume_allow)
        safe_trainer.warn_of_other_processes(Path(checkpoint), config.training.world_size)
        _keep_patience(fitter, Path(checkpoint))
    if config.training.resume_from_checkpoint:
        logger.info("resuming from %s", checkpoint or "the start: no whole checkpoint yet")
    return checkpoint, record


def _keep_patience(fitter: ResumableTrainer, checkpoint: Path) -> None:
    """Let early stopping count on: the Trainer would start its patience anew, and a resumed run would stop later."""
    for callback in fitter.callback_handler.callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            known = read_checkpoint(checkpoint).attributes(EarlyStoppingCallback)
            callback.early_stopping_patience_counter = known.get("early_stopping_patience_counter", 0)


def find_checkpoint(training: TrainingArguments, folder: Path) -> str | None:
    """Return the checkpoint of a fold that `--resume_from_checkpoint` asks for; None to start anew.

    Raises:
        ValueError: one of another fold, or one that was not written to its end.
    """
    wanted = training.resume_from_checkpoint
    if not wanted:
        return None
    if wanted in (True, "true", "True", "last"):
        found = safe_trainer.last_whole_checkpoint(folder)
        return None if found is None else str(found)
    if folder.resolve() not in Path(wanted).resolve().parents:
        raise ValueError(f"{wanted} is no checkpoint of {folder.name}: use --resume_from_checkpoint last")
    if missing := safe_trainer.what_is_missing(Path(wanted)):
        raise ValueError(f"{wanted} is not whole ({missing}): use --resume_from_checkpoint last")
    return str(wanted)
