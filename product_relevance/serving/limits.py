"""Say what one request may hold, and check single values of it; no message holds a text of the client."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """What one request may hold; the defaults for pairs and body are TEI's, that for documents is Cohere's.

    Attributes:
        pairs: (query, target) pairs.
        documents: texts that are ranked for one query.
        characters: of one text.
        tokens: of all pairs together, as the model reads them; the default is 128 per document.
        body: bytes. `relevance serve` counts them as they arrive; the handler, which gets the body parsed, counts
            those of the texts.
    """

    pairs: int = 32
    documents: int = 1000
    characters: int = 4000
    tokens: int = 128_000
    body: int = 2_000_000

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name}: found {getattr(self, field.name)}, expected at least 1")

    @classmethod
    def from_environment(cls) -> "Limits":
        """Read RELEVANCE_MAX_PAIRS, _DOCUMENTS, _CHARACTERS, _TOKENS and _BODY; the default where one is not set.

        Raises:
            ValueError: a value that is no whole number from 1.
        """
        found = {}
        for field in fields(cls):
            name = f"RELEVANCE_MAX_{field.name.upper()}"
            value = os.environ.get(name, str(field.default))
            if not (value.isascii() and value.isdigit()):
                raise ValueError(f"{name}: found {value!r}, expected a whole number from 1")
            found[field.name] = int(value)
        return cls(**found)


def read_text(value: object, where: str, limits: Limits) -> str:
    """Return a text.

    Args:
        value: of parsed JSON.
        where: its place in the request, for the message.
        limits: of one request.

    Raises:
        ValueError: no string, a blank or too long one, half a surrogate pair.
    """
    if not isinstance(value, str):
        raise ValueError(f"{where}: found {kind_of(value)}, expected a string")
    if not value.strip():
        raise ValueError(f"{where}: found a blank text, expected a query or a target")
    if len(value) > limits.characters:
        raise ValueError(f"{where}: found {len(value)} characters, expected at most {limits.characters}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{where}: found half a surrogate pair, expected Unicode text")
    return value


def read_list(value: object, where: str, most: int, kind: str = "texts") -> list:
    """Return a list with 1 to `most` elements.

    Raises:
        ValueError: another value, an empty list, more elements.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: found {kind_of(value)}, expected a list with at least one element")
    if len(value) > most:
        raise ValueError(f"{where}: found {len(value)} {kind}, expected at most {most}: send fewer at once")
    return value


def read_count(value: object, where: str) -> int:
    """Return a whole number from 1; 2.0 is an integer in JSON.

    Raises:
        ValueError: another value.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 1 and value == value // 1:
        return int(value)
    raise ValueError(f"{where}: found {kind_of(value)}, expected a whole number from 1")


def read_flag(data: Mapping, name: str, default: bool) -> bool:
    """Return a truth value of a request, or its default.

    Raises:
        ValueError: another value.
    """
    value = data.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"{name}: found {kind_of(value)}, expected true or false")
    return value


def require_keys(
    where: str, value: object, known: Collection[str], needed: Collection[str] = (), shapes: str = ""
) -> None:
    """Accept an object with no key but the known ones.

    Args:
        where: its place in the request, for the message.
        value: of parsed JSON.
        known: keys that it may have.
        needed: keys that it must have.
        shapes: what is expected where a key is missing; the needed keys if empty.

    Raises:
        ValueError: no object, a key that is missing or unknown.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where}: found {kind_of(value)}, expected an object with {', '.join(known)}")
    missing = [key for key in needed if key not in value]
    if missing:
        expected = shapes or " and ".join(needed)
        raise ValueError(f"{where}: found no {' and no '.join(missing)}, expected {expected}")
    unknown = len(value.keys() - set(known))
    if unknown:  # not named: a key may be a text of the client that went astray
        raise ValueError(f"{where}: found unknown keys ({unknown}), expected only {', '.join(known)}")


def kind_of(value: object) -> str:
    """Name a value of parsed JSON without its content."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return names.get(type(value), "an object")
