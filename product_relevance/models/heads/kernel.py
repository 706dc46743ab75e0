"""Kernel ridge regression on the vectors of query and target: a model that remembers its labelled pairs.

Two pairs are alike where their queries are alike and their targets are: k = exp(s (cos of the queries - 1)) times
exp(s (cos of the targets - 1)), a Gaussian kernel on the unit sphere. The regression has a closed solution
(Saunders et al. 1998, "Ridge Regression Learning Algorithm in Dual Variables"), and so have its scores of each query
without that query's own labels, by which they become probabilities.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch.nn.functional import normalize

from product_relevance.evaluation.blending import fit_blend
from product_relevance.models.loading.safetensors_files import load_weights

CHUNK = 1024  # pairs scored at once
FLATTEST = 0.1  # slope of the logits: so the order of pairs stays where nothing was learned


@dataclass(frozen=True)
class KernelOptions:
    """How a kernel is fitted.

    Attributes:
        scale: how fast likeness falls with the angle between two vectors.
        ridge: of the regression: larger is smoother.
        rows: labelled pairs that it remembers at most.
        seed: of their choice, where there are more.
    """

    scale: float = 2.0
    ridge: float = 0.1
    rows: int = 16_000
    seed: int = 42


@dataclass(frozen=True)
class Kernel:
    """A fitted regression.

    Attributes:
        centre: mean vector of the queries and of the targets, float32 (2, width).
        support: unit vectors of the remembered pairs, float32 (m, 2, width).
        weights: of each of them, float32 (m,).
        numbers: scale, mean of the labels, and slope and intercept of the logits, float64 (4,).
    """

    centre: torch.Tensor
    support: torch.Tensor
    weights: torch.Tensor
    numbers: torch.Tensor

    def predict_logits(self, sides: np.ndarray) -> np.ndarray:
        """Return logits of both labels, float64 (n, 2), of vectors of shape (n, 2, width)."""
        scale, mean, slope, intercept = self.numbers.tolist()
        found = []
        for start in range(0, len(sides), CHUNK):
            part = torch.from_numpy(sides[start : start + CHUNK]).to(self.support.device)
            likeness = _likeness(normalize(part - self.centre, dim=-1), self.support, scale)
            found.append((likeness @ self.weights).double().cpu().numpy())
        relevant = slope * (mean + np.concatenate([np.zeros(0), *found])) + intercept
        return np.column_stack([np.zeros(len(relevant)), relevant])

    def to(self, device: torch.device) -> "Kernel":
        """Return it on a device."""
        support, weights = self.support.to(device), self.weights.to(device)
        return Kernel(self.centre.to(device), support, weights, self.numbers)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        from safetensors.torch import save_file

        save_file({name: value.cpu().contiguous() for name, value in vars(self).items()}, path)

    @classmethod
    def load(cls, path: Path, width: int) -> "Kernel":
        """Read a file that `save` wrote.

        Args:
            path: of the file.
            width: of the base's vectors.

        Raises:
            ValueError: a broken file, or other tensors than those of a kernel on this base.
        """
        found = load_weights(path)
        shapes = {name: tuple(value.shape) for name, value in sorted(found.items())}
        m = len(found["weights"]) if "weights" in found else 0
        expected = {"centre": (2, width), "numbers": (4,), "support": (m, 2, width), "weights": (m,)}
        if shapes != expected:
            raise ValueError(f"{path}: found tensors {shapes}, expected {expected}: no kernel on this base")
        return cls(**found)


@dataclass(frozen=True)
class FittedKernel:
    """A kernel, and what it says of the pairs that it remembers.

    Attributes:
        kernel: on the CPU.
        rows: numbers of the m pairs that it remembers.
        left_out: probability of each of them by the labels of all other queries, shape (m,).
    """

    kernel: Kernel
    rows: np.ndarray
    left_out: np.ndarray


def fit_kernel(
    sides: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    options: KernelOptions,
    weights: np.ndarray | None = None,
) -> FittedKernel:
    """Fit the regression to labelled pairs.

    Args:
        sides: vectors of n pairs, float32 (n, 2, width).
        labels: 0 or 1, shape (n,), or probabilities.
        groups: number of the query of each pair, shape (n,).
        options: how it is fitted; of more pairs than `rows`, whole queries are drawn.
        weights: of the pairs, shape (n,); one with weight 0 is left out. None weighs them alike.

    Returns:
        The kernel with the scores of its own pairs.

    Raises:
        ValueError: no pair with a weight.
    """
    weights = np.ones(len(sides)) if weights is None else weights
    kept = draw_queries(groups, np.flatnonzero(weights > 0), options)
    if not len(kept):
        raise ValueError("found no pair to fit a kernel to, expected one with a weight above 0")
    y, weights, groups = labels[kept].astype(float), weights[kept].astype(float), groups[kept]
    vectors = torch.from_numpy(sides[kept])
    centre = vectors.mean(0)
    support, mean = normalize(vectors - centre, dim=-1), float(np.average(y, weights=weights))
    system = _likeness(support, support, options.scale).double()
    system.diagonal().add_(torch.from_numpy(options.ridge / weights))
    torch.linalg.cholesky(system, out=system)  # in place: of 16,000 pairs it takes 2 GB
    inverse = torch.cholesky_inverse(system)
    solved = (inverse @ torch.from_numpy(y - mean)).numpy()
    scores = y - _left_out(inverse.numpy(), solved, groups)
    (found,), intercept = fit_blend(expit(scores)[:, None], y)  # which takes their logits
    slope = max(found, FLATTEST)
    numbers = torch.tensor([options.scale, mean, slope, intercept], dtype=torch.float64)
    kernel = Kernel(centre, support, torch.from_numpy(solved).float(), numbers)
    return FittedKernel(kernel, kept, expit(slope * scores + intercept))


def draw_queries(groups: np.ndarray, rows: np.ndarray, options: KernelOptions) -> np.ndarray:
    """Return the rows of as many whole queries as fit, drawn by the seed; all where they fit."""
    if len(rows) <= options.rows:
        return rows
    codes = np.unique(groups[rows], return_inverse=True)[1]
    order = np.random.default_rng(options.seed).permutation(codes.max() + 1)
    fits = np.cumsum(np.bincount(codes)[order]) <= options.rows
    return rows[np.isin(codes, order[fits])]


def _likeness(some: torch.Tensor, others: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the kernel of unit vectors (a, 2, width) and (b, 2, width), shape (a, b)."""
    return torch.exp(scale * (some.flatten(1) @ others.flatten(1).T - 2))


def _left_out(inverse: np.ndarray, solved: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return label less score of each pair, shape (n,), by the regression on all pairs of the other queries."""
    order = np.argsort(groups, kind="stable")
    found = np.empty_like(solved)
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        found[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], solved[rows])
    return found
