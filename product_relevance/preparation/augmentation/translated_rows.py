"""Rows in languages that training lacks, by translating queries, and other wordings by translating there and back."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_relevance.data.provenance import ORIGINAL, append_rows, draw_share
from product_relevance.data.sources.readers import read_columns
from product_relevance.data.translations import TEXT_COLUMNS, TRANSLATION_COLUMNS, Translator, make_lookup, pick_column
from product_relevance.text.cleaning import clean_text, normalise_text
from product_relevance.text.language_codes import UNDETERMINED, UNKNOWN, is_code, normal_code, normal_codes

logger = logging.getLogger(__name__)

TEXTS = ("english", "query")


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """How rows are drawn and cleaned.

    Attributes:
        lowercase: As the columns were made.
        seed: Another one takes other rows. Labels and languages keep their proportions.
    """

    lowercase: bool = False
    seed: int = 42


@dataclass(frozen=True)
class LanguageOptions(RowOptions):
    """Which rows are translated into other languages.

    Attributes:
        shares: Language -> how many rows to translate into it, as a share of the originals.
        text: What is translated: "english" (the query of a row in English, else `translated_query` where it differs
            from the query; other rows are not taken) or "query", for a translator that reads any language.
        cap: Rows per language at most.
    """

    shares: Mapping[str, float]
    text: str = "english"
    cap: int | None = None

    def __post_init__(self) -> None:
        if self.text not in TEXTS:
            raise ValueError(f"text: found {self.text!r}, expected one of {', '.join(TEXTS)}")
        for name, share in self.shares.items():
            _require_share(name, share)
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"cap: found {self.cap}, expected at least 1 row")


@dataclass(frozen=True)
class BackOptions(RowOptions):
    """Which rows are translated from English back.

    Attributes:
        share: How many rows, as a share of the originals.
        pivot: The language that English queries go through; None leaves English queries out.
    """

    share: float
    pivot: str | None = None

    def __post_init__(self) -> None:
        _require_share("rows", self.share)


@dataclass(frozen=True)
class _Variants:
    """Translated queries: the row of each, its text, its language, and how it was made."""

    rows: list[int]
    texts: list[str | None]
    codes: list[str]
    details: list[str]


def _require_share(name: str, share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"share of {name}: found {share}, expected more than 0 and at most 1 of the originals")


def missing_languages(frame: pd.DataFrame, evaluation: pd.DataFrame) -> list[str]:
    """Return the codes of ISO 639 that the evaluation's rows have and these lack, sorted."""
    sides = [rows["given_language" if "given_language" in rows else "language"] for rows in (frame, evaluation)]
    own, others = (set(normal_codes(side.dropna())) for side in sides)
    return sorted(code for code in others - own - {UNDETERMINED, UNKNOWN} if is_code(code))


def add_languages(frame: pd.DataFrame, translator: Translator, options: LanguageOptions) -> pd.DataFrame:
    """Append rows whose query is translated into another language, with their labels.

    Args:
        frame: Records with `query`, `translated_query` and `language`; only originals are translated.
        translator: Gets distinct texts and the codes to translate them into, as `load_translator(...,
            from_english=True)` and `from_language_table` do; None or "" for what it cannot translate.
        options: Which rows are translated into which languages.

    Returns:
        The records followed by the translated rows (method "translated", `detail` as `en>de`).
        `attrs["made"]["translated"]` counts also `untranslated` rows and those left `unchanged`.

    Raises:
        ValueError: A translator that returns another number of texts than it got.
    """
    texts, usable = _texts(frame, options.text)
    rows: list[int] = []
    codes: list[str] = []
    for code, share in sorted(options.shares.items()):
        count = round(share * int(_originals(frame).sum()))
        others = usable & (frame["language"] != code).to_numpy(bool)
        taken = _draw_rows(frame, others, min(count, options.cap or count), options.seed, code)
        rows += taken
        codes += [code] * len(taken)
    answers = _ask(translator, [texts[row] for row in rows], codes)
    details = [f"{frame['language'].iloc[row]}>{code}" for row, code in zip(rows, codes, strict=True)]
    return _append(frame, _Variants(rows, answers, codes, details), "translated", options)


def add_back_translations(
    frame: pd.DataFrame, translator: Translator, options: BackOptions, into_english: Translator | None = None
) -> pd.DataFrame:
    """Append rows whose query went into another language and back, with their labels.

    Queries that have an English translation go from it back into their own language. English ones go by the pivot,
    where one is given.

    Args:
        frame: As in `add_languages`.
        translator: From English, as in `add_languages`.
        options: Which rows are translated.
        into_english: For the pivot: gets texts and the codes that they are in, as `translation.Translator` says.

    Returns:
        The records followed by the new rows (method "back_translated", `detail` as `es>en>es`); counts as in
        `add_languages`.

    Raises:
        ValueError: As in `add_languages`; or a pivot without `into_english`.
    """
    pivot = options.pivot
    if (into_english is None) != (pivot is None):
        raise ValueError("back-translation of English queries: expected both a pivot and a translator into English")
    texts, usable = _texts(frame, "english")
    is_english = (frame["language"] == "en").to_numpy(bool)
    usable &= ~is_english | (pivot is not None)
    rows = _draw_rows(frame, usable, round(options.share * int(_originals(frame).sum())), options.seed, "back")
    own = frame["language"].iloc[rows].tolist()
    through = [pivot if pivot and code == "en" else code for code in own]
    there = _ask(translator, [texts[row] for row in rows], through)
    english = [i for i, code in enumerate(own) if code == "en"]
    if english and into_english:
        back = _ask(into_english, [there[i] for i in english], [through[i] for i in english])
        for i, text in zip(english, back, strict=True):
            there[i] = text
    details = [f"en>{pivot}>en" if code == "en" else f"{code}>en>{code}" for code in own]
    return _append(frame, _Variants(rows, there, own, details), "back_translated", options)


