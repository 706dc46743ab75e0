"""Parse requests of clients (pairs, or a query with texts), check them against limits, and build the JSON answers."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from product_relevance.data.pairs import sides_of
from product_relevance.evaluation.decision_rule import DecisionRule
from product_relevance.serving.limits import Limits, kind_of, read_count, read_flag, read_list, read_text, require_keys
from product_relevance.text.language_codes import code_pattern, normal_code
from product_relevance.utils.tasks import LABELS

LANGUAGE = re.compile(code_pattern())
SIDES = ("text", "text_pair")
EXTRAS = ("language", "translation")  # of one pair, or as parameters of all pairs without their own
# What a record of ours may hold beside query, target and language; of these only the translation is read.
OF_RECORDS = ("translated_query", "id", "task", "label")
PARAMETERS = (*EXTRAS, "threshold", "top_k")
# text-embeddings-inference (TEI), the reference server, has the same two; `raw_scores` may only be false.
OPTIONS = ("truncate", "raw_scores")
RANKING = ("query", "texts", "return_text", *OPTIONS)
SHAPES = (
    '{"inputs": {"text": query, "text_pair": target}}, {"inputs": [query, target]}, a list of either (or of records '
    'with origin_query and their target), or {"query": query, "texts": [target, ...]}'
)


Answer = list | dict
Row = tuple[str, str, dict[str, str]]  # query, target, and the pair's own language and translation


@dataclass(frozen=True)
class Question:
    """A request that passed the checks.

    Attributes:
        pairs: n pairs (query, target).
        languages: n codes; None where the client gave none.
        translations: n English translations; None where the client gave none.
        thresholds: n probabilities from which each pair counts as relevant.
        top_k: labels a pair, or places of a ranking (all if None).
        ranking: order the targets of one query.
        return_text: put the target into each place of a ranking.
        truncate: shorten long pairs as in training; they are an error if False.
        wrap: from the places of a ranking and the tokens read to the answer of another API; the places alone if None.
    """

    pairs: list[tuple[str, str]]
    languages: list[str | None]
    translations: list[str | None]
    thresholds: list[float]
    top_k: int | None
    ranking: bool
    return_text: bool
    truncate: bool
    wrap: Callable[[list[dict], int], dict] | None = None


def parse_request(data: object, ensemble, limits: Limits) -> Question:
    """Read a request: pairs, or a query with texts (on the top level or under `inputs`).

    Args:
        data: parsed JSON.
        ensemble: its thresholds and template decide what parameters mean.
        limits: of one request.

    Raises:
        ValueError: another shape, an unknown key, a limit. The message never holds a text of the client.
    """
    if not isinstance(data, dict):
        raise ValueError(f"body: found {kind_of(data)}, expected {SHAPES}")
    if "inputs" not in data:
        return parse_ranking(data, ensemble, limits)
    inputs = data["inputs"]
    if isinstance(inputs, dict) and "texts" in inputs:
        require_keys("body", data, ("inputs", "parameters"))
        require_keys("inputs", inputs, RANKING)
        return parse_ranking({**inputs, "parameters": data.get("parameters", {})}, ensemble, limits)
    require_keys("body", data, ("inputs", "parameters", *OPTIONS))
    return make_question(_rows(inputs, ensemble.encoder.template.task, limits), data, ensemble, limits)


def parse_ranking(data: object, ensemble, limits: Limits) -> Question:
    """Read {"query": ..., "texts": [...]}, the shape of TEI's /rerank; arguments and errors as in `parse_request`."""
    if not isinstance(data, dict):
        raise ValueError(f'body: found {kind_of(data)}, expected {{"query": query, "texts": [target, ...]}}')
    require_keys("body", data, (*RANKING, "parameters"), ("query", "texts"), SHAPES)
    query, texts = read_text(data["query"], "query", limits), read_list(data["texts"], "texts", limits.documents)
    rows: list[Row] = [(query, read_text(text, f"texts[{i}]", limits), {}) for i, text in enumerate(texts)]
    return make_question(rows, data, ensemble, limits, ranking=True)


def build_answer(question: Question, scores: Sequence[float], beside: Sequence[dict] | None = None) -> list:
    """Return what the client gets.

    Args:
        question: n pairs.
        scores: n probabilities.
        beside: n dicts, added to what the answer says of each pair; nothing if None.

    Returns:
        For pairs n lists of {"label", "score" (probability of that label), "probability" (of relevant),
        "threshold"}, the decision first; for a ranking {"index", "score", "relevant"}, best first.

    Raises:
        RuntimeError: a score that is not finite.
    """
    if not all(map(math.isfinite, scores)):
        raise RuntimeError("the model gave a score that is not finite")
    scores, beside = [float(score) for score in scores], beside or [{}] * len(scores)
    if not question.ranking:
        rows = zip(scores, question.thresholds, beside, strict=True)
        return [
            [label | more for label in _labels(score, threshold)[: question.top_k or 1]]
            for score, threshold, more in rows
        ]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[: question.top_k]
    places: list[dict[str, Any]] = [
        {"index": i, "score": scores[i], "relevant": scores[i] >= question.thresholds[i]} | beside[i] for i in order
    ]
    if question.return_text:
        places = [place | {"text": question.pairs[place["index"]][1]} for place in places]
    return places


