"""Noisy variants of queries as people type them: slips on their keyboard, lost accents, shortened and joined words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import pandas as pd

from product_relevance.data.provenance import ORIGINAL, append_rows, draw_share
from product_relevance.text.cleaning import clean_text

_KEYBOARDS = {
    "qwerty": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "azerty": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
    "qwertz": ("qwertzuiop", "asdfghjkl", "yxcvbnm"),
}
_KEYBOARD_OF = {"fr": "azerty", "de": "qwertz"}  # the others type Latin letters on qwerty
# Letters whose mark is no combining character of its own.
_PLAIN = str.maketrans({"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ø": "o", "Ø": "O", "ß": "ss", "æ": "ae", "œ": "oe"})
_LATIN = re.compile("[A-Za-z\xaa\xba\xc0-\u024f\u1e00-\u1eff]")
_NUMBER = re.compile(r"\d+")
# Letters of a word that is changed, in Latin and in denser scripts: in a shorter one a slip makes another word.
SHORTEST, SHORTEST_DENSE = 4, 3
ANY_SCRIPT = ("deletion", "transposition")

T = TypeVar("T")


class NoiseSource(NamedTuple):
    """A query that a variant is made of.

    Attributes:
        query: Clean text.
        language: Its code, which decides the keyboard.
        english: Its translation, for code-mixing.
        key: Of the row, for the draws.
    """

    query: str
    language: str
    english: str
    key: str


@dataclass(frozen=True)
class Pick:
    """The draws of one kind of noise for one row: the same seed, kind and row draw the same."""

    seed: int
    kind: str
    key: str

    def __call__(self, what: str, options: Sequence[T]) -> T:
        """Draw one of the options for what is named."""
        return options[int(draw_share(self.seed, self.kind, self.key, what) * len(options))]


Kind = Callable[[NoiseSource, Pick], str | None]
Edit = Callable[[list[str], str, Pick], list[str] | None]  # of a word's clusters in a language


def add_noise(
    frame: pd.DataFrame,
    rate: float = 0.1,
    kinds: Sequence[str] | None = None,
    *,
    lowercase: bool = False,
    seed: int = 42,
) -> pd.DataFrame:
    """Append a noisy variant of some rows' queries, with their labels.

    A variant differs in one place from the clean query. Words with digits stay whole, and numbers keep their value:
    they name the product. Queries with letters of another script than Latin get deletions and transpositions only.
    There are no doubled blanks, since cleaning takes them out before the model reads a query.

    Args:
        frame: Records with `query`; code-mixing needs `translated_query`.
        rate: Share of the rows that get a variant; noisy ones get no further noise.
        kinds: Among KINDS; of those that a query allows one is drawn. None takes all.
        lowercase: As the columns were made.
        seed: Another one draws other rows and places.

    Returns:
        The records followed by the variants (method "noise", `detail` the kind); `attrs["made"]["noise"]` counts.

    Raises:
        ValueError: A rate or a kind that is none.
    """
    kinds = tuple(KINDS) if kinds is None else tuple(kinds)
    check_noise_options(rate, kinds)
    methods = frame["method"] if "method" in frame else pd.Series(ORIGINAL, index=frame.index)
    rows: list[int] = []
    changes: dict[str, list[str]] = {name: [] for name in ("origin_query", "query", "translated_query", "detail")}
    for row, (source, method) in enumerate(zip(_sources(frame), methods, strict=True)):
        if method == "noise" or draw_share(seed, "noise", source.key) >= rate:
            continue
        if found := make_variant(source, kinds, seed, lowercase):
            text, kind = found
            rows.append(row)
            own = text if source.english == source.query else source.english
            for name, value in zip(changes, (text, text, own, kind), strict=True):
                changes[name].append(value)
    return append_rows(frame, rows, changes, "noise", seed)


def _sources(frame: pd.DataFrame) -> list[NoiseSource]:
    queries = frame["query"].fillna("").tolist()
    english = frame["translated_query"].fillna("").tolist() if "translated_query" in frame else queries
    languages, ids = frame["language"].fillna("").tolist(), frame["id"].astype(str).tolist()
    return [NoiseSource(*row) for row in zip(queries, languages, english, ids, strict=True)]


def check_noise_options(rate: float, kinds: Sequence[str] | None = None) -> None:
    """Raise ValueError for options that `add_noise` cannot use.

    Raises:
        ValueError: A rate or a kind that is none.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate: found {rate}, expected a share from 0 to 1")
    if unknown := set(kinds or ()) - set(KINDS):
        raise ValueError(f"kinds: found {', '.join(sorted(unknown))}, expected among {', '.join(KINDS)}")


def make_variant(
    source: NoiseSource, kinds: Sequence[str], seed: int, lowercase: bool = False
) -> tuple[str, str] | None:
    """Make one noisy variant of a query.

    Args:
        source: The query.
        kinds: To draw from, among KINDS.
        seed: Of the draws.
        lowercase: As the columns were made.

    Returns:
        (the variant, clean; its kind), or None where no kind changes this query.
    """
    query, key = source.query, source.key
    plain = all(_LATIN.match(c) for c in query if c.isalpha())
    for kind in sorted(kinds, key=lambda name: draw_share(seed, "kind", key, name)):
        if plain or kind in ANY_SCRIPT:
            variant = KINDS[kind](source, Pick(seed, kind, key))
            variant = clean_text(variant, lowercase) if variant else None
            if variant and variant != query and _numbers(variant) == _numbers(query):
                return variant, kind
    return None


