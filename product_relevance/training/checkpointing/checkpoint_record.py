"""Write beside each checkpoint of a fold its settings and the time that it took so far."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import ExportableState

from product_relevance.training.checkpointing.safe_trainer import STATE, SafeTrainer
from product_relevance.utils import run_settings

logger = logging.getLogger(__name__)


class ResumableTrainer(SafeTrainer):
    """Trainer that takes no step beyond the last one, also from a checkpoint that was saved after it."""

    def get_batch_samples(self, *args):
        """Return no batch where the training is over; the Trainer would find that out after one more step."""
        return ([], None) if self.control.should_training_stop else super().get_batch_samples(*args)


class CheckpointRecord(TrainerCallback, ExportableState):
    """Stands in the trainer_state.json of each checkpoint.

    Attributes:
        settings: of `shaping.settings`.
        changes: for each resume with `--resume_allow`, its step and the differences.
        before: totals of the checkpoint that the training goes on from.
    """

    def __init__(self, settings: dict):
        self.settings, self.changes, self.before = settings, [], {}
        self.fitter, self.counts, self.started = None, dict, time.monotonic()

    def attach(self, fitter, counts: Callable[[], dict] = dict) -> None:
        """Let a Trainer keep this record.

        Args:
            fitter: the Trainer of a fold.
            counts: gives numbers that add up over all processes and resumes, as pairs.
        """
        self.fitter, self.counts = fitter, counts
        fitter.add_callback(self)

    def go_on(self, checkpoint: str | None, allowed: list[str]) -> None:
        """Take over what a checkpoint says, if it fits.

        Args:
            checkpoint: folder that the training goes on from; None for the start.
            allowed: of `--resume_allow`.

        Raises:
            ValueError: the checkpoint was trained otherwise.
        """
        if checkpoint is None:
            return
        step, known = read(Path(checkpoint))
        if not known:
            logger.warning(
                "%s: an older checkpoint, which does not say what it was trained with, nor how long: give the same "
                "arguments as then",
                checkpoint,
            )
            return
        changed = run_settings.compare_settings(known["settings"], self.settings)
        run_settings.require_allowed(changed, allowed, checkpoint)
        self.changes, self.before = [*known["changes"]], known["totals"]
        if changed:
            logger.warning(
                "%s goes on with other settings: %s",
                checkpoint,
                run_settings.describe_differences(changed, ("before", "now")),
            )
            self.changes.append({"step": step, "settings": changed})

    def totals(self) -> dict[str, float]:
        """Return seconds, and what is counted, of the whole training so far, over all its resumes."""
        now = self.counts() | {"seconds": time.monotonic() - self.started}
        return {name: self.before.get(name, 0) + value for name, value in now.items()}

    def described(self) -> dict:
        """Return what fold.json keeps: what shaped the fold, its digest, and what changed on the way, if anything."""
        found = {"settings": self.settings, "settings_sha256": run_settings.hash_settings(self.settings)}
        return found | ({"changes": self.changes} if self.changes else {})

    def state(self) -> dict:
        """Return what a checkpoint keeps; the Trainer's form has constructor arguments and attributes."""
        return {
            "args": {},
            "attributes": {"settings": self.settings, "changes": self.changes, "totals": self.totals()},
        }

    def on_train_begin(self, args, state, control, **options):
        """Start the clock, and make room for records that the checkpoint lacks, where the Trainer fails to save."""
        self.started = time.monotonic()
        for callback in self.fitter.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())
        control.should_training_stop = state.global_step >= state.max_steps or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        early = [c for c in self.fitter.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        return any(c.early_stopping_patience_counter >= c.early_stopping_patience for c in early)


def read(checkpoint: Path, kind: type = CheckpointRecord) -> tuple[int, dict]:
    """Return the step of a checkpoint, and what a callback of a class left there; nothing where it was not in use.

    Raises:
        ValueError: no whole checkpoint there.
    """
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ValueError(f"{checkpoint}: no whole checkpoint there; expected one with a {STATE}") from None
    return state["global_step"], state.get("stateful_callbacks", {}).get(kind.__name__, {}).get("attributes", {})