def _labels(score: float, threshold: float) -> list[dict]:
    both = [
        {"label": label, "score": value, "probability": score, "threshold": threshold}
        for label, value in zip(LABELS.values(), (1 - score, score), strict=True)
    ]
    return both[::-1] if score >= threshold else both


def make_question(rows: list[Row], data: dict, ensemble, limits: Limits, ranking: bool = False) -> Question:
    """Make a question of texts that were checked.

    Args:
        rows: n pairs.
        data: the request, for its `parameters` and options.
        ensemble: as in `parse_request`.
        limits: of one request.
        ranking: all pairs have one query, and its targets are to be ordered.

    Raises:
        ValueError: parameters or options at fault; texts that are too long together.
    """
    parameters = data.get("parameters", {})
    require_keys("parameters", parameters, PARAMETERS)
    common = _extras(parameters, "parameters", limits)
    extras = [common | own for _, _, own in rows]
    missing = [i for i, extra in enumerate(extras) if "language" not in extra]
    if missing and ensemble.encoder.template.language_tag:
        where = "parameters" if ranking else f"pair {missing[0]}"
        raise ValueError(f"{where}: found no language, expected its code: this model reads it")
    translations = [extra.get("translation") for extra in extras]
    texts = {text for row in rows for text in row[:2]} | set(filter(None, translations))  # a query to rank for once
    size = sum(len(text.encode()) for text in texts)
    if size > limits.body:
        raise ValueError(f"body: found {size} bytes of text, expected at most {limits.body}: send fewer at once")
    if read_flag(data, "raw_scores", False):
        raise ValueError("raw_scores: found true, expected false: scores are means of probabilities, with no logits")
    languages = [extra.get("language") for extra in extras]
    return Question(
        pairs=[(query, target) for query, target, _ in rows],
        languages=languages,
        translations=translations,
        thresholds=_thresholds(parameters, ensemble.rule, languages),
        top_k=read_count(parameters["top_k"], "parameters.top_k") if "top_k" in parameters else None,
        ranking=ranking,
        return_text=read_flag(data, "return_text", False),
        truncate=read_flag(data, "truncate", True),
    )


def _rows(inputs: object, task: str, limits: Limits) -> list[Row]:
    if isinstance(inputs, str):
        raise ValueError(f"inputs: found a single string, expected a query and a target: {SHAPES}")
    if isinstance(inputs, dict) or _is_pair(inputs):
        return [_row(inputs, "inputs", task, limits)]
    pairs = read_list(inputs, "inputs", limits.pairs, "pairs")
    return [_row(pair, f"inputs[{i}]", task, limits) for i, pair in enumerate(pairs)]


def _row(value: object, where: str, task: str, limits: Limits) -> Row:
    """Return query, target, and the pair's own language and translation."""
    if _is_pair(value):
        return read_text(value[0], f"{where}[0]", limits), read_text(value[1], f"{where}[1]", limits), {}
    if not isinstance(value, dict):
        raise ValueError(f"{where}: found {kind_of(value)}, expected a pair: {SHAPES}")
    sides = sides_of(value, task) or SIDES
    require_keys(where, value, (*sides, *EXTRAS, *OF_RECORDS), sides, SHAPES)
    query, target = (read_text(value[side], f"{where}.{side}", limits) for side in sides)
    name = "translated_query"
    translated = {"translation": read_text(value[name], f"{where}.{name}", limits)} if name in value else {}
    return query, target, _extras(translated | value, where, limits)


def _extras(values: dict, where: str, limits: Limits) -> dict:
    extras = {name: read_text(values[name], f"{where}.{name}", limits) for name in EXTRAS if name in values}
    if "language" in extras:
        if not LANGUAGE.search(extras["language"]):
            raise ValueError(f"{where}.language: found no code of ISO 639, expected one such as de, pt-BR or unk")
        extras["language"] = normal_code(extras["language"])
    return extras


def _is_pair(value: object) -> TypeGuard[list]:
    """Return whether a list means one pair: two of anything but lists and objects, which would be pairs themselves."""
    return isinstance(value, list) and len(value) == 2 and not any(isinstance(side, list | dict) for side in value)


def _thresholds(parameters: dict, rule: DecisionRule, languages: list[str | None]) -> list[float]:
    value = parameters.get("threshold", "f1")
    if isinstance(value, str) and value in rule.thresholds:
        return rule.row_thresholds(languages, value).tolist()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        expected = f"{', '.join(rule.thresholds)}, or a number from 0 to 1"
        raise ValueError(f"parameters.threshold: found {kind_of(value)}, expected {expected}")
    return [float(value)] * len(languages)