def _numbers(text: str) -> Counter[str]:
    return Counter(_NUMBER.findall(text))


def _clusters(word: str) -> list[str]:
    """Split a word into characters with the marks that belong to them."""
    clusters: list[str] = []
    for c in word:
        if clusters and (unicodedata.category(c)[0] == "M" or c == "\u200d" or clusters[-1].endswith("\u200d")):
            clusters[-1] += c
        else:
            clusters.append(c)
    return clusters


def _is_word(parts: list[str], shortest: int) -> bool:
    # Letters only: a word with a digit is a model code.
    least = shortest if parts and _LATIN.match(parts[0]) else SHORTEST_DENSE
    return len(parts) >= least and all(part[0].isalpha() for part in parts)


def _in_a_word(edit: Edit, shortest: int = SHORTEST) -> Kind:
    """Make a kind of noise out of an edit of one word's clusters."""

    def vary_word(source: NoiseSource, pick: Pick) -> str | None:
        words = source.query.split(" ")
        split = [_clusters(word) for word in words]
        fit = [i for i, parts in enumerate(split) if _is_word(parts, shortest)]
        if not fit:
            return None
        chosen = pick("word", fit)
        changed = edit(split[chosen], source.language, pick)
        return " ".join([*words[:chosen], "".join(changed), *words[chosen + 1 :]]) if changed else None

    return vary_word


def _neighbour(word: list[str], language: str, pick: Pick) -> list[str] | None:
    near = NEIGHBOURS[_KEYBOARD_OF.get(language, "qwerty")]
    places = [i for i in range(1, len(word)) if word[i].lower() in near]
    if not places:
        return None
    place = pick("place", places)
    letter = pick("letter", near[word[place].lower()])
    return [*word[:place], letter.upper() if word[place].isupper() else letter, *word[place + 1 :]]


def _deletion(word: list[str], language: str, pick: Pick) -> list[str]:
    place = pick("place", range(1, len(word)))
    return word[:place] + word[place + 1 :]


def _transposition(word: list[str], language: str, pick: Pick) -> list[str] | None:
    places = [i for i in range(1, len(word) - 1) if word[i] != word[i + 1]]
    if not places:
        return None
    place = pick("place", places)
    return [*word[:place], word[place + 1], word[place], *word[place + 2 :]]


def _truncation(word: list[str], language: str, pick: Pick) -> list[str]:
    return word[: pick("length", range(max(3, len(word) // 2), len(word)))]


def _split(word: list[str], language: str, pick: Pick) -> list[str]:
    place = pick("place", range(2, len(word) - 1))
    return [*word[:place], " ", *word[place:]]


def _joined(source: NoiseSource, pick: Pick) -> str | None:
    query = source.query
    places = [
        m.start() for m in re.finditer(" ", query) if not (query[m.start() - 1].isdigit() and query[m.end()].isdigit())
    ]
    if not places:
        return None
    place = pick("place", places)
    return query[:place] + query[place + 1 :]


def _accents(source: NoiseSource, pick: Pick) -> str:
    apart = unicodedata.normalize("NFD", source.query.translate(_PLAIN))
    return unicodedata.normalize("NFC", "".join(c for c in apart if not "\u0300" <= c <= "\u036f"))


def _case(source: NoiseSource, pick: Pick) -> str | None:
    query = source.query
    forms = sorted({query.upper(), query.lower(), query.title()} - {query})
    return pick("form", forms) if forms else None


def _mix(source: NoiseSource, pick: Pick) -> str | None:
    words, others = source.query.split(" "), source.english.split(" ")
    if source.english == source.query or min(len(words), len(others)) < 2:
        return None
    here = pick("place", range(1, len(words)))
    there = min(max(round(here / len(words) * len(others)), 1), len(others) - 1)
    mixed = pick("order", (words[:here] + others[there:], others[:there] + words[here:]))
    return " ".join(mixed)


def _neighbours(rows: Sequence[str]) -> dict[str, str]:
    # Each row of keys is shifted to the right by half a key: a key touches two of the row below.
    keys = {(r, c): letter for r, row in enumerate(rows) for c, letter in enumerate(row)}
    around = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
    return {
        letter: "".join(keys[r + dr, c + dc] for dr, dc in around if (r + dr, c + dc) in keys)
        for (r, c), letter in keys.items()
    }


NEIGHBOURS = {name: _neighbours(rows) for name, rows in _KEYBOARDS.items()}
KINDS: dict[str, Kind] = {
    "neighbour": _in_a_word(_neighbour),
    "deletion": _in_a_word(_deletion),
    "transposition": _in_a_word(_transposition),
    "truncation": _in_a_word(_truncation, 5),
    "split": _in_a_word(_split, 5),
    "joined": _joined,
    "accents": _accents,
    "case": _case,
    "mix": _mix,
}
