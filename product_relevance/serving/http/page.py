"""Make the page of GET /: a form to try the model, and the endpoints of the OpenAPI document; all from this server."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment

from product_relevance.serving.http.openapi import EXAMPLES
from product_relevance.serving.limits import Limits
from product_relevance.utils.tasks import TARGET_NAMES

LONGEST = 200  # characters of a pattern that is shown; that of all codes of languages is longer, and says nothing


@dataclass(frozen=True)
class PageFacts:
    """What the page says of the model and its server.

    Attributes:
        task: QC or QI.
        threshold: from which a pair counts as relevant.
        language_needed: the model reads the language of the query.
        key_needed: clients send an API key.
        limits: of one request.
    """

    task: str
    threshold: float
    language_needed: bool
    key_needed: bool
    limits: Limits


def render_page(document: dict[str, Any], facts: PageFacts) -> tuple[str, dict[str, str]]:
    """Return the HTML of the page, and its headers.

    Args:
        document: OpenAPI.
        facts: of model and server.

    The headers let the browser load nothing and run no script but the page's own.
    """
    environment = Environment(autoescape=True, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    html = template.render(
        title=document["info"]["title"],
        version=document["info"]["version"],
        target=TARGET_NAMES[facts.task],
        threshold=f"{facts.threshold:.3f}",
        language_needed=facts.language_needed,
        key_needed=facts.key_needed,
        limits=facts.limits,
        example=EXAMPLES["rerank"],
        endpoints=[
            _endpoint(path, method, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ],
    )
    return html, {"Content-Security-Policy": _policy(html), "X-Content-Type-Options": "nosniff"}


def _endpoint(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    named = (("Request", body.get("schema")), ("Answer", answer.get("schema")))
    return {
        "path": path,
        "method": method.upper(),
        "description": operation["description"],
        "example": json.dumps(body["example"]) if "example" in body else "",
        "statuses": [(status, response["description"]) for status, response in operation["responses"].items()],
        "schemas": [(name, json.dumps(_shown(schema), indent=2)) for name, schema in named if schema],
    }


def _shown(schema: Any) -> Any:
    """Leave out patterns that are too long to read."""
    if isinstance(schema, list):
        return [_shown(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: _shown(v) for k, v in schema.items() if not (k == "pattern" and len(str(v)) > LONGEST)}


def _policy(html: str) -> str:
    """Return the Content-Security-Policy that allows the page's own style and script alone."""
    style, script = (_hash_of(html, tag) for tag in ("style", "script"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash_of(html: str, tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.S)
    assert found  # page.html has one of each
    return "sha256-" + base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
