"""Run the layers below all adapters of an ensemble once per batch for all of its folds."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from product_relevance.models.adapters import layer_stack
from product_relevance.models.batching import pad_on
from product_relevance.models.heads.classifier import HEAD
from product_relevance.models.modeling import evaluation_mode
from product_relevance.models.predictor import ForwardLimits, score_in_batches, token_budget


def count_shared_layers(model) -> int:
    """Count the layers of a base that no adapter of a PeftModel changes, from the lowest one up.

    Returns:
        0 where nothing can be shared: no adapter, one on the lowest layer or outside the layers, or layers that read
        others' keys and values past the one below them (Gemma 3n).
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    changed = [name for name, module in model.named_modules() if isinstance(module, kinds) and not HEAD.search(name)]
    found = layer_stack(model)
    if not changed or found is None or getattr(model.config, "num_kv_shared_layers", None):
        return 0
    stack = found[0] + "."
    if not all(name.startswith(stack) for name in changed):
        return 0
    return min(int(name.removeprefix(stack).split(".")[0]) for name in changed)


@dataclass(frozen=True)
class SharedLayers:
    """The folds of one model above the layers that they share.

    Attributes:
        model: PeftModel that holds all folds.
        folds: K names of adapters.
        select: makes the adapter of a name the active one.
        count: number of lowest layers that all folds share, at least 1; from `count_shared_layers`.
    """

    model: PeftModel
    folds: Sequence[str]
    select: Callable[[str], None]
    count: int

    def predict_logits(
        self, ids: list[list[int]], pad_id: int, *, max_tokens: int | None = None, progress: str | None = None
    ) -> np.ndarray:
        """Score tokenised pairs with every fold, the shared layers once: the operations and scores of each fold alone.

        Args:
            ids: n lists of token ids.
            pad_id: pad token.
            max_tokens: padded tokens per forward; by device and its free memory when None; halved if memory runs out.
            progress: description of a progress bar; none when None.

        Returns:
            float32 array of shape (n, folds, labels), in the order of `ids`.

        Raises:
            ValueError: a logit is not finite.
        """
        device = next(self.model.parameters()).device
        limits = ForwardLimits(device.type, max_tokens or token_budget(self.model, device), progress)
        shape = (len(self.folds), self.model.config.num_labels)
        with evaluation_mode(self.model):
            return score_in_batches(partial(self._forward, device, pad_id), ids, shape, limits)

    def _forward(self, device: torch.device, pad_id: int, rows: list[list[int]]) -> torch.Tensor:
        stack = layer_stack(self.model)
        assert stack is not None  # there were layers to count
        lower = list(stack[1])[: self.count]
        batch = pad_on(device, rows, pad_id)
        found: list[torch.Tensor] = []
        states: list[Any] = []
        for name in self.folds:
            self.select(name)
            with _replaying(lower, states[0]) if states else _recording(lower[-1], states):
                found.append(self.model(**batch).logits.float())
        return torch.stack(found, dim=1)


@contextmanager
def _recording(layer, states: list):
    """Put what a layer gives into `states`."""
    hook = layer.register_forward_hook(lambda _module, _inputs, output: states.append(output))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _replaying(layers, output):
    """Let each of some layers give what the last of them gave; whatever passes between them is then of no account."""
    try:
        for layer in layers:
            layer.forward = lambda *_, **__: output
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
