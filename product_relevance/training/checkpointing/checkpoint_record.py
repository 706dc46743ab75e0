"""Write beside each checkpoint of a fold its settings and the time that it took so far."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from product_relevance.training.checkpointing.safe_trainer import STATE, SafeTrainer
from product_relevance.utils import run_settings

logger = logging.getLogger(__name__)


class ResumableTrainer(SafeTrainer):
    """Trainer that takes no step beyond the last one, also from a checkpoint that was saved after it."""

    def counts(self) -> dict[str, int]:
        """Return numbers of this training that add up over all processes and resumes; none here."""
        return {}

    def get_batch_samples(self, *args: Any) -> tuple[list[Any], Any]:
        """Return no batch where the training is over; the Trainer would find that out after one more step."""
        return ([], None) if self.control.should_training_stop else super().get_batch_samples(*args)


@dataclass(frozen=True)
class Checkpoint:
    """What a whole checkpoint says of its training.

    Attributes:
        step: after which it was saved.
        callbacks: attributes that each callback left there, by the name of its class.
    """

    step: int
    callbacks: Mapping[str, Mapping[str, Any]]

    def attributes(self, kind: type) -> Mapping[str, Any]:
        """Return what a callback of a class left there; nothing where it was not in use."""
        return self.callbacks.get(kind.__name__, {}).get("attributes", {})

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """What shaped its weights; None of a checkpoint of an older version."""
        return self.attributes(CheckpointRecord).get("settings")


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read what a checkpoint says of its training.

    Raises:
        ValueError: no whole checkpoint there.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ValueError(f"{folder}: no whole checkpoint there; expected one with a {STATE}") from None
    return Checkpoint(state["global_step"], state.get("stateful_callbacks", {}))


class CheckpointRecord(TrainerCallback, ExportableState):
    """Stands in the trainer_state.json of each checkpoint.

    Args:
        settings: of `run_settings.list_settings`.
        fitter: the Trainer of a fold, which keeps this record from now on.

    Attributes:
        changes: for each resume with `--resume_allow`, its step and the differences.
        before: totals of the checkpoint that the training goes on from.
    """

    def __init__(self, settings: Mapping[str, Any], fitter: ResumableTrainer):
        self.settings, self.fitter, self.started = settings, fitter, time.monotonic()
        self.changes: list[dict[str, Any]] = []
        self.before: Mapping[str, float] = {}
        fitter.add_callback(self)

    def go_on(self, checkpoint: str, allowed: list[str]) -> None:
        """Take over what a checkpoint says, if it fits.

        Args:
            checkpoint: folder that the training goes on from.
            allowed: of `--resume_allow`.

        Raises:
            ValueError: the checkpoint was trained otherwise.
        """
        found = read_checkpoint(Path(checkpoint))
        if found.settings is None:
            logger.warning(
                "%s: an older checkpoint, which does not say what it was trained with, nor how long: give the same "
                "arguments as then",
                checkpoint,
            )
            return
        changed = run_settings.compare_settings(found.settings, self.settings)
        run_settings.require_allowed(changed, allowed, checkpoint)
        known = found.attributes(CheckpointRecord)
        self.changes, self.before = [*known["changes"]], known["totals"]
        if changed:
            logger.warning(
                "%s goes on with other settings: %s",
                checkpoint,
                run_settings.describe_differences(changed, ("before", "now")),
            )
            self.changes.append({"step": found.step, "settings": changed})

    def totals(self) -> dict[str, float]:
        """Return seconds, and what is counted, of the whole training so far, over all its resumes."""
        now = self.fitter.counts() | {"seconds": time.monotonic() - self.started}
        return {name: self.before.get(name, 0) + value for name, value in now.items()}

    def describe(self) -> dict[str, Any]:
        """Return what fold.json keeps: what shaped the fold, its digest, and what changed on the way, if anything."""
        digest = run_settings.hash_settings(self.settings)
        return {"settings": self.settings, "settings_sha256": digest, "changes": self.changes or None}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; the Trainer's form has constructor arguments and attributes."""
        return {
            "args": {},
            "attributes": {"settings": self.settings, "changes": self.changes, "totals": self.totals()},
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Start the clock, and make room for records that the checkpoint lacks, where the Trainer fails to save."""
        self.started = time.monotonic()
        kept = cast(dict[str, Any], state.stateful_callbacks)  # a list only before the Trainer exists
        for callback in self.fitter.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                kept.setdefault(type(callback).__name__, callback.state())
        control.should_training_stop = state.global_step >= state.max_steps or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        early = [c for c in self.fitter.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        return any(c.early_stopping_patience_counter >= c.early_stopping_patience for c in early)
