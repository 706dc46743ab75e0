"""The folds of a run of `--adapter kernel`: each pair is encoded once, and each fold scores the same vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from product_relevance.ensemble.fold_models import WEIGHTS, FoldModels
from product_relevance.evaluation.probabilities import to_distribution
from product_relevance.models.heads.kernel import Kernel
from product_relevance.models.heads.sides import encode_sides

LEFT_OUT = "left_out.parquet"  # id and score of each pair that a fold remembers, by the labels of the other queries


class KernelFolds(FoldModels):
    """The kernels of a run on one base, which stays as it is.

    Attributes:
        kernels: of each fold, on the device of the base.
    """

    def __init__(self, model, folds: dict[str, Path]) -> None:
        super().__init__(model, folds, whole=True)
        width = model.config.hidden_size
        self.kernels = {name: Kernel.load(path / WEIGHTS, width).to(self.device) for name, path in folds.items()}

    def predict_shares(self, ids: list[list[int]], pad_id: int, progress: bool = False) -> np.ndarray:
        """Return the probability of each label by each fold, shape (n, folds, 2), as `FoldModels` does."""
        sides = encode_sides(self.model, ids, pad_id, "both sides" if progress else None)
        shares = [to_distribution(self.kernels[name].predict_logits(sides)) for name in self.folds]
        return np.stack(shares, axis=1)

    def merge_weights(self, home: Path) -> NoReturn:
        """Raise ValueError: kernels on other pairs have no mean."""
        self._refuse("merge weights")

    def pack_rows(self) -> NoReturn:
        """Raise ValueError: each side is a row of its own."""
        self._refuse("attention packed")

    def quantize_to_float8(self) -> NoReturn:
        """Raise ValueError: the vectors would be others than those that the kernel remembers."""
        self._refuse("dtype fp8")

    def _refuse(self, what: str) -> NoReturn:
        kernel = next(iter(self.folds.values()))
        raise ValueError(f"{what}: found the kernel {kernel}, expected folds with weights of their own: leave it out")


def forget_own_labels(scores: np.ndarray, ids: pd.Series, folders: Sequence[Path]) -> np.ndarray:
    """Replace what kernels say of pairs whose labels they remember by what the labels of other queries say.

    Args:
        scores: probabilities of n pairs by each fold, shape (n, folds).
        ids: of the pairs.
        folders: of the folds; one without `LEFT_OUT`, as of any other run, keeps its scores.

    Returns:
        Shape (n, folds).
    """
    found = scores.copy()
    for column, folder in enumerate(folders):
        if (folder / LEFT_OUT).is_file():
            known = pd.read_parquet(folder / LEFT_OUT).set_index("id")["score"]
            left_out = ids.astype(str).map(known).to_numpy(float)
            found[:, column] = np.where(np.isnan(left_out), scores[:, column], left_out)
    return found
