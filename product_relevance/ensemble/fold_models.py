"""One base in memory with the folds of a run: one after the other is merged into it, switched on, or loaded whole."""

import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from product_relevance.ensemble import shared_layers, weight_averaging
from product_relevance.evaluation.probabilities import to_distribution
from product_relevance.models import adapters, memory
from product_relevance.models.adapter_fit import load_whole
from product_relevance.models.heads.classifier import base_dtype
from product_relevance.models.loading.float8 import has_float8, quantize_to_float8
from product_relevance.models.loading.quantization import is_quantized
from product_relevance.models.packed_rows import require_packing
from product_relevance.models.predictor import predict_logits, predict_packed

WEIGHTS = "model.safetensors"
# So many tokens pay for merging an adapter.
MERGE_FROM = 4096


def _tokens_that_pay(model) -> float:
    """Return how many tokens pay for merging an adapter.

    A merge into 16 bits rounds the weights once more. On a CPU it saves a tenth of the time, too little for that.
    """
    if model is None:  # an engine scores in its place
        return MERGE_FROM
    rounds = base_dtype(model) != torch.float32
    return float("inf") if rounds and next(model.parameters()).device.type == "cpu" else MERGE_FROM


class FoldModels:
    """The fold models of a run on one base.

    Attributes:
        model: base with the fold that was selected last.
        folds: folder of each fold; of merged weights the one folder of all.
        whole: whether each fold is a whole model, not an adapter.
        shared_layers: lowest layers that all folds share.
        reasoning_tokens: that a language model writes before it answers.
        packed: score rows side by side, without padding.
        merge_from: so many tokens or more are scored with each adapter merged into the base, fewer beside it.
    """

    def __init__(self, model, folds: dict[str, Path], whole: bool) -> None:
        self.model, self.folds, self.whole = model, folds, whole
        self.shared_layers = self.reasoning_tokens = 0
        self.merge_from, self.packed = _tokens_that_pay(model), False
        self._selected: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> str:
        """Of the base's weights, as float32, nf4 or fp8."""
        if has_float8(self.model):
            return "fp8"
        return "nf4" if is_quantized(self.model) else str(base_dtype(self.model)).removeprefix("torch.")

    def load_adapters(self) -> None:
        """Put all adapters on the base; one alone is merged into it."""
        for name, path in self.folds.items():
            self.model = adapters.load_adapter(self.model, str(path), name)
        self.model.to(self.device).eval()
        if len(self.folds) == 1:
            self.select(next(iter(self.folds)))
            adapters.merge_in_place(self.model)
        else:
            adapters.score_in_dtype_of_base(self.model)
        self.shared_layers = shared_layers.count_shared_layers(self.model)

    def pack_rows(self) -> None:
        """Score rows side by side from now on, without padding.

        Raises:
            ValueError: a base that cannot, or folds that share their lowest layers.
        """
        require_packing(self.model)
        if self.shared_layers and len(self.folds) > 1:
            raise ValueError("attention packed: the folds of this run share their lowest layers; take padded")
        self.packed = True

    def merge_weights(self, home: Path) -> None:
        """Put the mean of the folds' weights in place of the folds.

        Args:
            home: folder of the ensemble.

        Raises:
            ValueError: from `weight_averaging.mean_adapter` and `weight_averaging.mean_state`.
        """
        folders = list(self.folds.values())
        if self.whole:
            self.model.load_state_dict(weight_averaging.mean_state([path / WEIGHTS for path in folders]))
        else:
            with tempfile.TemporaryDirectory() as folder:
                weight_averaging.mean_adapter(folders, Path(folder))
                self._put_on(folder, "weights")
            adapters.merge_in_place(self.model)
        self.folds, self._selected = {"weights": home}, "weights"

    def quantize_to_float8(self) -> int:
        """Compute the base's products in FP8 from now on, below the adapters; one fold alone is merged before.

        Returns:
            Number of layers that do.

        Raises:
            ValueError: several whole models, which would be read again in turn, or DoRA, whose norms need the weights.
        """
        if self.whole and len(self.folds) > 1:
            raise ValueError(
                "dtype fp8: the folds of this run are whole models; merge their weights, or take bfloat16"
            )
        if len(self.folds) > 1 and any(config.use_dora for config in self.model.peft_config.values()):
            raise ValueError("dtype fp8: DoRA reads the weights that FP8 rounds; take bfloat16, or one fold")
        self.merge_from = float("inf")  # a sum with weights in FP8 would round them once more
        return quantize_to_float8(self.model)

    def select(self, name: str) -> None:
        """Let `model` be the one of this fold."""
        if name == self._selected:
            return
        if self.whole:
            load_whole(self.model, self.folds[name] / WEIGHTS)
        elif name in getattr(self.model, "peft_config", {}):
            self.model.set_adapter(name)
        else:
            self._put_on(str(self.folds[name]), name)
            adapters.score_in_dtype_of_base(self.model)
        self._selected = name

    def _put_on(self, folder: str, name: str) -> None:
        """Put an adapter on in place of the one before, so that there is never more than one in memory."""
        base = adapters.remove_adapter(self.model) if self._selected is not None else self.model
        self.model = adapters.load_adapter(base, folder, name).to(self.device).eval()

    def predict_shares(self, ids: list[list[int]], pad_id: int, progress: bool = False) -> np.ndarray:
        """Return the probability of each label by each fold model: all rows by one fold, then by the next.

        Args:
            ids: tokens of n pairs.
            pad_id: token that fills a batch.
            progress: show a progress bar.

        Returns:
            Array of shape (n, folds, K).
        """
        names, columns = list(self.folds), []
        if self.shared_layers and len(names) > 1 and not self.reasoning_tokens:
            # the layers below all adapters run once: the same scores, sooner
            shared = shared_layers.SharedLayers(self.model, names, self.select, self.shared_layers)
            logits = shared.predict_logits(ids, pad_id, progress=f"{len(names)} folds" if progress else None)
            return to_distribution(logits.reshape(-1, logits.shape[-1])).reshape(logits.shape)
        for name in names:
            self.select(name)
            with self._merged(sum(map(len, ids))):
                rows = self.model.reason(ids, pad_id, self.reasoning_tokens) if self.reasoning_tokens else ids
                predict = predict_packed if self.packed else predict_logits
                logits = predict(self.model, rows, pad_id, progress=name if progress else None)
            columns.append(to_distribution(logits))
        return np.stack(columns, axis=1)

    def _merged(self, tokens: int) -> AbstractContextManager:
        """Merge the selected adapter for a block, where so many tokens pay for it and memory has room."""
        if tokens < self.merge_from or 2 * adapters.merged_size(self.model) > memory.free_memory(self.device):
            return nullcontext()
        return adapters.merged(self.model)
