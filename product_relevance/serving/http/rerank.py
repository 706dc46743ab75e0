"""Read /v1/rerank and /v2/rerank as clients of Cohere and Jina send them, and answer in the same shape."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from product_relevance.serving.limits import Limits, kind_of, read_count, read_flag, read_list, read_text, require_keys
from product_relevance.serving.protocol import Question, Row, make_question, parse_ranking

NEEDED = ("query", "documents")
# Clients send these as well, and nothing here depends on them: there is one model, and each pair is truncated as in
# training.
UNREAD = ("model", "max_chunks_per_doc", "max_tokens_per_doc", "priority", "truncation")
OPTIONAL = ("top_n", "return_documents", "rank_fields", *UNREAD)  # null means left out
KEYS = (*NEEDED, *OPTIONAL, "parameters")


def parse_rerank(data: object, ensemble, limits: Limits) -> Question:
    """Read {"query": ..., "documents": [...]}.

    Args:
        data: parsed JSON; documents are texts, or objects with `text` or the fields that `rank_fields` names.
        ensemble: its thresholds and template decide what parameters mean.
        limits: of one request.

    Raises:
        ValueError: another shape, an unknown key, a limit. The message never holds a text of the client.
    """
    require_keys("body", data, KEYS, NEEDED)
    assert isinstance(data, dict)  # as was just required
    data = {key: value for key, value in data.items() if value is not None or key not in OPTIONAL}
    documents = read_list(data["documents"], "documents", limits.documents, "documents")
    fields = _field_names(data.get("rank_fields", ["text"]), limits)
    query = read_text(data["query"], "query", limits)
    rows: list[Row] = [(query, _document_text(value, i, fields, limits), {}) for i, value in enumerate(documents)]
    question = make_question(rows, {"parameters": data.get("parameters", {})}, ensemble, limits, ranking=True)
    shown = documents if read_flag(data, "return_documents", False) else None
    model = data.get("model", "product-relevance")
    top = read_count(data["top_n"], "top_n") if "top_n" in data else question.top_k
    return replace(question, top_k=top, wrap=RerankAnswer(read_text(model, "model", limits), shown))


def parse_either(data: object, ensemble, limits: Limits) -> Question:
    """Read a request for /rerank: with `documents`, or with `texts` as TEI has it."""
    if isinstance(data, dict) and "documents" in data:
        return parse_rerank(data, ensemble, limits)
    return parse_ranking(data, ensemble, limits)


def _field_names(value: object, limits: Limits) -> list[str]:
    names = read_list(value, "rank_fields", limits.documents, "fields")
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"rank_fields[{i}]: found {kind_of(name)}, expected the name of a field")
    return names


def _document_text(value: object, place: int, fields: list[str], limits: Limits) -> str:
    where = f"documents[{place}]"
    if isinstance(value, str):
        return read_text(value, where, limits)
    if not isinstance(value, dict):
        raise ValueError(f"{where}: found {kind_of(value)}, expected a text or an object with one")
    missing = [i for i, field in enumerate(fields) if field not in value]
    if missing:
        raise ValueError(f"{where}: found no field that rank_fields[{missing[0]}] names (by default text)")
    return read_text(" ".join(read_text(value[field], where, limits) for field in fields), where, limits)


@dataclass(frozen=True)
class RerankAnswer:
    """Puts places of a ranking into an answer of /v1/rerank and /v2/rerank.

    Attributes:
        model: the name that the client gave.
        documents: as the client sent them; left out of the answer if None.
    """

    model: str
    documents: list | None

    def __call__(self, places: list[dict], tokens: int) -> dict:
        """Return the answer.

        Args:
            places: from `protocol.build_answer`, best first.
            tokens: that the model read.
        """
        return {
            "id": str(uuid.uuid4()),
            "model": self.model,
            "results": [self._result(place) for place in places],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 0}},
            "usage": {"total_tokens": tokens},
        }

    def _result(self, place: Mapping) -> dict:
        result = {
            "index": place["index"],
            "relevance_score": place["score"],
            "relevant": place["relevant"],
        }
        if self.documents is None:
            return result
        document = self.documents[place["index"]]
        return result | {"document": {"text": document} if isinstance(document, str) else document}
