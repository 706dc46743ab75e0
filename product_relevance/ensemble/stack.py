"""A stack: several runs joined by a logistic regression over the logits of their scores."""

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data.pairs import read_pairs, read_targets
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.ensemble.retrieval.rank_pairs import rank_pairs
from product_relevance.ensemble.stack_features import make_features
from product_relevance.evaluation.blending import blend_scores
from product_relevance.evaluation.decision_rule import DecisionRule, check_decision
from product_relevance.utils import run_folder
from product_relevance.utils.run_record import StackRecord

NAME, KIND = "stack.json", "relevance-stack"


def is_stack(name: str | Path) -> bool:
    """Return whether this is the folder of a stack."""
    return (Path(name) / NAME).is_file()


class RelevanceStack:
    """Scores records with every run of a stack, one base in memory after the other."""

    reasoning_tokens = 0  # its coefficients were fitted to scores without reasoning

    def __init__(self, folder: str | Path, run: StackRecord) -> None:
        self.folder, self.run = Path(folder), run
        self.rule = DecisionRule.from_run(run)
        self.folds = {f"member-{i}": self.folder / m["path"] for i, m in enumerate(run.members)}
        self.run_folders = list(self.folds.values())
        self.device: str | None = None
        self.dtype, self.loading = "auto", LoadingArguments()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | None = None,
        dtype: str = "auto",
        loading: LoadingArguments | None = None,
    ) -> "RelevanceStack":
        """Read a stack; its runs are loaded when it scores.

        Args:
            folder: made by `relevance stack`.
            device, dtype, loading: as in `RelevanceEnsemble.from_pretrained`, for each run.

        Raises:
            ValueError: no stack there, or a run that has changed since it was stacked.
        """
        content = run_folder.read_json(Path(folder) / NAME)
        if content.get("format") != run_folder.FORMAT or content.get("kind") != KIND:
            found = content.get("kind"), content.get("format")
            raise ValueError(f"{folder}/{NAME}: found {found}, this version reads {(KIND, run_folder.FORMAT)}")
        try:
            record = StackRecord.from_json(content)
        except ValueError as error:
            message = f"{folder}/{NAME}: {error}; it was changed, or not written whole: stack anew"
            raise ValueError(message) from None
        check_decision(record.decision)
        stack = cls(folder, record)
        stack.device, stack.dtype, stack.loading = device, dtype, loading or stack.loading
        for path, member in zip(stack.folds.values(), record.members, strict=True):
            finished = run_folder.load_record(path).finished
            if finished != member["finished"]:
                raise ValueError(
                    f"{path}: finished {finished}, but it was stacked as of {member['finished']}: stack the runs again"
                )
        return stack

    @property
    def thresholds(self) -> Mapping[str, float]:
        """The thresholds by kind, as of a RelevanceEnsemble."""
        return self.rule.thresholds

    @property
    def threshold(self) -> float:
        """The threshold with the best positive F1 on the stack's out-of-fold scores."""
        return self.thresholds["f1"]

    def checked_vote(self, vote: str | None) -> str:
        """Return `mean`, the one way to combine the folds of each run; ValueError for a vote."""
        if (vote or "mean") != "mean":
            raise ValueError("a stack has coefficients instead of votes: leave --vote out")
        return "mean"

    def predict(
        self,
        pairs: Iterable,
        languages: Iterable[str] | None = None,
        translations: Iterable[str] | None = None,
        *,
        progress: bool = False,
    ) -> np.ndarray:
        """Return the probability of each pair, shape (n,); arguments and errors as in `RelevanceEnsemble.predict`."""
        given = read_pairs(pairs, languages, translations, self.run.task)
        both = list(zip(given.queries, given.targets, strict=True))
        extra = given.languages, given.translations
        scores = self._of_members(lambda member: member.predict(both, *extra, progress=progress))
        return self.combine(self._with_features(scores, given.queries, given.targets))

    def rank(
        self,
        query: str,
        targets: Iterable[str],
        top_k: int | None = None,
        language: str | None = None,
        translation: str | None = None,
    ) -> list[dict[str, Any]]:
        """Order targets by relevance to one query; arguments and errors as in `RelevanceEnsemble.rank`."""
        return rank_pairs(self.predict, query, read_targets(query, targets, top_k), language, translation)[:top_k]

    def score_folds(self, frame: pd.DataFrame, translation: str | None = None, progress: bool = False) -> np.ndarray:
        """Return the mean probabilities of each run for records, and the features, shape (n, members + features)."""
        scores = self._of_members(lambda member: member.combine(member.score_folds(frame, translation, progress)))
        return self._with_features(scores, frame["origin_query"].tolist(), frame["target"].tolist())

    @property
    def reads_rivals(self) -> bool:
        """Whether a pair's score depends on the other pairs of its query: all of them are to be scored together."""
        return "group" in self.run.features

    def _with_features(self, scores: np.ndarray, queries: Sequence[str], targets: Sequence[str]) -> np.ndarray:
        return np.column_stack([scores, make_features(self.run.features, scores, queries, targets)])

    def _of_members(self, score: Callable) -> np.ndarray:
        import torch

        from product_relevance.ensemble.ensemble import RelevanceEnsemble

        columns = []
        for path in self.folds.values():
            member = RelevanceEnsemble.from_pretrained(
                path, device=self.device, dtype=self.dtype, loading=self.loading
            )
            columns.append(score(member))
            del member
            gc.collect()  # a model is full of cycles; the next base needs its memory
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return np.stack(columns, axis=1)

    def combine(self, scores: np.ndarray, vote: str = "mean") -> np.ndarray:
        """Return the stack's probabilities, shape (n,), of what `score_folds` gives."""
        members = [member["coefficient"] for member in self.run.members]
        others = [value for kind in self.run.features.values() for value in kind.values()]
        size = len(members)
        return blend_scores(scores[:, :size], [*members, *others], self.run.intercept, scores[:, size:])

    def fold_thresholds(self, kind: str) -> np.ndarray:
        """Return the threshold of each run alone, shape (members,)."""
        return np.array([m["thresholds"].get(kind, self.thresholds[kind]) for m in self.run.members])

    def decide_grades(self, scores: np.ndarray) -> None:
        """Return None: the scores of a stack are probabilities of relevance, also of runs with grades."""

    def decide(self, scores: np.ndarray, languages: Sequence[str] | None = None, kind: str = "f1") -> np.ndarray:
        """Call pairs relevant (1) or not (0), as `RelevanceEnsemble.decide`."""
        return self.rule.decide(scores, languages, kind)
