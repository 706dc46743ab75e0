"""Clean texts for the model, and make the keys under which texts count as the same."""

import html
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from product_relevance.text.taxonomy import LEVEL_BREAK

# `\"`, `\/` and `\\"`: JSON or SQL escapes that were applied once or twice too often.
_ESCAPED_SYMBOL = re.compile(r"""\\+(["'/])""")
_ESCAPED_BLANK = re.compile(r"\\+[nrt]")
_ESCAPED_CODE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})(?:\\+u([dD][c-fC-F][0-9a-fA-F]{2}))?|x([0-9a-fA-F]{2}))")
# The closing `;` is asked for: `AT&T` and `?a=1&copy=2` are no entities.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

# Controls, soft hyphen, zero-width and bidi characters, Hangul fillers, lone surrogates (no UTF-8 holds them) and
# private-use characters. A fixed list, not unicodedata.category: it must not change with Python's Unicode version.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\ue000-\uf8ff\U000e0001]"
)
# ZWNJ and ZWJ change the reading of Persian, Urdu and Indic words and glue emoji (family, flags): between two such
# characters one is kept. Anywhere else it is debris of copying.
_JOINERS = re.compile("[\u200c\u200d]+")
_JOINABLE = re.compile(
    "[\u0600-\u08ff\u0900-\u0dff\u2600-\u27bf\ufb50-\ufdff\ufe0f\ufe70-\ufeff\U0001f000-\U0001faff]"
)
# NFKC turns 2½ into 21⁄2, another number: a blank first makes it 2 1/2.
_MIXED_FRACTION = re.compile(r"(?<=\d)(?=[\xbc-\xbe\u2150-\u215e])")

CACHED = 2**15  # texts: those of a chunk come again when it is rendered, paths and titles with other queries
_SYMBOLS = r"\s%*^|\\/_=,;:!?~•·…。、<>\ufffd"
_START = re.compile(rf"(?:[{_SYMBOLS}]|[.–—-](?!\d))+")  # kept: #7, +6, $5, -5°, .440, (14), [Sony], @, &
# On the reversed text; kept: 100%, C++, 360°, a1€, (spe).
_END = re.compile(rf"(?:[{_SYMBOLS.replace('%', '')}.–—-]|%(?!\s*\d))+")
_QUOTES = ('"“”„‟«»', "'‘’‚‛`´")
_ALIKE = str.maketrans(
    {**dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("‘’‚‛`´", "'"), **dict.fromkeys("‐‑‒–—−", "-")}
)
_BOUND_TO_TEXT = re.compile("[\u200c\u200d\ufe0e\ufe0f]")


@lru_cache(CACHED)
def clean_text(text: str, lowercase: bool = False) -> str:
    r"""Clean one query or title; cleaning what is clean changes nothing.

    Unicode NFKC; escape debris (`\"`, `\/`, `\u00e9`, `\n`) and HTML entities decoded, however often they were
    applied; control, zero-width and bidi characters removed; quotes and symbols such as `%` or `*` at the ends
    removed unless they carry meaning (`100%`, `14"`, `-5°`, `#7`, `.440`); blanks collapsed.

    Args:
        text: Any string.
        lowercase: Lower-case it too.

    Returns:
        The clean text. Where the ends were all there was (`***`), they stay; only a text without any visible
        character becomes "".
    """
    decoded = _decode(text, lowercase)
    stripped = _settle(_strip_ends, decoded)
    return stripped if any(c.isalnum() for c in stripped) else decoded


@lru_cache(CACHED)
def clean_path(path: str, lowercase: bool = False) -> str:
    """Clean a category path level by level, so that no level appears, vanishes or moves.

    A comma inside a level's name stays `", "`, also where it was full-width or an entity: NFKC alone would turn
    `bags，cases` into two levels. Symbols at the ends stay, they belong to the platform's names.

    Args:
        path: Levels joined by "," without a blank.
        lowercase: Lower-case it too.

    Returns:
        The clean path, with as many levels as before.
    """
    return ",".join(_clean_level(level, lowercase) for level in LEVEL_BREAK.split(path))


