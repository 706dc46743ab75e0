"""Bring English translations to the queries: from a column, from a table, or from a function of distinct texts."""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from product_relevance.data.arguments import MAX_MISSING
from product_relevance.data.sources.readers import read_columns
from product_relevance.text.cleaning import clean_text

logger = logging.getLogger(__name__)

# A translator gets distinct (text, language code) pairs as two lists of equal length and returns the English texts
# in their order; None or "" stands for "cannot translate this one". A neural translator is one such function.
Translator = Callable[[list[str], list[str]], list[str | None]]

TEXT_COLUMNS = ("query", "text", "origin_query")
TRANSLATION_COLUMNS = ("translation", "translated_query")


def keep_texts(texts: list[str], languages: list[str]) -> list[str | None]:
    """Translate nothing: each text is its own translation."""
    return list(texts)


def load_translations(path: str | os.PathLike[str]) -> Translator:
    """Make a translator that looks translations up in a CSV, TSV or Parquet file.

    Args:
        path: A table with a column `query` (or `text`, `origin_query`) and a column `translation` (or
            `translated_query`). Texts are compared as `make_lookup` does; of several translations the first counts.

    Returns:
        The translator; it answers None for a text that the table lacks.

    Raises:
        ValueError: No such file, another format, or a column missing.
    """
    table = _read_table(Path(path))
    text = pick_column(path, table, TEXT_COLUMNS)
    translation = pick_column(path, table, TRANSLATION_COLUMNS)
    rows = zip(table[text], table[translation], strict=True)
    known = [(query, "", english.strip()) for query, english in rows if _present(query) and _present(english)]
    logger.info("%s: %d rows, %d of them with a translation", path, len(table[text]), len(known))
    find = make_lookup(known)
    return lambda texts, languages: find(texts, [""] * len(texts))


def make_lookup(rows: Iterable[tuple[str, str, str]]) -> Translator:
    """Make a translator out of (text, code, translation), where the first translation of a text and a code counts.

    Texts are compared after cleaning: as they are written, else without regard to case, since `--lowercase` lowers the
    queries and not the table.
    """
    known: dict[tuple[str, str], str] = {}
    any_case: dict[tuple[str, str], str] = {}
    for text, code, translation in rows:
        known.setdefault((clean_text(text), code), translation)
        any_case.setdefault((clean_text(text, True), code), translation)

    def find(text: str, code: str) -> str | None:
        return known.get((clean_text(text), code), any_case.get((clean_text(text, True), code)))

    return lambda texts, codes: [find(text, code) for text, code in zip(texts, codes, strict=True)]


def add_translation(
    frame: pd.DataFrame, source: "str | os.PathLike[str] | Translator" = "none", max_missing: float = MAX_MISSING
) -> pd.DataFrame:
    """Add the column `translated_query`; what has no translation keeps its own text and is counted.

    Args:
        frame: Records with `language` and `query` (else `origin_query`).
        source: "none" (identity), "column" (`translated_query` is there already), the path of a table, or a
            translator; a translator is called once, with the distinct (query, language) pairs.
        max_missing: Of a column or table: the greatest share of the distinct queries that are not given as English
            and have no translation. What a translator cannot translate is its own affair.

    Returns:
        A copy of the frame with `translated_query` filled. `attrs["translation"]` holds the counts `distinct`
        (pairs), `missing` (pairs without a translation) and `missing_rows`.

    Raises:
        ValueError: No column `translated_query` for "column", a table that cannot be used, more missing than allowed,
            or a translator that returns another number of texts than it got.
    """
    frame = frame.copy()
    text_column = "query" if "query" in frame else "origin_query"
    texts = frame[text_column].fillna("").astype(str)
    found = _from_column(frame) if source == "column" else _translated(texts, frame["language"], _translator(source))
    missing = ~found.map(_present).astype(bool)
    pairs = pd.DataFrame({"text": texts, "language": frame["language"], "missing": missing})
    distinct = pairs.groupby(["text", "language"], dropna=False)["missing"].max()
    counts = {"distinct": len(distinct), "missing": int(distinct.sum()), "missing_rows": int(missing.sum())}
    frame["translated_query"] = found.where(~missing, texts).astype(texts.dtype)
    frame.attrs["translation"] = counts
    if not callable(source):
        _require_most(frame.attrs.get("source", "records"), distinct, max_missing)
    if counts["missing"]:
        message = "%d of %d distinct queries (%d rows) have no translation and keep their own text"
        logger.warning(message, counts["missing"], counts["distinct"], counts["missing_rows"])
    return frame


def _require_most(name: str, missing: pd.Series, limit: float) -> None:
    """Raise ValueError if too many translations are missing, as in a wrong table; `missing` is by (text, language)."""
    texts, languages = (missing.index.get_level_values(level) for level in ("text", "language"))
    asked = missing[(texts != "") & (languages != "en")]
    lost = asked[asked]
    if not len(lost) or len(lost) <= limit * len(asked):
        return
    examples = ", ".join(f"{text!r} ({code})" for text, code in lost.index[:3])
    raise ValueError(
        f"{name}: translations: {len(lost):,} of {len(asked):,} distinct queries that are not English have none "
        f"({len(lost) / len(asked):.1%}), for example {examples}; expected at most {limit:.0%}: complete them, or let "
        "these queries stand in with --max_missing_translations 1"
    )


def _translator(source: "str | os.PathLike[str] | Translator") -> Translator:
    if callable(source):
        return source
    return keep_texts if source == "none" else load_translations(source)


def _translated(texts: pd.Series, languages: pd.Series, translator: Translator) -> pd.Series:
    pairs = pd.DataFrame({"text": texts, "language": languages.fillna("").astype(str)})
    distinct = pairs.drop_duplicates().sort_values(["language", "text"], ignore_index=True)
    asked, codes = distinct["text"].tolist(), distinct["language"].tolist()
    answers = translator(asked, codes)
    if len(answers) != len(asked):
        raise ValueError(
            f"translator: found {len(answers)} translations, expected {len(asked)}: one for each text, in order"
        )
    known = dict(zip(zip(asked, codes, strict=True), answers, strict=True))
    rows = zip(pairs["text"], pairs["language"], strict=True)
    return pd.Series([known[row] for row in rows], index=texts.index, dtype="object")


def _from_column(frame: pd.DataFrame) -> pd.Series:
    if "translated_query" not in frame:
        raise ValueError(
            f"translation 'column': found the columns {', '.join(frame.columns)}, expected translated_query; give "
            "the path of a table of translations, or 'none'"
        )
    return frame["translated_query"].astype("object")


def _read_table(path: Path) -> dict[str, list[Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: found no such file, expected a table of translations (.csv, .tsv, .parquet)")
    if (suffix := path.suffix.lower()) not in (".csv", ".tsv", ".parquet"):
        raise ValueError(f"{path}: found {suffix or 'no ending'}, expected .csv, .tsv or .parquet")
    return read_columns(path)


def pick_column(path: str | os.PathLike[str], table: Iterable[str], names: tuple[str, ...]) -> str:
    """Return the first of `names` that a table of this file has; ValueError where it has none."""
    column = next((name for name in names if name in table), None)
    if column is None:
        raise ValueError(f"{path}: found the columns {', '.join(map(str, table))}, expected one of {', '.join(names)}")
    return column


def _present(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())
