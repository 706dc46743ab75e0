"""What a training takes from its own past against wrong labels: earlier answers per row, or a mean of its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback


class EarlyTargets:
    """A mean of the model's earlier probabilities for each row, which early-learning regularisation holds it to.

    A model learns what most labels say before it learns single wrong ones by heart (Liu et al., arXiv 2007.00151).

    Args:
        rows: of the training.
        momentum: share of the earlier mean in the next one, equation 9 there.
    """

    FILE = "early_targets.safetensors"

    def __init__(self, rows: int, momentum: float):
        self.targets, self.momentum = torch.zeros(rows, 2), momentum

    def update(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Mix what the model says now into the means of some rows.

        Args:
            rows: their places in the training, shape (n,), each once.
            logits: of the model for them, shape (n, 2).

        Returns:
            Their means, shape (n, 2). They sum to less than 1 while a row was seen few times.
        """
        places, now = rows.long().cpu(), logits.detach().float().softmax(-1).cpu()
        self.targets[places] = self.momentum * self.targets[places] + (1 - self.momentum) * now
        return self.targets[places].to(logits.device)

    def save(self, folder: Path) -> None:
        """Write the means into a checkpoint."""
        save_file({"targets": self.targets}, folder / self.FILE)

    def load(self, folder: Path) -> None:
        """Take the means of a checkpoint."""
        self.targets = load_file(folder / self.FILE)["targets"]


class MeanTeacher(TrainerCallback):
    """A teacher whose weights are a running mean of the trained ones (Tarvainen and Valpola, arXiv 1703.01780).

    While few steps are taken the mean is over all of them: its decay after step s is min(decay, (1 + s) / (10 + s)).

    Args:
        model: that is trained, as no launcher has wrapped it.
        decay: share of the earlier mean in the next one.
    """

    FILE = "mean_teacher.safetensors"

    def __init__(self, model, decay: float):
        self.decay = decay
        self.trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.means: dict[str, Tensor] = {}

    def on_train_begin(self, args, state, control, **options) -> None:
        """Start from the weights as they are, where no checkpoint gave any."""
        self.means = self.means or {name: value.detach().clone() for name, value in self.trained.items()}

    @torch.no_grad()
    def on_step_end(self, args, state, control, **options) -> None:
        """Mix the new weights into the means."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for name, mean in self.means.items():
            mean.lerp_(self.trained[name], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model compute with the means for a while; no gradient may be taken meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()
            torch.clear_autocast_cache()  # it may hold half-precision copies of the means

    def _swap(self) -> None:
        for name, mean in self.means.items():
            weight = self.trained[name]
            self.means[name], weight.data = weight.data, mean

    def save(self, folder: Path) -> None:
        """Write the means into a checkpoint."""
        save_file({name: mean.contiguous() for name, mean in self.means.items()}, folder / self.FILE)

    def load(self, folder: Path) -> None:
        """Take the means of a checkpoint."""
        kept = load_file(folder / self.FILE)
        self.means = {name: kept[name].to(weight.device) for name, weight in self.trained.items()}
