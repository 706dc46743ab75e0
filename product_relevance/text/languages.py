"""Identify the language of a query, and correct rows that are wrongly labelled English."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from product_relevance.text.language_codes import LANGUAGES, UNDETERMINED, UNKNOWN, from_iso, normal_codes, to_iso

if TYPE_CHECKING:
    from langidentify import Detector

FIX_METHODS = ("none", "identify", "translation")

# Log-likelihood (nats) by which a language must beat English over the whole query before a row labelled `en` is
# relabelled. At 20, 0.5% of 3,387 distinct English home-improvement queries are (wrongly) taken for another
# language, and 51% of 4,767 distinct user queries in es fr pt are found; at 16, 0.9% and 58%; at 12, 1.6% and 66%
# (training files only). Wrongly taken are names of brands, films and people: no threshold parts those from words.
# The sum over letters beats the mean per letter: a short brand name may look like any language.
MIN_EVIDENCE = 20.0

_SCRIPTS = {
    "ko": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "ar": re.compile("[\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc]"),
    # Of the known languages only Japanese is written in Han; a Chinese query comes out as ja as well.
    "ja": re.compile("[\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uff66-\uff9f]"),
}
_LATIN = re.compile("[A-Za-z\xaa\xba\xc0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]")
_KANA = re.compile("[\u3040-\u30ff\uff66-\uff9f]")


def identify_languages(texts: list[str]) -> list[str]:
    """Identify each text's language among the known 13.

    Args:
        texts: Any strings.

    Returns:
        A competition code each; "unk" for a script of none of them (Cyrillic, Greek), "und" for texts without
        words (digits, model codes).

    Raises:
        ValueError: langidentify is not installed.
    """
    return [code for code, _ in map(_identify, texts)]


def identify_with_evidence(texts: list[str]) -> list[tuple[str, float]]:
    """Identify each text's language, with the evidence against English.

    Args:
        texts: Any strings.

    Returns:
        (code, evidence): the log-likelihood in nats by which the language beats English over the whole text;
        infinity where the script rules English out; 0 for English and "und".

    Raises:
        ValueError: langidentify is not installed.
    """
    return [_identify(text) for text in texts]


def fix_language(batch: Mapping[str, Sequence[Any]], method: str = "identify") -> dict[str, list[str]]:
    """Map function: correct the language of rows labelled `en` that are not English.

    Codes are brought to one form first (`en_US` is `en`), and then only rows given as `en` change. "identify" gives
    them the identified code where the evidence is at least `MIN_EVIDENCE`; "translation" gives them `unk` where their
    English translation differs from the query, case-folded (the 1st team's rule, arXiv 2510.25428).

    Args:
        batch: Lists `language` (or, on a second pass, `given_language`) and `query` or else `origin_query`; for
            "translation" also `translated_query`.
        method: "identify", "translation" or "none".

    Returns:
        {"given_language": the codes as given, in one form, "language": the corrected ones}.

    Raises:
        ValueError: Unknown method; no translations; langidentify is not installed.
    """
    if method not in FIX_METHODS:
        raise ValueError(f"language fix: found {method!r}, expected one of {', '.join(FIX_METHODS)}")
    given = normal_codes(batch.get("given_language", batch["language"]))
    queries = batch["query"] if "query" in batch else batch["origin_query"]
    if method == "none":
        fixed = given
    elif method == "identify":
        fixed = [_identified(code, query) for code, query in zip(given, queries, strict=True)]
    else:
        fixed = _by_translation(given, queries, batch)
    return {"given_language": given, "language": fixed}


def _identified(code: str, query: str) -> str:
    if code != "en" or not query:
        return code
    found, evidence = _identify(query)
    return found if evidence >= MIN_EVIDENCE else code


def _by_translation(given: Sequence[str], queries: Sequence[str], batch: Mapping[str, Sequence[Any]]) -> list[str]:
    if "translated_query" not in batch:
        raise ValueError(
            "language fix 'translation': found no column 'translated_query', expected the English translation of "
            "each query; add translations first or use 'identify'"
        )
    rows = zip(given, queries, batch["translated_query"], strict=True)
    return [
        UNKNOWN if code == "en" and english and english.strip().casefold() != query.strip().casefold() else code
        for code, query, english in rows
    ]


@lru_cache(maxsize=200_000)
def _identify(text: str) -> tuple[str, float]:
    script = _script(text)
    if script:
        return script, float("inf")
    # A word with a digit is a model code: `x5` or `z6` must not make a query Polish.
    words = " ".join(word for word in text.lower().split() if not any(c.isdigit() for c in word))
    letters = sum(c.isalpha() for c in words)
    if letters < 2:
        return UNDETERMINED, 0.0
    iso, lead = _detect(words)
    return (from_iso(iso), max(0.0, lead * letters)) if iso else (UNDETERMINED, 0.0)


def _script(text: str) -> str | None:
    # One foreign character among many Latin ones is debris; two of them, or a third of the text, are a word.
    letters = [c for c in text if c.isalpha()]
    foreign = [c for c in letters if not _LATIN.match(c)]
    if not foreign or (len(foreign) < 2 and 3 * len(foreign) < len(letters)):
        return None
    if any(map(_KANA.match, foreign)):
        return "ja"
    counts = {code: sum(bool(pattern.match(c)) for c in foreign) for code, pattern in _SCRIPTS.items()}
    best = max(counts, key=lambda code: counts[code])
    return best if 2 * counts[best] >= len(foreign) else UNKNOWN


def _detect(words: str) -> tuple[str, float]:
    """Return the ISO code and its lead over English in nats per letter; ("", 0) where nothing is known."""
    detector, languages = _detector()
    found = detector.detect(words)
    scores = detector.results.total_scores
    english = scores[languages["en"]]
    if found.iso_code not in languages or not english:
        return "", 0.0
    return found.iso_code, scores[languages[found.iso_code]] - english


@lru_cache(maxsize=1)
def _detector() -> "tuple[Detector, dict[str, int]]":
    # One per process, loaded at first use (3 s): a map function stays picklable, and `--help` instant.
    try:
        from langidentify import Detector, Language, Model
    except ImportError:
        raise ValueError(
            "language fix 'identify' needs the package langidentify: pip install langidentify, or use 'none' or "
            "'translation'"
        ) from None
    known = Language.from_comma_separated(",".join(map(to_iso, LANGUAGES)))
    model = Model.load_lite(known)
    return Detector(model), {language.iso_code: model.lang_index(language) for language in known}
