"""What a person asks on the demo page, checked, and what the page answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from product_relevance.serving.limits import Limits, read_text
from product_relevance.text.language_codes import UNDETERMINED, UNKNOWN, is_code, normal_code
from product_relevance.text.languages import identify_languages

TOP = 20  # targets that are shown, unless the person asks for another number


@dataclass(frozen=True)
class DemoQuestion:
    """What a person asks.

    Attributes:
        query: raw text.
        targets: category paths or item titles.
        language: code of the query's language; identified if empty.
        translation: of the query into English; none if empty.
        task: QC or QI; empty for a model of one task.
        top_k: how many targets are shown, best first.
    """

    query: str
    targets: Sequence[str]
    language: str = ""
    translation: str = ""
    task: str = ""
    top_k: int = TOP


@dataclass(frozen=True)
class ScoredTarget:
    """One target and what the model says of it.

    Attributes:
        target: as it was given.
        score: mean of the folds, 0 to 1.
        folds: name of each fold to its score.
        threshold: from which this pair counts as relevant.
        decision: relevant or irrelevant.
        grade: of a model of grades; None for one of two labels.
        shares: probability of each label, from 0 up.
        read: text of the pair as the model read it.
        tokens: of that text.
        shortened: the pair was longer than the model reads.
    """

    target: str
    score: float
    folds: dict[str, float]
    threshold: float
    decision: str
    grade: int | None
    shares: list[float]
    read: str
    tokens: int
    shortened: bool


@dataclass(frozen=True)
class DemoAnswer:
    """What the page shows.

    Attributes:
        places: the best targets, best first.
        count: how many targets were scored.
        language: code that was used, given or identified.
        identified: the language was identified, not given.
        seconds: to tokenise and score all targets.
    """

    places: list[ScoredTarget]
    count: int
    language: str
    identified: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the answer as the page's API gives it."""
        return asdict(self)


def check_question(question: DemoQuestion, limits: Limits) -> DemoQuestion:
    """Return a question whose targets are stripped, without blank ones.

    Raises:
        ValueError: an empty query, no target, too many or too long texts; the message names the field of the page.
    """
    if not question.query.strip():
        raise ValueError("Query: found no text, expected what a person searches for")
    read_text(question.query, "Query", limits)
    if question.translation.strip():
        read_text(question.translation, "English translation", limits)
    targets = [target.strip() for target in question.targets if target.strip()]
    if not targets:
        raise ValueError("Targets: found no text, expected at least one, one per line")
    if len(targets) > limits.documents:
        found = f"Targets: found {len(targets):,} lines, expected at most {limits.documents:,}"
        raise ValueError(f"{found}. Take fewer here, or order the whole file with relevance rank")
    for place, target in enumerate(targets, start=1):
        read_text(target, f"Target {place}", limits)
    if question.top_k < 1:
        raise ValueError(f"Targets shown: found {question.top_k}, expected a whole number from 1")
    return replace(question, targets=targets)


def find_language(question: DemoQuestion) -> tuple[str, bool]:
    """Return the code of the query's language, and whether it was identified.

    Raises:
        ValueError: what was given is no code.
    """
    if given := question.language.strip():
        code = normal_code(given)
        if not is_code(code):
            raise ValueError(f"Language: found {given!r}, expected a code of ISO 639 such as de or pt-BR, or nothing")
        return code, False
    (found,) = identify_languages([question.query])
    return UNKNOWN if found == UNDETERMINED else found, True


def read_catalogue(path: str | Path) -> list[str]:
    """Read the targets of a text file in UTF-8, one per line; blank lines are passed over.

    Raises:
        ValueError: no text in UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        expected = "expected a text file with one target per line"
        raise ValueError(f"{Path(path).name}: cannot be read as text in UTF-8, {expected}") from None
    return [line for line in text.splitlines() if line.strip()]
