"""A run whose pairs vLLM scores: cleaning, tokens, thresholds and files stay those of this package."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from product_relevance import __version__
from product_relevance.ensemble import stack as stacking
from product_relevance.ensemble.base_model import load_encoder
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.fold_models import FoldModels
from product_relevance.ensemble.locate import Located, locate_run
from product_relevance.ensemble.outputs import json_sha256
from product_relevance.ensemble.published.canaries import EXACT, ROUNDED, largest_difference
from product_relevance.ensemble.scoring_arguments import ScoringArguments
from product_relevance.models.loading import checkpoints
from product_relevance.serving.engines.engine_process import EngineProcess, require_vllm
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.transformers_export import CANARIES, export_classifier
from product_relevance.utils.json_files import read_json
from product_relevance.utils.run_folder import write_json

MADE_OF = "made_of.json"


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Where vLLM runs, and how.

    Attributes:
        python: of the environment that has vLLM.
        settings: of `vllm.LLM`, as {"tensor_parallel_size": 2}.
        folder: of the exported model; what an interrupted call has left there is used again.
    """

    folder: Path
    python: str = sys.executable
    settings: Mapping[str, Any] = field(default_factory=dict)


class VllmModel(FoldModels):
    """One exported model in vLLM, in the place of a base with its folds; it starts with the first pairs."""

    def __init__(self, found: Located, scoring: ScoringArguments, options: EngineOptions) -> None:
        names = list(found.folds)
        folds = found.folds if len(names) == 1 else {"weights": found.folder}
        super().__init__(None, folds, whole=found.run.adapter is None)
        self._found, self._scoring, self._options = found, scoring, options
        self._process: EngineProcess | None = None
        self._version = require_vllm(options.python)
        device = checkpoints.choose_device(scoring.device)
        self._weights = checkpoints.choose_dtype(scoring.dtype, device)

    @property
    def dtype(self) -> str:
        """Of the weights, and the engine: scores of another one are not mixed with these."""
        return f"{self._weights} by vllm {self._version}"

    def predict_shares(self, ids: list[list[int]], pad_id: int, progress: bool = False) -> np.ndarray:
        """Return the probabilities of the two labels, shape (n, 1, 2), as `FoldModels` does."""
        if self._process is None:
            self._process = self._start()
        once = {tuple(row): 0.0 for row in ids}
        once = dict(zip(once, self._process.score([list(row) for row in once]), strict=True))
        found = np.array([once[tuple(row)] for row in ids])
        return np.stack([1 - found, found], axis=-1)[:, None, :]

    def close(self) -> None:
        """End vLLM."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _start(self) -> EngineProcess:
        self._export()
        settings = {"dtype": self._weights} | dict(self._options.settings)
        process = EngineProcess(self._options.python, self._options.folder, settings)
        try:
            self._require_canaries(process)
        except ValueError:
            process.close()
            raise
        return process

    def _export(self) -> None:
        """Write the model for vLLM, unless an interrupted call of this version has done so."""
        folder, (name,) = self._options.folder, self.folds
        made_of = {"sha256": json_sha256(self._found.run.to_json(), name, self._weights), "version": __version__}
        if (folder / MADE_OF).is_file() and read_json(folder / MADE_OF) == made_of:
            return
        fold = None if name == "weights" else name
        limit = self._scoring.max_disagreement
        options = ExportOptions(
            fold=fold,
            revision=self._scoring.revision,
            dtype=self._weights,
            overwrite=True,
            max_disagreement=limit,
        )
        export_classifier(self._scoring.model, folder, options)
        write_json(folder / MADE_OF, made_of)

    def _require_canaries(self, process: EngineProcess) -> None:
        rows = read_json(self._options.folder / CANARIES)["pairs"]
        found = process.score([row["token_ids"] for row in rows])
        moved = largest_difference(found, [row["score"] for row in rows])
        limit = EXACT if self._weights == "float32" else ROUNDED
        if not moved <= limit:  # also where it is not a number
            raise ValueError(
                f"--engine vllm: vllm {self._version} scores the canary pairs otherwise than the exported model, by "
                f"up to {moved:.4f}, expected {limit} at most: leave --engine out, or take another vLLM"
            )


@contextmanager
def open_vllm(scoring: ScoringArguments, options: EngineOptions) -> Iterator[RelevanceEnsemble]:
    """Open a run for scoring with vLLM.

    Args:
        scoring: the model and how it is scored; several folds need merge "weights", since vLLM holds one model.
        options: where vLLM runs.

    Yields:
        The ensemble, for `predict_file`.

    Raises:
        ValueError: no vLLM, several models, a base in nf4 or fp8, or from `export_classifier`.
    """
    _require_supported(scoring)
    found = locate_run(scoring.model, scoring.revision)
    if found.run.pooling != "auto" or len(found.run.labels) > 2:
        raise ValueError(
            f"--engine vllm: {scoring.model} has a pooled head or grades, which vLLM does not have; leave "
            "--engine out, or train with --pooling auto and two labels by train_relevance.py"
        )
    if len(found.folds) > 1 and scoring.merge != "weights":
        raise ValueError(
            f"--engine vllm: {scoring.model} has {len(found.folds)} folds, and vLLM holds one model: add --merge "
            "weights for their mean weights"
        )
    model = VllmModel(found, scoring, options)
    ensemble = RelevanceEnsemble(None, load_encoder(found), found.run, model.folds)
    ensemble.fold_models = model
    if "weights" in model.folds:
        ensemble.disagreement = scoring.max_disagreement  # the export is within it
    try:
        yield ensemble
    finally:
        model.close()


def _require_supported(scoring: ScoringArguments) -> None:
    if stacking.is_stack(scoring.model):
        raise ValueError("--engine vllm: a stack has several bases, and vLLM holds one model; give one of its runs")
    if scoring.dtype in ("nf4", "fp8"):
        raise ValueError(f"--engine vllm: --dtype {scoring.dtype} is not exported; expected auto, bfloat16 or float32")
    if scoring.compile or scoring.reasoning_tokens:
        raise ValueError("--engine vllm: leave --compile and --reasoning_tokens out, they are for torch")
