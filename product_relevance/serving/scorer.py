"""Score the questions of several clients together: own limits on tokens, one pass of the model, one answer each."""

import logging
import traceback
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from product_relevance.data.pairs import Pairs
from product_relevance.evaluation.probabilities import compute_expected_grade
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.serving.limits import Limits
from product_relevance.serving.protocol import Answer, Question, build_answer

logger = logging.getLogger(__name__)


def answer_together(ensemble, questions: Sequence[Question], limits: Limits) -> list[Answer | ValueError]:
    """Score the pairs of several questions in one pass.

    Args:
        ensemble: a RelevanceEnsemble; used by one thread at a time.
        questions: from `protocol.parse_request`.
        limits: of each question.

    Returns:
        Per question its answer, or the ValueError that says to its client what is too long.

    Raises:
        RuntimeError: scoring failed. Neither it nor the log holds a text, only where it happened.
    """
    try:
        tokens = [_encoded(ensemble.encoder, question) for question in questions]
        longest = ensemble.encoder.max_length
        refused = [_too_long(ids, longest, limits) for ids in tokens]
        kept = [ids for ids, error in zip(tokens, refused, strict=True) if error is None]
        rows = [row for ids in kept for row in ids]
        scored = iter(_score_rows(ensemble, rows) if rows else ())
        return [
            error or _answer(question, list(islice(scored, len(ids))), sum(map(len, ids)))
            for question, ids, error in zip(questions, tokens, refused, strict=True)
        ]
    except Exception as error:  # messages of libraries may quote the text they failed on
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.error("scoring failed with %s\n%s", type(error).__name__, where)
        raise RuntimeError(f"scoring failed with {type(error).__name__}; the log of the server says where") from None


def _score_rows(ensemble, rows: list[list[int]]) -> list[tuple[float, dict]]:
    """Return the score of each tokenised pair, and what an answer holds beside it: of a run with grades, these."""
    if ensemble.grades == 2:
        return [(score, {}) for score in ensemble.predict_tokens(rows)]
    shares = ensemble.share_tokens(rows)
    scores = compute_expected_grade(shares)
    found = zip(scores, ensemble.decide_grades(scores), shares, strict=True)
    return [(score, {"grade": int(grade), "grade_probabilities": row.tolist()}) for score, grade, row in found]


def _answer(question: Question, scored: list[tuple[float, dict]], tokens: int) -> Answer:
    answer = build_answer(question, [score for score, _ in scored], [beside for _, beside in scored])
    return answer if question.wrap is None else question.wrap(answer, tokens)


def _encoded(encoder: PairEncoder, question: Question) -> list[list[int]]:
    """Tokenise a question once; one that must not be truncated may show one token more than the model reads."""
    if not question.truncate:
        encoder = replace(encoder, max_length=encoder.max_length + 1)
    queries, targets = map(list, zip(*question.pairs, strict=True))
    languages = question.languages if encoder.template.language_tag else None  # not every question has them
    return encoder.encode(Pairs(queries, targets, languages, question.translations))


def _too_long(ids: list[list[int]], longest: int, limits: Limits) -> ValueError | None:
    lengths = list(map(len, ids))
    if sum(lengths) > limits.tokens:
        return ValueError(f"body: found {sum(lengths)} tokens, expected at most {limits.tokens}: send fewer at once")
    if max(lengths) > longest:
        place = lengths.index(max(lengths))
        return ValueError(f"pair {place}: found more than {longest} tokens, expected at most that with truncate false")
    return None
