"""A fold of `--adapter kernel`: a kernel ridge regression is fitted to the vectors of its rows; nothing is trained."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from product_relevance.ensemble.kernel_folds import LEFT_OUT, WEIGHTS
from product_relevance.models.heads.kernel import KernelOptions, fit_kernel
from product_relevance.models.heads.sides import encode_sides
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.training.base_model import BaseModelPool
from product_relevance.training.fold import FoldResult, describe_fold, describe_rows, describe_scores, publish_fold
from product_relevance.training.run_config import DescribedConfig, RunConfig
from product_relevance.training.run_data import FoldData, RunData
from product_relevance.utils import run_settings

logger = logging.getLogger(__name__)


def check_kernel(config: RunConfig) -> None:
    """Check that nothing is asked for that a kernel cannot have.

    Raises:
        ValueError: with `--adapter kernel`: another objective or stage, grades, forms of the rows that change in each
            epoch, or several processes.
    """
    if config.model.adapter != "kernel":
        return
    training, data, objective = config.training, config.data, config.objective
    in_the_way = {
        f"--objective {objective.objective}": objective.objective != "cross_entropy",
        f"--stage {objective.stage}": objective.stage != "relevance",
        f"--grades {data.grades}": data.grades != 2,
        f"--random_levels {data.random_levels}": bool(data.random_levels),
        "--share_prefixes": data.share_prefixes,
        "--deepspeed": bool(training.deepspeed),
        "--fsdp": bool(training.fsdp),
        f"{training.world_size} processes of a launcher": training.world_size > 1,
    }
    for name in (name for name, found in in_the_way.items() if found):
        raise ValueError(f"--adapter kernel: found {name}, which a kernel cannot have: leave it out")


@dataclass(frozen=True)
class FitKernel:
    """Fits one fold and publishes its folder, as `fold.train_fold` trains one.

    Attributes:
        sides: vectors of all rows of the run, float32 (rows, 2, width).
        groups: number of the query of each row, shape (rows,).
        ids: of the rows.
    """

    sides: np.ndarray
    groups: np.ndarray
    ids: np.ndarray

    def __call__(
        self, config: DescribedConfig, data: FoldData, encoder: PairEncoder, pool: BaseModelPool
    ) -> FoldResult:
        """Fit a fold; arguments and result as of `fold.train_fold`."""
        name, split, start = data.split.name, data.split, time.perf_counter()
        args = config.model
        options = KernelOptions(args.kernel_scale, args.kernel_ridge, args.kernel_rows, config.training.seed)
        rows, columns = split.train, data.train
        weights = None if columns.weights is None else np.asarray(columns.weights)
        fitted = fit_kernel(self.sides[rows], np.asarray(columns.labels), self.groups[rows], options, weights)
        kernel = fitted.kernel
        logger.info("%s: a kernel on %d of %d pairs", name, len(fitted.rows), len(rows))
        oof = describe_scores(data, kernel.predict_logits(self.sides[split.valid])) if len(split.valid) else None
        settings = run_settings.list_settings(config.record, name, pool.fingerprint)
        facts = {"seconds": round(time.perf_counter() - start, 1), "engine": "kernel ridge regression", "history": []}
        facts |= {"settings": settings, "settings_sha256": run_settings.hash_settings(settings)}
        result = FoldResult(describe_rows(config, data, pool, facts), oof)

        def save(path: Path) -> None:
            kernel.save(path / WEIGHTS)
            own = pd.DataFrame({"id": self.ids[rows[fitted.rows]], "score": fitted.left_out})
            own.to_parquet(path / LEFT_OUT, index=False)
            describe_fold(path, config, result)

        publish_fold(config, result.record, save)
        return result


def make_fit(pool: BaseModelPool, data: RunData, encoder: PairEncoder) -> FitKernel:
    """Encode all rows of a run once, for the kernels of all folds.

    Args:
        pool: gives the base.
        data: records and their tokens.
        encoder: that made the tokens.

    Returns:
        What `parallel_folds.train_folds` calls for each fold.
    """
    model, training = pool.load(), pool.training
    model.to(training.device)
    with torch.autocast(training.device.type, torch.bfloat16, enabled=training.bf16):
        sides = encode_sides(model, data.tokens, encoder.pad_id, "both sides")
    return FitKernel(sides, pd.factorize(data.frame["query_group"])[0], data.frame["id"].astype(str).to_numpy())
