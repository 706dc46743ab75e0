"""Measure translations by language: how many there are, in which language, with which numbers, how near in meaning."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from product_relevance.data.translations import Translator
from product_relevance.preparation.translation.checks import evidence_against_english, has_numbers, lost_numbers
from product_relevance.text.languages import MIN_EVIDENCE

Encoder = Callable[[list[str], str], np.ndarray]  # texts and their side -> unit vectors
# Statuses of texts that were not to be translated.
LEFT = ("english", "no_words", "no_text")
COLUMNS = {
    "texts": "texts", "left": "left", "translated": "translated", "unchanged": "unchanged", "english": "English",
    "length_ratio": "length", "numbers_kept": "kept", "similarity": "similarity", "similarity_to_another": "(other)",
    "nearest": "nearest", "round_trip": "round trip",
}  # fmt: skip
BLOCK = 2048  # rows of a similarity matrix at a time
NOTE = (
    "left = stays as it is; translated = of the others. English = less than half of the evidence for another language "
    "for which an output is rejected; kept = no number or model code lost, of the texts that have some. Of the "
    "translated ones: length = median of characters out a character in; similarity = mean cosine of text and "
    "translation under a multilingual encoder, which needs no back-translation; (other) = the same with another "
    "text's translation: the encoder's zero; nearest = share whose own translation is the nearest of its language."
)


def measure_quality(
    table: pd.DataFrame,
    encode: Encoder | None = None,
    reverse: Translator | None = None,
    samples: int = 0,
) -> dict:
    """Measure a table of translations.

    Args:
        table: `query` (or `text`), `language`, `translation` and `status` (of `translators.Outcome`), a row each
            distinct text.
        encode: Such as `encoder.load_encoder()`: unit vectors of (texts, side); None leaves similarity out.
        reverse: A translator from English (`load_translator(..., from_english=True)`): adds the similarity of each
            text and its back-translation; needs `encode`.
        samples: Texts with translations to show a language, the first ones of the table.

    Returns:
        {"languages": {code: figures}, "all": figures}; see `NOTE`. A figure that nothing was measured for is None.

    Raises:
        ValueError: A column is missing, or `reverse` without `encode`.
    """
    if reverse and encode is None:
        raise ValueError("a round trip is measured by an encoder: give encode as well, as encoder.load_encoder()")
    table = _checked(table)
    vectors = _similarities(table, encode, reverse)
    languages = {
        code: _figures(part, {name: values[part.index] for name, values in vectors.items()}, samples)
        for code, part in table.groupby("language")
    }
    return {"languages": languages, "all": _figures(table, vectors, 0)}


def render_quality(report: dict) -> str:
    """Render a report as a table for the terminal, with its legend."""
    rows = {**report["languages"], "all": report["all"]}
    used = [key for key in COLUMNS if any(figures[key] is not None for figures in rows.values())]
    shown = {code: [_show(figures[key]) for key in used] for code, figures in rows.items()}
    lines = pd.DataFrame.from_dict(shown, orient="index", columns=[COLUMNS[key] for key in used]).to_string()
    faults = ", ".join(f"{name} {n}" for name, n in report["all"]["not_translated"].items()) or "none"
    parts = [lines, f"not translated, original kept: {faults}", NOTE]
    for code, figures in report["languages"].items():
        parts += [f"{code}: {text} -> {english} ({status})" for text, english, status in figures["samples"]]
    return "\n".join(parts)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    table = table.rename(columns={"text": "query"}).reset_index(drop=True)
    if missing := [name for name in ("query", "language", "translation", "status") if name not in table]:
        raise ValueError(f"translations: found no column {', '.join(missing)}; expected a table of translate.py")
    return table.fillna({"translation": ""})


def _similarities(table: pd.DataFrame, encode: Encoder | None, reverse: Translator | None) -> dict[str, np.ndarray]:
    """Per row (NaN where not translated): cosine with its own and with another's translation, nearest or not."""
    if encode is None:
        return {}
    names = ["similarity", "similarity_to_another", "nearest", *(["round_trip"] if reverse else [])]
    found = {name: np.full(len(table), np.nan) for name in names}
    done = table[table["status"] == "translated"]
    if done.empty:
        return found
    texts = encode(done["query"].tolist(), "query")
    english = encode(done["translation"].tolist(), "query")
    place = pd.Series(np.arange(len(done)), index=done.index)
    for _, part in done.groupby("language"):
        mine = place[part.index].to_numpy()
        rows = part.index.to_numpy()
        found["similarity"][rows] = (texts[mine] * english[mine]).sum(1)
        if len(mine) > 1:
            found["similarity_to_another"][rows] = (texts[mine] * english[np.roll(mine, 1)]).sum(1)
            found["nearest"][rows] = _is_nearest(texts[mine], english[mine])
    if reverse:
        back = reverse(done["translation"].tolist(), done["language"].tolist())
        there = np.flatnonzero([bool(text) for text in back])
        vectors = encode([text for text in back if text], "query")
        found["round_trip"][done.index[there]] = (texts[there] * vectors).sum(1)
    return found


def _is_nearest(texts: np.ndarray, english: np.ndarray) -> np.ndarray:
    """Return for each text whether no other translation is nearer than its own."""
    own = (texts * english).sum(1)
    best = [(texts[i : i + BLOCK] @ english.T).max(1) for i in range(0, len(texts), BLOCK)]
    return own >= np.concatenate(best) - 1e-6  # two texts may have the same translation


def _figures(part: pd.DataFrame, vectors: dict[str, np.ndarray], samples: int) -> dict:
    done = part[part["status"] == "translated"]
    asked = part[~part["status"].isin(LEFT)]
    pairs = list(zip(done["query"], done["translation"], strict=True))
    # Rejected ones count too: the table holds the original in their place.
    english = [evidence_against_english(translation) < MIN_EVIDENCE / 2 for _, translation in pairs]
    english += [False] * int((part["status"] == "not_english").sum())
    rejected = [False for text in part.loc[part["status"] == "lost_number", "query"] if has_numbers(text)]
    numbers = [not lost_numbers(text, translation) for text, translation in pairs if has_numbers(text)] + rejected
    figures = {
        "texts": len(part),
        "left": len(part) - len(asked),
        "translated": _mean(asked["status"] == "translated"),
        "not_translated": asked.loc[asked["status"] != "translated", "status"].value_counts().to_dict(),
        "unchanged": _mean([text.casefold() == translation.casefold() for text, translation in pairs]),
        "english": _mean(english),
        "length_ratio": _median([len(translation) / len(text) for text, translation in pairs]),
        "with_numbers": len(numbers),
        "numbers_kept": _mean(numbers),
        "samples": part[["query", "translation", "status"]].head(samples).to_numpy().tolist(),
    }
    for name in ("similarity", "similarity_to_another", "nearest", "round_trip"):
        figures[name] = _mean(vectors[name]) if name in vectors else None
    return figures


def _mean(values: Sequence[float] | pd.Series | np.ndarray) -> float | None:
    numbers = np.asarray(values, float)
    known = numbers[~np.isnan(numbers)]
    return round(float(known.mean()), 4) if len(known) else None


def _median(values: list[float]) -> float | None:
    return round(float(np.median(values)), 4) if values else None


def _show(value: float | int | None) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