def from_language_table(path: str | os.PathLike) -> Translator:
    """Make a translator out of a table of translations into several languages.

    Args:
        path: A CSV, TSV, Parquet or JSON-lines file with a column `query` (or `text`, `origin_query`), a column
            `language` (the one translated into) and a column `translation`. Texts are compared as
            `translation.lookup` does; of several translations the first counts.

    Returns:
        The translator for `add_languages`; it answers None for what the table lacks.

    Raises:
        ValueError: No such file, another format, or a column missing.
    """
    columns = read_columns(path)
    wanted = (TEXT_COLUMNS, ("language",), TRANSLATION_COLUMNS)
    known = []
    for row in zip(*(columns[pick_column(path, columns, names)] for names in wanted), strict=True):
        if all(isinstance(value, str) and value.strip() for value in row):
            known.append((row[0], normal_code(row[1]), row[2]))
    logger.info("%s: %d translations", path, len(known))
    find = make_lookup(known)
    return lambda texts, codes: find(texts, normal_codes(codes))


def _originals(frame: pd.DataFrame) -> np.ndarray:
    methods = frame["method"] if "method" in frame else pd.Series(ORIGINAL, index=frame.index)
    return (methods == ORIGINAL).to_numpy(bool)


def _texts(frame: pd.DataFrame, text: str) -> tuple[list[str], np.ndarray]:
    """Return the text to translate of each row, and which rows have one."""
    queries = frame["query"].fillna("")
    usable = _originals(frame) & (queries != "").to_numpy(bool)
    if text == "query":
        return queries.tolist(), usable
    english = _english(frame)
    return english.tolist(), usable & (english != "").to_numpy(bool)


def _english(frame: pd.DataFrame) -> pd.Series:
    """Return each row's English text; "" where there is none: a translation that equals the query is the query."""
    queries = frame["query"].fillna("")
    translated = frame["translated_query"].fillna("") if "translated_query" in frame else queries
    return queries.where(frame["language"] == "en", translated.where(translated != queries, ""))


def _draw_rows(frame: pd.DataFrame, usable: np.ndarray, count: int, seed: int, purpose: str) -> list[int]:
    """Draw rows so that labels and languages keep the proportions that they have among the usable rows."""
    rows = np.flatnonzero(usable)
    labels = frame["label"].iloc[rows].astype("string").fillna("?") if "label" in frame else ["?"] * len(rows)
    table = pd.DataFrame({"row": rows, "id": frame["id"].iloc[rows].astype(str).to_numpy()})
    table["stratum"] = list(zip(frame["language"].iloc[rows].fillna("?"), labels, strict=True))
    table["draw"] = [draw_share(seed, "translate", purpose, key) for key in table["id"]]
    table = table.sort_values(["draw", "id"], ignore_index=True)
    # Largest remainders: the k-th of n drawn rows of a stratum comes at the (k - 1/2) / n part of the whole.
    size = table.groupby("stratum")["row"].transform("size")
    table["part"] = (table.groupby("stratum").cumcount() + 0.5) / size
    chosen = table.sort_values(["part", "draw", "id"])["row"].iloc[:count]
    return sorted(chosen.tolist())


def _ask(translator: Translator, texts: Sequence[str | None], codes: Sequence[str]) -> list[str | None]:
    """Translate the distinct (text, code) pairs in sorted order; None stays None."""
    pairs = list(zip(texts, codes, strict=True))
    distinct = sorted({(text, code) for text, code in pairs if text}, key=lambda pair: (pair[1], pair[0]))
    answers = translator([text for text, _ in distinct], [code for _, code in distinct]) if distinct else []
    if len(answers) != len(distinct):
        raise ValueError(
            f"translator: found {len(answers)} translations, expected {len(distinct)}: one for each text, in order"
        )
    known: dict[tuple[str | None, str], str | None] = dict(zip(distinct, answers, strict=True))
    return [known.get(pair) for pair in pairs]


def _append(frame: pd.DataFrame, variants: _Variants, method: str, options: RowOptions) -> pd.DataFrame:
    queries, english = frame["query"].fillna("").tolist(), _english(frame).tolist()
    rows, kept, counts = variants.rows, [], {"untranslated": 0, "unchanged": 0}
    cleaned = [clean_text(text or "", options.lowercase) for text in variants.texts]
    for i, (row, text) in enumerate(zip(rows, cleaned, strict=True)):
        if not text:
            counts["untranslated"] += 1
        elif normalise_text(text) in (normalise_text(queries[row]), normalise_text(english[row])):
            counts["unchanged"] += 1
        else:
            kept.append(i)
    changes = {"origin_query": [cleaned[i] for i in kept], "query": [cleaned[i] for i in kept]}
    changes |= {name: [variants.codes[i] for i in kept] for name in ("language", "given_language")}
    changes |= {"translated_query": [english[rows[i]] or cleaned[i] for i in kept]}
    changes |= {"detail": [variants.details[i] for i in kept]}
    made = append_rows(frame, [rows[i] for i in kept], changes, method, options.seed)
    made.attrs["made"][method] |= counts
    return made