def clean_columns(batch: Mapping[str, Sequence[Any]], lowercase: bool = False) -> dict[str, list[str]]:
    """Map function: add the columns `query` and `clean_target`; the originals stay as they are.

    Args:
        batch: Lists `origin_query`, `target` and `task` (QC: the target is a path; QI: a title).
        lowercase: Lower-case both.

    Returns:
        {"query": list of str, "clean_target": list of str}; a missing text (None) becomes "".
    """
    queries = [clean_text(query or "", lowercase) for query in batch["origin_query"]]
    pairs = zip(batch["task"], batch["target"], strict=True)
    return {
        "query": queries,
        "clean_target": [clean_target(target or "", task, lowercase) for task, target in pairs],
    }


def clean_target(target: str, task: str, lowercase: bool = False) -> str:
    """Clean a category path (task QC) or an item title (task QI)."""
    return clean_path(target, lowercase) if task == "QC" else clean_text(target, lowercase)


def normalise_text(text: str) -> str:
    """Make the key under which two texts count as one, for grouping and for finding leaks.

    Clean, case-folded, quotes and dashes alike, joiners dropped, everything but letters, digits and marks removed
    at the ends. Accents stay: `mas` and `más` are two words. A key too coarse costs a larger group, one too fine a
    leak, so `#7 screw` and `7 screw` share theirs.

    Args:
        text: Any string, or None.

    Returns:
        The key; "" only for a text without a visible character.
    """
    return _settle(_fold, text) if text else ""


def _settle(step: Callable[[str], str], text: str) -> str:
    # One pass may uncover work for the next: `&amp;quot;`, or `"*a*"`.
    before = None
    while text != before:
        before, text = text, step(text)
    return text


def _decode(text: str, lowercase: bool = False) -> str:
    return _settle(lambda value: _decode_once(value, lowercase), text)


def _decode_once(text: str, lowercase: bool) -> str:
    if "\\" in text:
        text = _ESCAPED_CODE.sub(_character, text)
        text = _ESCAPED_BLANK.sub(" ", _ESCAPED_SYMBOL.sub(r"\1", text))
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _MIXED_FRACTION.sub(" ", text)).replace("\u2044", "/")
    text = _JOINERS.sub(_joiner, _INVISIBLE.sub("", text))
    return " ".join((text.lower() if lowercase else text).split())


def _character(match: re.Match[str]) -> str:
    first, second, byte = match.groups()
    if byte:
        return chr(int(byte, 16))
    pair = bytes.fromhex(first + (second or ""))
    decoded = pair.decode("utf-16-be", "surrogatepass") if second is None else pair.decode("utf-16-be", "ignore")
    return decoded


def _joiner(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return match[0][0] if _JOINABLE.match(before) and _JOINABLE.match(after) else ""


def _strip_ends(text: str) -> str:
    start = _START.match(text)
    text = text[start.end() :] if start else text
    end = _END.match(text[::-1])
    text = text[: len(text) - end.end()] if end else text
    for quotes in _QUOTES:
        text = _strip_quotes(text, quotes)
    return text.strip()


def _strip_quotes(text: str, quotes: str) -> str:
    # A quote goes where it wraps the whole or has no partner: `nike "air"` keeps both. An apostrophe inside a word
    # is no partner, and after a digit it is a unit (14", 6').
    inner = text.strip(quotes)
    if len(inner) == len(text) or re.search(rf"(?<!\w)[{quotes}]|[{quotes}](?!\w)", inner):
        return text
    wrapped = text[:1] in quotes
    return text.lstrip(quotes) if inner[-1:].isdigit() and not wrapped else inner


def _clean_level(level: str, lowercase: bool) -> str:
    decoded = LEVEL_BREAK.sub(", ", _decode(level, lowercase))
    return decoded.strip(", ") or decoded.replace(",", "").strip()


def _fold(text: str) -> str:
    key = unicodedata.normalize("NFKC", _decode(text).casefold()).translate(_ALIKE)
    key = " ".join(_BOUND_TO_TEXT.sub("", key).split())
    kept = [i for i, c in enumerate(key) if unicodedata.category(c)[0] in "LNM"]
    return key[kept[0] : kept[-1] + 1] if kept else key
