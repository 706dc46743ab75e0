"""Describe the service for its OpenAPI page: the requests that `protocol` accepts and the answers it gives."""

from collections.abc import Mapping

from fastapi import Security
from fastapi.security import HTTPBearer

from product_relevance.data.pairs import pair_forms
from product_relevance.serving.http.rerank import UNREAD
from product_relevance.serving.limits import Limits
from product_relevance.serving.protocol import LANGUAGE, OF_RECORDS
from product_relevance.utils.tasks import LABELS

ERRORS = {
    400: "the request is at fault; the error says what was found and expected",
    401: "the server has an API key, and the request does not",
    408: "the body did not arrive in time",
    413: "the body is too large, as it came or unpacked",
    415: "the body is not application/json, or encoded by anything but gzip",
    429: "the queue is full; try again after Retry-After seconds",
    500: "scoring failed",
    504: "no answer in time",
}
# Python takes these control characters for spaces as well, JSON Schema's regular expressions do not
NOT_BLANK = r"[^\s\x1c-\x1f\x85]"
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
EXAMPLES: dict[str, dict] = {
    "predict": {"inputs": ["usb kabel", "shoes"]},
    "rerank": {"query": "usb kabel", "texts": ["cables", "shoes"]},
    "documents": {"query": "usb kabel", "documents": ["cables", "shoes"], "top_n": 1},
}


def describe_endpoints(limits: Limits, thresholds: Mapping[str, float], task: str, grades: int = 2) -> dict[str, dict]:
    """Return FastAPI's keyword arguments of each endpoint.

    Args:
        limits: of one request.
        thresholds: of the ensemble; their names may be asked for.
        task: of the ensemble; says which records it takes.
        grades: of the ensemble, number of labels; of more than two the answers hold grade and distribution.
    """
    pairs, ranking = _pairs(limits, thresholds, task), _ranking(limits, thresholds)
    documents, beside = _documents(limits, thresholds), _grade(grades) if grades > 2 else {}
    inner = _object({"inputs": _ranking_alone(limits)}, {"parameters": _parameters(limits, thresholds)})
    health = {200: _content(_object({"status": {"type": "string"}}), "ready"), 503: _failure("it has stopped")}
    return {
        "predict": _post("predict", {"anyOf": [pairs, ranking, inner]}, {"anyOf": [_labels(beside), _places(beside)]}),
        "rerank": _post("rerank", {"anyOf": [ranking, documents]}, {"anyOf": [_places(beside), _results()]}),
        "v1/rerank": _post("documents", documents, _results()),
        "v2/rerank": _post("documents", documents, _results()),
        "health": {"responses": health},
        "metrics": {},
    }


def with_key(described: dict[str, dict], everywhere: bool) -> dict[str, dict]:
    """Say of each endpoint of `describe_endpoints` that it asks for an API key, of those to GET if `everywhere`.

    The middleware `access.RequireKey` asks for the key; this only describes it.
    """
    asks = {"dependencies": [Security(HTTPBearer(auto_error=False, description="the key of this server"))]}
    failure = _failure(ERRORS[401])
    return {
        name: endpoint | asks | {"responses": endpoint.get("responses", {}) | {401: failure}}
        if everywhere or name not in ("health", "metrics")
        else endpoint
        for name, endpoint in described.items()
    }


def _post(example: str, body: dict, result: dict) -> dict:
    responses = {200: _content(result, "the answer")} | {code: _failure(text) for code, text in ERRORS.items()}
    request = {"required": True, "content": {"application/json": {"schema": body, "example": EXAMPLES[example]}}}
    return {"responses": responses, "openapi_extra": {"requestBody": request}}


def _content(schema: dict, description: str) -> dict:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _failure(description: str) -> dict:
    return _content(_object({"error": {"type": "string"}, "error_type": {"type": "string"}}), description)


