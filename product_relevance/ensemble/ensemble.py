"""The ensemble of a run: one base in memory, its fold adapters switched, the mean of their probabilities."""

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from product_relevance.data.loading import add_run_columns
from product_relevance.data.pairs import read_pairs, read_targets
from product_relevance.ensemble import float8_gate
from product_relevance.ensemble.base_model import load_base
from product_relevance.ensemble.fold_models import FoldModels
from product_relevance.ensemble.kernel_folds import KernelFolds
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.ensemble.locate import locate_run
from product_relevance.ensemble.published import canaries
from product_relevance.ensemble.published.canaries import CanaryScores
from product_relevance.ensemble.published.manifest_record import Manifest
from product_relevance.ensemble.retrieval.rank_pairs import rank_pairs
from product_relevance.evaluation.decision_rule import DecisionRule
from product_relevance.evaluation.grade_calibration import apply_temperature
from product_relevance.evaluation.grades import decide_grades
from product_relevance.evaluation.probabilities import compute_expected_grade
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.text.templates import Template
from product_relevance.utils import tasks
from product_relevance.utils.run_record import FinishedRunRecord

logger = logging.getLogger(__name__)

VOTES = ("mean", "majority", "weighted")


class RelevanceEnsemble:
    """Scores (query, target) pairs with every fold model of a run.

    Example:
        >>> ensemble = RelevanceEnsemble.from_pretrained("runs/quickstart")
        >>> ensemble.predict([("zapatos rojos", "shoes,women's shoes")])
        array([0.93])
    """

    def __init__(self, model, encoder: PairEncoder, run: FinishedRunRecord, folds: dict[str, Path]) -> None:
        self.encoder, self.run = encoder, run
        whole = run.adapter is None
        self.fold_models = KernelFolds(model, folds) if run.is_kernel else FoldModels(model, folds, whole)
        self.taxonomy = encoder.taxonomy  # tree of the training paths, None where the run has none
        self.rule = DecisionRule.from_run(run)
        self.manifest: Manifest | None = None
        self.disagreement: float | None = None  # of merged weights, on the canaries
        self.run_folders: list[Path] = []

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        loading: LoadingArguments | None = None,
    ) -> "RelevanceEnsemble":
        """Load an ensemble whole, or not at all.

        Args:
            name: folder made by train_relevance.py or by `hf download`, or an id on the Hub, `org/name`.
            revision: commit, tag or branch of the ensemble on the Hub; its folds and base are pinned in it.
            device: "cpu", "cuda", "cuda:1"; a GPU when there is one if None.
            dtype: of the base: auto, bfloat16, float32, nf4, fp8.
            loading: how the folds become scores; the mean of their probabilities if None.

        Raises:
            ValueError: nothing of that name; files, base, template or scores that differ from the published ones;
                mean weights or FP8 that disagree with the exact probabilities; reasoning without a place for it.
        """
        loading = loading or LoadingArguments()
        found = locate_run(name, revision)
        if loading.merge == "weights":
            tasks.select_task(found.run, None)  # what it costs is measured on the pairs of one task
        encoder, model = load_base(found, device, dtype, writes=loading.reasoning_tokens > 0)
        ensemble = cls(model, encoder, found.run, found.folds)
        ensemble.manifest, ensemble.run_folders = found.manifest, [found.folder]
        if found.run.adapter is not None and loading.merge != "weights":
            ensemble.fold_models.load_adapters()
        exact = canaries.check_canaries(ensemble, found.manifest.canaries) if found.manifest is not None else None
        if loading.attention == "packed":
            ensemble.fold_models.pack_rows()
        if loading.merge == "weights":
            exact = exact or canaries.measure_canaries(ensemble)
            ensemble._merge_weights(found.folder, exact, loading.max_disagreement)
        if dtype == "fp8":
            float8_gate.score_in_float8(ensemble, loading.max_disagreement)
        ensemble.fold_models.reasoning_tokens = loading.reasoning_tokens  # the canaries were scored without
        return ensemble

    @property
    def model(self):
        """The base in memory with the fold that was selected last."""
        return self.fold_models.model

    @property
    def folds(self) -> dict[str, Path]:
        """Folder of each fold, by its name."""
        return self.fold_models.folds

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens the model writes before it answers."""
        return self.fold_models.reasoning_tokens

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.fold_models.device

    @property
    def dtype(self) -> str:
        """Of the base's weights, as float32, nf4 or fp8."""
        return self.fold_models.dtype

    @property
    def thresholds(self) -> Mapping[str, float]:
        """The thresholds by kind: f1, macro_f1, after `relevance decide` also expected_f1."""
        return self.rule.thresholds

    @property
    def threshold(self) -> float:
        """The threshold with the best positive F1 on the run's out-of-fold scores."""
        return self.of_task(None).thresholds["f1"]

    def of_task(self, task: str | None) -> "RelevanceEnsemble":
        """Return the ensemble for one task, on the same model with that task's thresholds; itself if it has one only.

        Raises:
            ValueError: a task that it was not trained on, or None where it was trained on two.
        """
        run = tasks.select_task(self.run, task)
        if run is self.run:
            return self
        one = copy.copy(self)
        one.run, one.rule = run, DecisionRule.from_run(run)
        one.encoder = replace(self.encoder, template=Template.from_dict(run.template))
        return one

    def predict(
        self,
        pairs: Iterable,
        languages: Iterable[str] | None = None,
        translations: Iterable[str] | None = None,
        *,
        vote: str | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Return the probability that each target is relevant to its query; of K grades the expected one / (K - 1).

        Args:
            pairs: n pairs (query, target), in any form of `pairs.read_pairs`; raw text, cleaned as in training.
            languages: n competition codes, read by templates with a language tag; those of the dicts if None.
            translations: n English translations, read by templates with one; else those of the dicts, or the query.
            vote: `mean` of the folds (also if None); `majority`, the share of folds whose probability reaches the
                threshold; `weighted`, the same with folds weighted by their out-of-fold F1.
            progress: show a progress bar.

        Returns:
            Array of shape (n,) in [0, 1]. For votes the natural threshold is 0.5.

        Raises:
            ValueError: no pair, an unknown vote or one of merged weights, unlike lengths; two tasks: see `of_task`.
        """
        vote = self.checked_vote(vote)
        one = self.of_task(None)
        return one.combine(one.predict_folds(pairs, languages, translations, progress=progress), vote)

    def checked_vote(self, vote: str | None) -> str:
        """Return the vote that `predict` takes for `vote`; ValueError where there is none of that name."""
        vote = vote or "mean"
        if vote not in VOTES:
            raise ValueError(f"vote {vote!r}: expected one of {', '.join(VOTES)}")
        if vote != "mean" and self.disagreement is not None:
            raise ValueError(f"vote {vote!r}: merged weights are one model, without folds to vote; use mean")
        return vote

    def combine(self, scores: np.ndarray, vote: str = "mean") -> np.ndarray:
        """Combine fold probabilities of shape (n, folds) into (n,), as `predict` does."""
        if vote == "mean":
            return scores.mean(axis=1)
        weights = np.ones(len(self.folds)) if vote == "majority" else self._fold_f1()
        return (scores >= self.fold_thresholds("f1")) @ (weights / weights.sum())

    def fold_thresholds(self, kind: str) -> np.ndarray:
        """Return the threshold of each fold model alone, shape (folds,), chosen on such models' out-of-fold scores."""
        one = self.of_task(None)
        return np.full(len(one.folds), one.run.thresholds.get(kind, one.thresholds[kind]))

    def calibrate(self, scores: np.ndarray) -> np.ndarray:
        """Turn scores of `predict`, shape (n,), into calibrated probabilities, once `relevance decide` chose how."""
        return self.of_task(None).rule.calibrate(scores)

    def decide(self, scores: np.ndarray, languages: Sequence[str] | None = None, kind: str = "f1") -> np.ndarray:
        """Call pairs relevant (1) or not (0) by the run's thresholds.

        Args:
            scores: from `predict`, the mean of the folds, shape (n,).
            languages: n codes; a language with a threshold of its own gets it, any other the global one.
            kind: f1, macro_f1, or after `relevance decide` expected_f1.
        """
        return self.of_task(None).rule.decide(scores, languages, kind)

    def predict_folds(self, pairs, languages=None, translations=None, *, tasks=None, progress=False) -> np.ndarray:
        """Return the probabilities of each fold model, shape (n, folds); as `predict`, with the task of each pair."""
        given = read_pairs(pairs, languages, translations, self.encoder.template.task)
        return compute_expected_grade(self._share(self.encoder.encode(given, tasks), progress))

    def predict_tokens(self, ids: list[list[int]]) -> np.ndarray:
        """Return the mean probability of the folds, shape (n,), for n pairs that `encoder` has tokenised."""
        return self.combine(compute_expected_grade(self._share(ids)))

    def share_tokens(self, ids: list[list[int]]) -> np.ndarray:
        """Return the mean probability of each label, shape (n, K), for n pairs that `encoder` has tokenised."""
        return self.share_by_fold(ids).mean(axis=1)

    def share_by_fold(self, ids: list[list[int]]) -> np.ndarray:
        """Return the probability of each label by each fold model, shape (n, folds, K), for n such pairs."""
        return self._share(ids)

    def predict_shares(self, pairs, languages=None, translations=None) -> np.ndarray:
        """Return the probability of each label, shape (n, K), the mean of the folds; arguments as in `predict`."""
        given = read_pairs(pairs, languages, translations, self.encoder.template.task)
        return self.share_tokens(self.encoder.encode(given))

    def encode_frame(self, frame, translation: str | None = None) -> list[list[int]]:
        """Tokenise n records with the run's own columns."""
        return self.encoder.encode_frame(add_run_columns(frame, self.run.columns, translation))

    def calibrate_shares(self, shares: np.ndarray) -> np.ndarray:
        """Calibrate distributions of `predict_shares`, shape (n, K), once `relevance decide` chose a temperature."""
        found = self.run.grade_calibration
        return shares if found is None else apply_temperature(shares, found["temperature"])

    @property
    def grades(self) -> int:
        """How many grades `decide_grades` knows; 2 for a run of two labels."""
        return 1 + len(self.run.grade_thresholds or [0.5])

    def decide_grades(self, scores: np.ndarray) -> np.ndarray | None:
        """Return the grade of each score of `predict`, shape (n,); None for a run of two labels."""
        chosen = self.run.grade_thresholds
        return None if chosen is None else decide_grades(scores, chosen)

    def _share(self, ids: list[list[int]], progress: bool = False) -> np.ndarray:
        return self.fold_models.predict_shares(ids, self.encoder.pad_id, progress)

    def score_folds(self, frame, translation: str | None = None, progress: bool = False) -> np.ndarray:
        """Return the probabilities of each fold model for records, shape (n, folds), with the run's own columns."""
        return compute_expected_grade(self._share(self.encode_frame(frame, translation), progress))

    def rank(
        self,
        query: str,
        targets: Iterable[str],
        top_k: int | None = None,
        language: str | None = None,
        translation: str | None = None,
    ) -> list[dict[str, Any]]:
        """Order targets by relevance to one query.

        Args:
            query: raw text.
            targets: category paths or item titles.
            top_k: how many are returned; all if None.
            language: of the query, read by templates with a language tag.
            translation: of the query into English, read by templates with one.

        Returns:
            Dicts `index` (place in `targets`), `score`, `target`; best first.

        Raises:
            ValueError: one text in place of a list of targets, or a target that is no text.
        """
        return rank_pairs(self.predict, query, read_targets(query, targets, top_k), language, translation)[:top_k]

    def _merge_weights(self, home: Path, exact: CanaryScores, limit: float) -> None:
        """Put the mean of the folds' weights in place of the folds, if it scores the canaries as they do."""
        folds = len(self.folds)
        self.fold_models.merge_weights(home)
        merged = canaries.measure_canaries(self, exact.pairs)
        change = f"merge weights: probabilities differ from the mean of the {folds} folds"
        instead = "use merge probabilities"
        self.disagreement = canaries.require_agreement(merged.scores, exact.scores, change, instead, limit)

    def _fold_f1(self) -> np.ndarray:
        found = {fold["name"]: (fold.get("metrics") or {}).get("f1") for fold in self.run.folds}
        return np.array([found.get(name) or 1.0 for name in self.folds])
