"""Questions of clients scored together: each limit on tokens of its own, one pass of the model, an answer each."""

import logging
import traceback
from collections.abc import Sequence
from itertools import islice

from product_relevance.models.batching import encode_pairs
from product_relevance.serving.protocol import Limits, Question, answer

logger = logging.getLogger(__name__)


def answer_together(ensemble, questions: Sequence[Question], limits: Limits) -> list[list | ValueError]:
    """Score the pairs of several questions in one pass.

    Args:
        ensemble: a RelevanceEnsemble; used by one thread at a time.
        questions: from `payloads.parse`.
        limits: of each question.

    Returns:
        Per question its answer, or the ValueError that tells its client what is too long.

    Raises:
        RuntimeError: scoring failed. Neither it nor the log holds a text, only where it happened.
    """
    try:
        refused = [_too_long(ensemble, question, limits) for question in questions]
        kept = [question for question, error in zip(questions, refused, strict=True) if error is None]
        scores = iter(_scores(ensemble, kept))
        return [
            error or answer(question, list(islice(scores, len(question.pairs))))
            for question, error in zip(questions, refused, strict=True)
        ]
    except Exception as error:  # messages of libraries may quote the text they failed on
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.error("scoring failed with %s\n%s", type(error).__name__, where)
        raise RuntimeError(f"scoring failed with {type(error).__name__}; the log of the server tells where") from None


def _scores(ensemble, questions: Sequence[Question]):
    pairs = [pair for question in questions for pair in question.pairs]
    return ensemble.predict(pairs, _languages(ensemble, questions), _translations(questions)) if pairs else []


def _languages(ensemble, questions: Sequence[Question]) -> list[str] | None:
    if not ensemble.template.language_tag:  # nothing reads them, and not every question has them
        return None
    return [code for question in questions for code in question.languages]


def _translations(questions: Sequence[Question]) -> list[str | None]:
    return [text for question in questions for text in question.translations]


def _too_long(ensemble, question: Question, limits: Limits) -> ValueError | None:
    longest = ensemble.run["max_length"]
    texts, targets = ensemble.template.render(
        [query for query, _ in question.pairs],
        [target for _, target in question.pairs],
        _languages(ensemble, [question]),
        _translations([question]),
        ensemble.taxonomy,
    )
    lengths = [len(ids) for ids in encode_pairs(ensemble.tokenizer, texts, targets, longest + (not question.truncate))]
    if sum(lengths) > limits.tokens:
        return ValueError(f"body: found {sum(lengths)} tokens, expected at most {limits.tokens}: send fewer at once")
    if max(lengths) > longest:
        place = lengths.index(max(lengths))
        return ValueError(f"pair {place}: found more than {longest} tokens, expected at most that with truncate false")
    return None
