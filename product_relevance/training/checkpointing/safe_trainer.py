"""A Trainer that stops before a step or a checkpoint that is not finite, and marks whole checkpoints."""

import json
import logging
import math
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback

from product_relevance.training import distributed
from product_relevance.utils.run_folder import write_json

logger = logging.getLogger(__name__)
STATE = "trainer_state.json"
MARKER = "complete.json"  # written last, when every process has written its own files


class SafeTrainer(Trainer):
    """Trainer whose checkpoints hold finite weights only and are whole, or are passed over."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.losses: list[torch.Tensor] = []  # of the step, which are looked at together: to read one waits for a GPU
        self.add_callback(FiniteGradients(self))

    def training_step(self, *args, **options):
        """Run a forward and a backward pass, and keep the loss for `require_finite_losses`."""
        loss = super().training_step(*args, **options)
        self.losses.append(loss.detach())
        return loss

    def require_finite_losses(self) -> None:
        """Check the losses since the last step, before the next one is taken.

        Raises:
            FloatingPointError: a loss is NaN or infinite; names the step and the learning rate.
        """
        losses, self.losses = self.losses, []
        if losses and not math.isfinite(total := torch.stack(losses).sum().item()):
            raise FloatingPointError(
                f"loss is {total} at step {self.state.global_step + 1} (learning rate "
                f"{self._get_learning_rate():.2e}): lower --learning_rate or --max_grad_norm, or train in float32; "
                "the last checkpoint is kept"
            )

    def _save_checkpoint(self, *args, **options):
        require_finite_weights(self.model, self.state.global_step)
        marker = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / MARKER
        if self.args.should_save:
            marker.unlink(missing_ok=True)  # of a start before this one; it is written anew from here
        distributed.wait_for_all()
        super()._save_checkpoint(*args, **options)
        distributed.wait_for_all()
        if self.args.should_save:
            write_json(marker, {"processes": self.args.world_size, "files": _sizes(marker.parent)})


class FiniteGradients(TrainerCallback):
    """Stops a training at the first loss or gradient that is not finite, before it is applied.

    A finite loss may have such a gradient.

    Under fp16 the scaler leaves such a step out by itself. DeepSpeed applies its steps itself, so there the training
    stops after it, and before a checkpoint.
    """

    def __init__(self, fitter: SafeTrainer):
        self.fitter = fitter

    def on_pre_optimizer_step(self, args, state, control, **options):
        """Look at the losses, and at the norm of the gradients, which is not finite where one of them is not."""
        self.fitter.require_finite_losses()
        if args.fp16:
            return
        if not math.isfinite(norm := self._norm()):
            raise FloatingPointError(
                f"the gradient norm is {norm} at step {state.global_step + 1}, the loss is finite: lower "
                "--learning_rate, or train in float32 (--bf16 false); the last checkpoint is kept"
            )

    def _norm(self) -> float:
        engine = self.fitter.model_wrapped
        if norm := getattr(engine, "get_global_grad_norm", None):  # DeepSpeed's
            return float(norm() or 0.0)
        found = [p.grad for p in engine.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(found).item() if found else 0.0


def require_finite_weights(model, step: int) -> None:
    """Raise FloatingPointError if weights are not finite, as a step too large leaves them.

    Raises:
        FloatingPointError: names the step and a weight.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad and not torch.isfinite(getattr(weight, "ds_tensor", weight)).all():
            raise FloatingPointError(
                f"{name} is not finite after step {step}: lower --learning_rate or --max_grad_norm; no checkpoint is "
                "written, and the last one is kept"
            )


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of a checkpoint's files, but for the Trainer's state, which is read as a whole."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (STATE, MARKER)]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)}


def what_is_missing(checkpoint: Path) -> str | None:
    """Say what a checkpoint lacks to go on from; None where it is whole."""
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"]
    except (OSError, ValueError, KeyError):
        return f"{STATE} is missing or incomplete"
    try:
        known = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return f"no {MARKER}, which is written when every process has written its files"
    found = _sizes(checkpoint)
    return next((f"{name} is missing or incomplete" for name, size in known.items() if found.get(name) != size), None)


def warn_of_other_processes(checkpoint: Path, processes: int) -> None:
    """Say in the log that a training cannot go on exactly, since each process has random numbers of its own."""
    before = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))["processes"]
    if before != processes:
        logger.warning(
            "%s: trained on %d processes, goes on on %d: dropout draws other numbers, so the result is not that of an "
            "uninterrupted run",
            *(checkpoint, before, processes),
        )


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a fold; one that was not written to its end is passed over."""
    step = lambda path: int(path.name.rpartition("-")[2])  # noqa: E731
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for checkpoint in sorted(found, key=step, reverse=True):
        missing = what_is_missing(checkpoint)
        if missing is None:
            return checkpoint
        logger.warning("%s is not whole (%s): passed over", checkpoint, missing)
    return None
