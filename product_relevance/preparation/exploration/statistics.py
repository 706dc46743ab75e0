"""Describe a file of records in small tables: languages, labels, lengths, words, repeats, paths, noise."""

import re
from collections import Counter

import numpy as np
import pandas as pd

from product_relevance.text.cleaning import normalise_text
from product_relevance.text.path_format import form_of
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.utils.tasks import LABELS

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
TOP_WORDS = 15
EXAMPLES = 20
LENGTH_BINS = np.array([0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, np.inf])  # characters
OVERLAP_BINS = {  # Jaccard, from and below
    "none": (0, 1e-9),
    "0 - .1": (1e-9, 0.1),
    ".1 - .2": (0.1, 0.2),
    ".2 - .3": (0.2, 0.3),
    ".3 - .5": (0.3, 0.5),
    ".5 - 1": (0.5, 2),
}
ROWS_A_QUERY = [(1, 1, "1"), (2, 2, "2"), (3, 3, "3"), (4, 4, "4"), (5, 5, "5"), (6, 10, "6-10"), (11, 10**9, "> 10")]
ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: mixes two hashes without a pattern

_BETWEEN_WORDS = re.compile(r"[\s!-/:-@\[-`{-~、。・，．（）【】「」！？：；]+")
_LETTER = "A-Za-z\xaa\xb5\xba\xc0-\u02af\u0370-\u1fff\u2c00-\ud7fb\uf900-\ufdfb\ufe70-\ufefc\uff21-\uffdc"
# Kinds of noise in a query, by a pattern that re and RE2 read alike.
_PATTERNS = {
    "non-Latin letters": "[\u0370-\u1dff\u2c80-\ud7fb\uf900-\ufdfb\ufe70-\ufefc\uff66-\uffdc]",
    "Latin letters": "[A-Za-z\xc0-\u024f\u1e00-\u1eff]",
    "digits": "[0-9\uff10-\uff19]",
    "letters": f"[{_LETTER}]",
}


def add_measures(frame: pd.DataFrame) -> pd.DataFrame:
    """Add what several tables need, each distinct text looked at once.

    Args:
        frame: Records with the columns of `loading.add_all_columns`.

    Returns:
        A copy with `query_key`, `target_key`, `pair_key` (uint64, hashes of the normalised texts: equal where these
        are), `query_characters`, `target_characters` (of the clean texts) and `overlap` (Jaccard, of the words of
        query and target).
    """
    frame = frame.copy()
    queries, targets = _keys(frame["query"]), _keys(frame["clean_target"])
    frame["query_key"], frame["target_key"], frame["pair_key"] = queries, targets, queries * ODD + targets
    frame["query_characters"] = frame["query"].str.len().astype("int64")
    frame["target_characters"] = frame["clean_target"].str.len().astype("int64")
    frame["overlap"] = _overlaps(frame["query"], frame["clean_target"])
    return frame


def labels_of(frame: pd.DataFrame) -> pd.Series:
    """Return the labels as numbers, NaN where there is none."""
    if "label" not in frame:
        return pd.Series(np.nan, index=frame.index)
    return frame["label"].astype("Float64").astype("float64")


def split_words(text: str) -> list[str]:
    """Split a text into case-folded words at blanks and punctuation; Thai and Japanese stay in longer parts."""
    return [word for word in _BETWEEN_WORDS.split(text.casefold()) if word]


def jaccard(left: set, right: set) -> float:
    """Return |left and right| / |left or right|; 0 for two empty sets."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0


def summarise_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Count rows, languages, distinct texts, and rows that repeat or contradict another one: one row."""
    size = frame.groupby("pair_key", sort=False)["id"].transform("size")
    exact = frame.duplicated(["origin_query", "target"], keep=False)
    return pd.DataFrame(
        {
            "rows": [len(frame)],
            "left out": [frame.attrs.get("rejected", 0)],
            "relevant": [labels_of(frame).mean()],
            "languages": [frame["language"].nunique()],
            "distinct queries": [frame["query_key"].nunique()],
            "distinct targets": [frame["target_key"].nunique()],
            "rows of a repeated pair": [int((size > 1).sum())],
            "letter for letter": [int(exact.sum())],
            "rows of a contradictory pair": [int(_contradictory(frame).sum())],
        }
    )


def count_languages(frame: pd.DataFrame) -> pd.DataFrame:
    """Count rows by language as given and as corrected, with the share of relevant rows, the largest first."""
    fixed = frame.groupby("language")
    table = pd.DataFrame({"given": frame["given_language"].value_counts(), "corrected": fixed.size()}).fillna(0)
    table = table.astype("int64").rename_axis("language")
    table["relevant"] = labels_of(frame).groupby(frame["language"]).mean()
    return table.sort_values(["corrected", "given"], ascending=False, kind="stable").reset_index()


