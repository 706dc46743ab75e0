"""What all cards for the Hub share: the templates in model_cards/, metadata on top, and checked names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from product_relevance.hub.markdown import one_line, to_markdown, to_word
from product_relevance.text.language_codes import LANGUAGES, to_iso
from product_relevance.utils.run_record import PublicRunRecord
from product_relevance.utils.shipped import shipped_path
from product_relevance.utils.tasks import TARGET_NAMES

TAGS = ["product-search", "e-commerce", "relevance", "product-relevance"]


@dataclass(frozen=True, kw_only=True)
class CardPlace:
    """Where what a card describes lies on the Hub.

    Attributes:
        repo_id: repository.
        revision: tag, branch or commit that the snippets load.
        path: of the folder or file in the repository, "." for the top.
        pictures: title to path in the repository.

    Raises:
        ValueError: a malformed id, revision or path.
    """

    repo_id: str
    revision: str = "main"
    path: str = "."
    pictures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_repo(self.repo_id)
        checked_revision(self.revision)
        for path in (self.path, *self.pictures.values()):
            checked_path(path)


def render_card(template: str, metadata, values: dict[str, Any]) -> str:
    """Fill a template of model_cards/ and put the metadata on top."""
    body = _environment(shipped_path("model_cards")).get_template(template).render(values)
    return f"---\n{metadata.to_yaml()}\n---\n\n" + re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


@lru_cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        finalize=to_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"python": lambda value: Markup(repr(value)), "link": link_to_repo}
    return environment


def checked_repo(repo_id: str) -> str:
    """Return a repository's id; ValueError where it is malformed."""
    validate_repo_id(repo_id)  # its error is a ValueError and says what is expected
    return repo_id


def link_to_repo(repo_id: str) -> Markup:
    """Return Markdown that links a repository on the Hub."""
    return Markup(f"[{checked_repo(repo_id)}](https://huggingface.co/{repo_id})")


def checked_revision(revision: str) -> str:
    """Return a tag, a branch or a commit; ValueError where it is malformed."""
    if not re.fullmatch(r"\w[\w./-]*", revision, re.ASCII):
        raise ValueError(f"revision {one_line(revision)!r}: expected a tag, a branch or a commit")
    return revision


def checked_path(path: str) -> str:
    """Return a path inside a repository; ValueError where it is malformed."""
    if not re.fullmatch(r"[\w.][\w./-]*", path, re.ASCII) or ".." in path.split("/"):
        raise ValueError(f"path {one_line(path)!r}: expected one inside the repository, of letters, digits and ._-/")
    return path


def common_values(run: PublicRunRecord, place: CardPlace) -> dict[str, Any]:
    """Return what the templates of all cards of a run take."""
    data = run.data
    return {
        "run": run,
        "data": data,
        "repo_id": place.repo_id,
        "revision": place.revision,
        "target": TARGET_NAMES[run.task],
        "languages": [_named(code) for code in data["languages"]],
        "others": [_named(code) for code in LANGUAGES if code not in data["languages"]],
        "version": to_word(run.versions.get("product_relevance")),
        "year": to_word(str(run.finished or "")[:4]),
    }


def _named(code: str) -> str:
    return f"{LANGUAGES[code]} ({to_iso(code)})" if code in LANGUAGES else code


def iso_codes(languages: Iterable[str]) -> list[str]:
    """Return the ISO 639 codes of languages, without codes that stand for an unknown language."""
    codes = {to_iso(code) for code in languages} - {"unk", "und"}
    return sorted(code for code in codes if re.fullmatch("[a-z]{2,3}", code))
