"""Read the prompts of yes/no scoring: texts with places for query, translation, target and answer."""

import re
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypedDict

SHIPPED = Path(__file__).parent / "prompts"
PLACES = ("query", "translation", "target", "target_kind", "reasoning")
_FORM = re.compile(
    r"(?P<head>.*?)\{query\}(?:(?P<joiner>.*?)\{translation\})?(?P<middle>.*?)\{target\}(?P<tail>.*?)"
    r"(?:\{reasoning\}(?P<stem>.*?))?\{(?P<yes>[^{}/\s]+)/(?P<no>[^{}/\s]+)\}\s*",
    re.DOTALL,
)


class PromptParts(TypedDict):
    """A prompt split at its places; joiner and stem are None where it has no such place."""

    head: str
    joiner: str | None
    middle: str
    tail: str
    stem: str | None
    yes: str
    no: str


class PromptChoice(Protocol):
    """What a run's ModelArguments say about its prompt; they stand in a later room."""

    head: str
    prompt: str | None
    chat_template: bool


@dataclass(frozen=True)
class Prompt:
    """What surrounds query and target when a language model answers yes or no; stored whole with a run.

    The text holds `{query}`, then perhaps `{translation}`, then `{target}`, and ends in `{yes/no}`: the two words that
    may follow it, the one for "relevant" first. `{target_kind}` becomes "category path" or "item title". What follows
    `{reasoning}` stands between the steps that a model may write down and its answer.

    Attributes:
        name: of the file, for readers.
        text: the prompt.
        chat: put it into the tokenizer's chat template as the user's turn, as instruct models know it.
    """

    name: str
    text: str
    chat: bool = False

    def __post_init__(self) -> None:
        split_prompt(self.name, self.text)

    @cached_property
    def parts(self) -> PromptParts:
        """The text split at its places, see `split_prompt`."""
        return split_prompt(self.name, self.text)

    @property
    def joiner(self) -> str:
        """What stands between a query and its translation where both are shown."""
        return self.parts["joiner"] or " - "

    @property
    def answers(self) -> tuple[str, str]:
        """The words for (irrelevant, relevant), in the order of the labels."""
        return self.parts["no"], self.parts["yes"]

    def sides(self, text: str, target: str) -> tuple[str, str]:
        """Give both texts the blank that the prompt has in front of them: tokens of words begin with their blank."""
        return _after(self.parts["head"], text), _after(self.parts["middle"], target)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Prompt":
        """Restore the prompt of a run.

        Raises:
            ValueError: a key that is missing, unknown or of the wrong type, or a text without its places.
        """
        kinds = {field.name: field.type for field in fields(cls)}
        if not isinstance(values, dict) or {name: type(value) for name, value in values.items()} != kinds:
            raise ValueError(
                f"prompt: found {str(values)[:120]}, expected name, text and chat; is it a newer version's?"
            )
        return cls(**values)


def split_prompt(name: str, text: str) -> PromptParts:
    """Split a prompt at its places.

    Args:
        name: for messages.
        text: of the prompt.

    Returns:
        The parts between the places, and the two answers.

    Raises:
        ValueError: an unknown place, one that is missing, double or out of order, or no words between query,
            target and answer.
    """
    where = f"prompt {name}"
    form = _FORM.fullmatch(text)
    found = re.findall(r"\{(\w+)\}", text)
    unknown = [place for place in found if place not in PLACES]
    double = [place for place in PLACES if place != "target_kind" and found.count(place) > 1]
    if unknown or double:
        what = f"unknown {{{unknown[0]}}}" if unknown else f"{{{double[0]}}} twice"
        raise ValueError(f"{where}: found {what}, expected {', '.join(f'{{{place}}}' for place in PLACES)}")
    if form is None:
        raise ValueError(
            f"{where}: expected {{query}}, then perhaps {{translation}}, then {{target}}, and {{yes/no}} last"
        )
    parts = PromptParts(
        head=form["head"],
        joiner=form["joiner"],
        middle=form["middle"],
        tail=form["tail"],
        stem=form["stem"],
        yes=form["yes"],
        no=form["no"],
    )
    between = {
        "{query} and {target}": parts["middle"],
        "{target} and the answer": parts["tail"] + (parts["stem"] or ""),
    }
    for places, words in between.items():
        if not words.strip(" "):
            raise ValueError(f"{where}: found nothing between {places}, expected words or a new line")
    return parts


def chosen_prompt(arguments: PromptChoice) -> Prompt | None:
    """Return the prompt of a run's ModelArguments, None for a classifier."""
    return load_prompt(arguments.prompt or "plain", arguments.chat_template) if arguments.head == "yes_no" else None


def _after(part: str, side: str) -> str:
    return f" {side}" if side and part.endswith(" ") else side


def load_prompt(name: str, chat: bool = False) -> Prompt:
    """Read a prompt.

    Args:
        name: a file, or the name of a shipped one: plain, breakdown, qwen3-reranker. Lines in front that begin with #
            are remarks.
        chat: put it into the tokenizer's chat template.

    Raises:
        ValueError: no such file, or one with a defect.
    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.txt"))}
    path = shipped.get(name, Path(name))
    if not path.is_file():
        raise ValueError(f"--prompt {name}: found no such file, expected one, or one of {', '.join(shipped)}")
    text = path.read_text(encoding="utf-8")
    return Prompt(path.stem, re.sub(r"\A(#[^\n]*\n)+", "", text), chat)