def count_language_moves(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the rows whose language was corrected, by what they were given as and what they are."""
    moved = frame[frame["language"] != frame["given_language"]]
    counts = moved.groupby(["given_language", "language"]).size().sort_values(ascending=False, kind="stable")
    return counts.rename("rows").reset_index().rename(columns={"given_language": "given", "language": "corrected"})


def measure_lengths(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows and quantiles of the characters of queries and targets by language, the largest first."""
    rows, parts = frame["language"].value_counts(), []
    for text in ("query", "target"):
        part = frame.groupby("language")[f"{text}_characters"].quantile(np.array(QUANTILES)).unstack()
        parts.append(part.set_axis([_quantile_name(q) for q in QUANTILES], axis=1).assign(text=text).reset_index())
    table = pd.concat(parts, ignore_index=True)
    table = table.assign(rows=table["language"].map(rows).astype("int64"))
    table = table.sort_values(["text", "rows"], ascending=[True, False], kind="stable", ignore_index=True)
    return table[["text", "language", "rows", *map(_quantile_name, QUANTILES)]]


def bin_lengths(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the share of rows in each bin of `LENGTH_BINS`, for queries and targets."""
    edges = zip(LENGTH_BINS[:-1], LENGTH_BINS[1:], strict=True)
    names = [f"{low:.0f}-{high - 1:.0f}" if np.isfinite(high) else f"{low:.0f}+" for low, high in edges]
    table = pd.DataFrame({"characters": names})
    for text in ("query", "target"):
        table[text] = np.histogram(frame[f"{text}_characters"], LENGTH_BINS)[0] / max(len(frame), 1)
    return table


def list_top_words(frame: pd.DataFrame) -> pd.DataFrame:
    """List the words in most distinct queries of each language, and in most distinct targets."""
    rows = []
    queries = frame.drop_duplicates(["language", "query_key"])
    for code, texts in queries.groupby("language")["query"]:
        rows.append(("queries", code, len(texts), _most_common(texts)))
    targets = frame["clean_target"].drop_duplicates()
    rows.append(("targets", "", len(targets), _most_common(targets)))
    return pd.DataFrame(rows, columns=["of", "language", "distinct texts", "words (in how many texts)"])


def compare_overlaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Compare the overlap of words between the labels, by language: mean, and share of rows without any."""
    labels = labels_of(frame).map(LABELS)
    groups = frame["overlap"].groupby([frame["language"], labels])
    table = pd.DataFrame({"rows": groups.size(), "mean": groups.mean(), "no word shared": groups.agg(_zero_share)})
    return table.rename_axis(["language", "label"]).reset_index()


def bin_overlaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the share of rows in each bin of `OVERLAP_BINS` by label."""
    labels, table = labels_of(frame), pd.DataFrame({"overlap": list(OVERLAP_BINS)})
    for label, name in LABELS.items():
        values = frame["overlap"][labels == label]
        inside = [((values >= low) & (values < high)).sum() for low, high in OVERLAP_BINS.values()]
        table[name] = np.array(inside) / max(len(values), 1)
    return table


def count_rows_per_query(frame: pd.DataFrame) -> pd.DataFrame:
    """Count queries by how many rows they have, and how many of them have both labels."""
    grouped = labels_of(frame).groupby(frame["query_key"])
    size, both = grouped.size(), grouped.nunique() > 1
    rows = []
    for low, high, name in ROWS_A_QUERY:
        inside = (size >= low) & (size <= high)
        rows.append((name, int(inside.sum()), int(size[inside].sum()), int((inside & both).sum())))
    return pd.DataFrame(rows, columns=["rows per query", "queries", "rows", "queries with both labels"])


def list_contradictions(frame: pd.DataFrame) -> pd.DataFrame:
    """List pairs that carry both labels, those of most rows first, at most `EXAMPLES`."""
    rows = frame[_contradictory(frame)]
    labels = labels_of(rows).rename("relevant")
    groups = pd.concat([rows[["pair_key", "query", "clean_target", "language"]], labels], axis=1)
    pairs = groups.groupby("pair_key", sort=False).agg(
        language=("language", "first"), query=("query", "first"), target=("clean_target", "first"),
        rows=("relevant", "size"), relevant=("relevant", "sum"),
    )  # fmt: skip
    pairs = pairs.sort_values("rows", ascending=False, kind="stable").reset_index(drop=True)
    return pairs.head(EXAMPLES).astype({"relevant": "int64"})


def list_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """List the pairs that occur most often, at most `EXAMPLES`."""
    size = frame.groupby("pair_key", sort=False)["id"].transform("size").rename("rows")
    repeated = pd.concat([frame[["pair_key", "language", "query", "clean_target"]], size], axis=1)[size > 1]
    first = repeated.drop_duplicates("pair_key").sort_values("rows", ascending=False, kind="stable")
    return first.drop(columns="pair_key").rename(columns={"clean_target": "target"}).head(EXAMPLES)


def measure_noise(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the share of rows with each kind of noise by language, and over all rows.

    Returns:
        Columns language, rows, and one a kind: query or target changed by cleaning, given as `en` but not English,
        other script than Latin, both scripts, digits, no letter at all.
    """
    found = {name: frame["query"].str.contains(pattern, regex=True) for name, pattern in _PATTERNS.items()}
    kinds = pd.DataFrame(
        {
            "query changed by cleaning": frame["origin_query"] != frame["query"],
            "target changed by cleaning": frame["target"] != frame["clean_target"],
            "labelled en, is not": (frame["given_language"] == "en") & (frame["language"] != "en"),
            "non-Latin letters": found["non-Latin letters"],
            "two scripts": found["non-Latin letters"] & found["Latin letters"],
            "digits": found["digits"],
            "no letter": ~found["letters"],
        }
    ).astype("float64")
    by_language = kinds.groupby(frame["language"]).mean().assign(rows=frame["language"].value_counts())
    by_language = by_language.sort_values("rows", ascending=False, kind="stable").reset_index()
    whole = kinds.mean().to_frame().T.assign(language="all", rows=len(frame))
    return pd.concat([whole, by_language], ignore_index=True)[["language", "rows", *kinds]]


def describe_taxonomy(frame: pd.DataFrame) -> pd.DataFrame:
    """Describe the tree of category paths level by level.

    Returns:
        level, names (distinct), nodes (distinct prefixes), paths that end there, rows whose path ends there and
        the share of relevant ones among these rows.
    """
    form = form_of(frame)
    tree = Taxonomy.from_paths(frame["target"], form)
    depth = frame["target"].map({path: len(form.split(path)) for path in frame["target"].unique()})
    labels = labels_of(frame).groupby(depth.to_numpy())
    rows, relevant = depth.value_counts(), labels.mean()
    prefixes = [{path[:level] for path in tree.paths if len(path) >= level} for level in _levels(tree)]
    return pd.DataFrame(
        {
            "level": list(_levels(tree)),
            "names": [len(names) for names in tree.levels],
            "nodes": [len(nodes) for nodes in prefixes],
            "paths that end here": [tree.depths.get(level, 0) for level in _levels(tree)],
            "rows": [int(rows.get(level, 0)) for level in _levels(tree)],
            "relevant": [relevant.get(level, np.nan) for level in _levels(tree)],
        }
    )


def list_branches(frame: pd.DataFrame) -> pd.DataFrame:
    """List the largest first levels: paths, rows and share of relevant ones, at most `EXAMPLES`."""
    form = form_of(frame)
    first = frame["target"].map({path: form.split(path)[0] for path in frame["target"].unique()})
    groups = frame.assign(relevant=labels_of(frame)).groupby(first.to_numpy(), sort=False)
    table = groups.agg(paths=("target", "nunique"), rows=("id", "size"), relevant=("relevant", "mean"))
    table = table.rename_axis("first level").sort_values("rows", ascending=False, kind="stable")
    return table.reset_index().head(EXAMPLES)


def _keys(texts: pd.Series) -> np.ndarray:
    codes, distinct = pd.factorize(texts)
    normalised = np.array([normalise_text(text) for text in distinct], dtype=object)
    return pd.util.hash_array(normalised, categorize=False)[codes]


def _overlaps(queries: pd.Series, targets: pd.Series) -> np.ndarray:
    (left, texts), (right, others) = pd.factorize(queries), pd.factorize(targets)
    sets = [set(split_words(text)) for text in texts], [set(split_words(text)) for text in others]
    return np.fromiter((jaccard(sets[0][a], sets[1][b]) for a, b in zip(left, right, strict=True)), float, len(left))


def _contradictory(frame: pd.DataFrame) -> pd.Series:
    return labels_of(frame).groupby(frame["pair_key"]).transform("nunique") > 1


def _most_common(texts: pd.Series) -> str:
    counts = Counter(word for text in texts for word in set(split_words(text)))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP_WORDS]
    return ", ".join(f"{word} ({count:,})" for word, count in ranked)


def _zero_share(values: pd.Series) -> float:
    return float((values == 0).mean())


def _quantile_name(quantile: float) -> str:
    return {0.5: "median", 1.0: "longest"}.get(quantile, f"{quantile:.0%}")


def _levels(tree: Taxonomy) -> range:
    return range(1, len(tree.levels) + 1)