def _object(properties: dict, optional: dict | None = None) -> dict:
    return {
        "type": "object",
        "properties": properties | (optional or {}),
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(limits: Limits) -> dict:
    return {"type": "string", "minLength": 1, "maxLength": limits.characters, "pattern": NOT_BLANK}


def _list(items: dict, most: int) -> dict:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _extras(limits: Limits) -> dict:
    meaning = "a code of ISO 639, also with region or script: de, pt-BR, zh-Hans"
    code = _text(limits) | {"pattern": LANGUAGE.pattern, "description": meaning}
    return {"language": code, "translation": _text(limits)}


def _parameters(limits: Limits, thresholds: Mapping[str, float]) -> dict:
    named = {"type": "string", "enum": sorted(thresholds)}
    threshold = {"anyOf": [named, {"type": "number", "minimum": 0, "maximum": 1}]}
    return _object({}, _extras(limits) | {"threshold": threshold, "top_k": {"type": "integer", "minimum": 1}})


def _options() -> dict:
    return {"truncate": {"type": "boolean"}, "raw_scores": {"type": "boolean", "enum": [False]}}


def _pairs(limits: Limits, thresholds: Mapping[str, float], task: str) -> dict:
    more = _extras(limits) | {name: _text(limits) if name == "translated_query" else {} for name in OF_RECORDS}
    named = [_object(dict.fromkeys(form, _text(limits)), more) for form in pair_forms(task)]
    plain = {"type": "array", "items": _text(limits), "minItems": 2, "maxItems": 2}
    pair = {"anyOf": [*named, plain]}
    inputs = {"anyOf": [pair, _list(pair, limits.pairs)]}
    return _object({"inputs": inputs}, {"parameters": _parameters(limits, thresholds), **_options()})


def _ranking(limits: Limits, thresholds: Mapping[str, float]) -> dict:
    alone = _ranking_alone(limits)
    return alone | {"properties": alone["properties"] | {"parameters": _parameters(limits, thresholds)}}


def _ranking_alone(limits: Limits) -> dict:
    asked = {"query": _text(limits), "texts": _list(_text(limits), limits.documents)}
    return _object(asked, {"return_text": {"type": "boolean"}, **_options()})


def _grade(grades: int) -> dict:
    shares = {"type": "array", "items": SHARE, "minItems": grades, "maxItems": grades}
    return {"grade": {"type": "integer", "minimum": 0, "maximum": grades - 1}, "grade_probabilities": shares}


def _labels(beside: dict) -> dict:
    label = {"label": {"type": "string", "enum": list(LABELS.values())}, "score": SHARE}
    return {"type": "array", "items": _list(_object(label | {"probability": SHARE, "threshold": SHARE} | beside), 2)}


def _places(beside: dict) -> dict:
    place = {"index": {"type": "integer", "minimum": 0}, "score": {"type": "number"}, "relevant": {"type": "boolean"}}
    return {"type": "array", "items": _object(place | beside, {"text": {"type": "string"}})}


def _documents(limits: Limits, thresholds: Mapping[str, float]) -> dict:
    text = _text(limits)
    asked = {"query": text, "documents": _list(text, limits.documents)}
    unread: dict[str, dict] = {name: {"description": "not read"} for name in UNREAD}
    more = unread | {
        "top_n": {"type": ["integer", "null"], "minimum": 1},
        "return_documents": {"type": ["boolean", "null"]},
        "parameters": _parameters(limits, thresholds),
        "model": text | {"type": ["string", "null"]},
    }
    names = {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1, "maxItems": limits.documents}
    document = {"type": "object", "properties": {"text": text}, "required": ["text"]}
    mixed = asked | {"documents": _list({"anyOf": [text, document]}, limits.documents)}
    return {"anyOf": [_object(asked, more | {"rank_fields": names}), _object(mixed, more)]}


def _results() -> dict:
    result = {"index": {"type": "integer", "minimum": 0}, "relevance_score": SHARE, "relevant": {"type": "boolean"}}
    meta = {"type": "object"}
    answer = {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "results": {"type": "array", "items": _object(result, {"document": {"type": "object"}})},
        "meta": meta,
        "usage": _object({"total_tokens": {"type": "integer", "minimum": 0}}),
    }
    return _object(answer)
