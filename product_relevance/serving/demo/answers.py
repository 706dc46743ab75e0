"""Answer the questions of the demo page with an ensemble: scores, decisions, and how the model read the texts."""

import threading
import time
from dataclasses import replace

import numpy as np

from product_relevance.data.pairs import Pairs
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.evaluation.probabilities import compute_expected_grade
from product_relevance.serving.demo.questions import (
    DemoAnswer,
    DemoQuestion,
    ScoredTarget,
    check_question,
    find_language,
)
from product_relevance.serving.limits import Limits
from product_relevance.utils.tasks import LABELS, task_names


class DemoAnswers:
    """Scores what people ask with one ensemble, one question at a time."""

    def __init__(self, ensemble: RelevanceEnsemble, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.tasks = task_names(ensemble.run.task)
        self.reads_translations = ensemble.encoder.template.input_style != "original"
        self._by_task = {task: ensemble.of_task(task) for task in self.tasks}
        self._one_at_a_time = threading.Lock()  # the folds share one base

    def of_task(self, task: str) -> RelevanceEnsemble:
        """Return the ensemble of a task; empty for the only one.

        Raises:
            ValueError: a task that the model was not trained on, or none named where it has two.
        """
        if not task and len(self.tasks) == 1:
            return self._by_task[self.tasks[0]]
        if task not in self._by_task:
            raise ValueError(f"Task: found {task or 'nothing'}, expected one of {', '.join(self.tasks)}")
        return self._by_task[task]

    def answer(self, question: DemoQuestion) -> DemoAnswer:
        """Score the targets of a question.

        Raises:
            ValueError: an empty query or target list, too many or too long texts, an unknown task or language.
        """
        ensemble, question = self.of_task(question.task), check_question(question, self.limits)
        code, identified = find_language(question)
        pairs = _read_pairs(question, code if ensemble.encoder.template.language_tag else None)
        start = time.perf_counter()
        with self._one_at_a_time:
            ids = ensemble.encoder.encode(pairs)
            if (found := sum(map(len, ids))) > self.limits.tokens:
                raise ValueError(f"Targets: found {found:,} tokens, expected at most {self.limits.tokens:,}")
            shares = ensemble.share_by_fold(ids)
            seconds = time.perf_counter() - start
            order = np.argsort(-ensemble.combine(compute_expected_grade(shares)), kind="stable")[: question.top_k]
            best = replace(question, targets=[question.targets[i] for i in order])
            places = _describe_targets(ensemble, best, [ids[i] for i in order], shares[order], code)
        return DemoAnswer(places, len(ids), code, identified, seconds)


def _read_pairs(question: DemoQuestion, tag: str | None) -> Pairs:
    count, translation = len(question.targets), question.translation.strip()
    return Pairs(
        [question.query] * count,
        list(question.targets),
        None if tag is None else [tag] * count,
        [translation] * count if translation else None,
    )


def _describe_targets(
    ensemble: RelevanceEnsemble, question: DemoQuestion, ids: list[list[int]], shares: np.ndarray, code: str
) -> list[ScoredTarget]:
    """Describe n targets whose tokens and shares, (n, folds, K), are known; `code` is the query's language."""
    folds = compute_expected_grade(shares)
    scores, means = ensemble.combine(folds), shares.mean(axis=1)
    grades = ensemble.decide_grades(scores)
    thresholds = ensemble.rule.row_thresholds([code] * len(ids))
    encoder, tag = ensemble.encoder, code if ensemble.encoder.template.language_tag else None
    longer = replace(encoder, max_length=encoder.max_length + 1).encode(_read_pairs(question, tag))
    return [
        ScoredTarget(
            target=target,
            score=float(scores[i]),
            folds=dict(zip(ensemble.folds, folds[i].tolist(), strict=True)),
            threshold=float(thresholds[i]),
            decision=LABELS[int(scores[i] >= thresholds[i])],
            grade=None if grades is None else int(grades[i]),
            shares=means[i].tolist(),
            read=encoder.tokenizer.decode(ids[i]),
            tokens=len(ids[i]),
            shortened=len(longer[i]) > len(ids[i]),
        )
        for i, target in enumerate(question.targets)
    ]
