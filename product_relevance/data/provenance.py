"""Rows made from other rows: their ids, where they came from, and the fold that they keep."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from product_relevance.data.records import read_records
from product_relevance.text.cleaning import normalise_text
from product_relevance.utils.files import atomic_write
from product_relevance.utils.tasks import TARGET_FIELD

ORIGINAL = "original"
FACTS = b"product_relevance"  # key in a Parquet file's metadata
# Method -> its tag in the id of a made row: `17#n1` is the first noisy variant of row 17.
METHODS = {"translated": "t", "back_translated": "b", "noise": "n", "hard_negative": "h", "easy_negative": "e"}
# What the reader noted of a source file; it means nothing for made rows and is not written.
_READERS_NOTES = ("defect", "original", "line")
QUERIES = ("origin_query", "translated_query")
NEEDED = ("query", "clean_target", "translated_query", "given_language", "fold")


def draw_share(seed: int, *keys: object) -> float:
    """Draw from [0, 1) by hash: the same on every platform, whatever the order of rows, and for ever."""
    text = "\x1f".join(map(str, (seed, *keys)))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:6], "big") / 2**48


def with_provenance(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy in which every row states its origin.

    Args:
        frame: Records with unique ids.

    Returns:
        The frame with ids as texts and the columns `method`, `source_row` (the id of the original; its own for an
        original), `seed` (-1 for an original) and `detail`, as far as it did not have them.

    Raises:
        ValueError: An id occurs twice.
    """
    made = frame.copy()
    made["id"] = frame["id"].astype(str)
    _require_unique(made["id"])
    defaults = {"method": ORIGINAL, "source_row": made["id"], "seed": -1, "detail": ""}
    for name, value in defaults.items():
        if name not in made:
            made[name] = pd.Series(value, index=made.index, dtype="int64" if name == "seed" else "str")
    return made


def append_rows(
    frame: pd.DataFrame, positions: Sequence[int], changes: Mapping[str, Sequence[Any]], method: str, seed: int
) -> pd.DataFrame:
    """Append variants of rows, each in the fold of its source.

    A variant whose new query or translation is that of a row in another fold is left out: trained on, it would show
    a validation query. Likewise of new texts that variants of several folds share, only the lowest fold's stay. And
    no variant repeats a pair of texts, or contradicts the label of one.

    Args:
        frame: Records, with `fold` where folds were assigned.
        positions: The source of each variant, as a row number (variants,).
        changes: Column -> a value a variant; columns that the frame lacks are left out, except `detail`.
        method: One of METHODS.
        seed: What the variants were drawn with.

    Returns:
        The frame as `with_provenance` gives it, followed by the variants in the order of their sources.
        `attrs["made"][method]` counts `rows` and what was left out: `crossing` folds, `clashing` with other pairs.

    Raises:
        ValueError: An id occurs twice.
    """
    base, sources = with_provenance(frame), np.asarray(positions, dtype=np.int64)
    order = np.argsort(sources, kind="stable")
    parents = base.iloc[sources[order]]
    new = parents.copy()
    for name in changes.keys() & set(base):
        new[name] = pd.Series([changes[name][i] for i in order], index=new.index, dtype=base[name].dtype)
    counts = {"crossing": 0, "clashing": 0}
    if set(QUERIES) & changes.keys():
        key_of = _normalised(base, new)
        crossing = _crossing(base, parents, new, key_of) if "fold" in base else np.zeros(len(new), dtype=bool)
        clashing = _clashing(base, new, key_of) & ~crossing
        counts = {"crossing": int(crossing.sum()), "clashing": int(clashing.sum())}
        new, parents = new[~crossing & ~clashing].copy(), parents[~crossing & ~clashing]
    new["method"], new["seed"], new["id"] = method, seed, _new_ids(base, parents["id"], method)
    for name in {"defect", "original"} & set(new):
        new[name] = ""
    joined = pd.concat([base, new], ignore_index=True).astype(base.dtypes.to_dict())
    _require_unique(joined["id"])
    joined.attrs = frame.attrs | {"made": frame.attrs.get("made", {}) | {method: {"rows": len(new)} | counts}}
    return joined


def read_prepared(path: str | os.PathLike[str], task: str, on_bad_rows: str = "error") -> pd.DataFrame:
    """Read what dataset_scripts/prepare.py wrote: records with their columns and folds.

    Raises:
        ValueError: Bad records, or columns missing.
    """
    frame = read_records(path, task=task, role="train", on_bad_rows=on_bad_rows)
    if missing := [name for name in NEEDED if name not in frame]:
        raise ValueError(
            f"{path}: found no column {', '.join(missing)}, expected prepared records: made rows keep the fold of "
            "their source, so run dataset_scripts/prepare.py on the file first"
        )
    return frame


def write_rows(frame: pd.DataFrame, path: str | os.PathLike[str], facts: Mapping[str, Any] | None = None) -> None:
    """Write records as Parquet that the reader takes; the same rows and facts give the same bytes.

    Args:
        frame: Records.
        path: Of the file.
        facts: How the rows were made, as JSON; they lie in the file's metadata, where the reader passes over them.
    """
    whole = pa.Table.from_pandas(as_source(frame), preserve_index=False)
    if facts:
        content = json.dumps(facts, ensure_ascii=False, sort_keys=True).encode("utf-8", "backslashreplace")
        whole = whole.replace_schema_metadata(whole.schema.metadata | {FACTS: content})
    with atomic_write(path, "wb") as file:
        pq.write_table(whole, file)


def as_source(frame: pd.DataFrame) -> pd.DataFrame:
    """Return records as the reader takes them: with the source's name of the target and its texts, without notes."""
    task = frame.attrs.get("task") or frame["task"].iloc[0]
    frame = _with_originals(frame, TARGET_FIELD[task]) if "original" in frame else frame
    table = frame.drop(columns=[name for name in frame if str(name).removeprefix("source_") in _READERS_NOTES])
    table = table.rename(columns={"target": TARGET_FIELD[task]})
    table.attrs = {}  # pandas writes them into the file, and one of them is the speed of reading
    return table


def _with_originals(frame: pd.DataFrame, target_field: str) -> pd.DataFrame:
    """Return records with the texts that the reader replaced, so that it finds and reports the same defects again."""
    names = {"language": "language", "origin_query": "origin_query", target_field: "target"}
    frame = frame.copy()
    for row, texts in frame.loc[frame["original"] != "", "original"].items():
        for field, value in json.loads(texts).items():
            if field in names and (value is None or isinstance(value, (str, float))):
                frame.loc[row, names[field]] = value if isinstance(value, str) else None
    return frame


def read_rows(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read what `write_rows` wrote as it was, without the checks of records."""
    frame = pd.read_parquet(path)
    return frame.rename(columns={TARGET_FIELD[frame["task"].iloc[0]]: "target"})


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts that `write_rows` put into a file; none for a file without them."""
    found: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(FACTS, b"{}"))
    return found


def _require_unique(ids: pd.Series) -> None:
    twice = ids[ids.duplicated()]
    if len(twice):
        raise ValueError(
            f"ids: found {twice.iloc[0]!r} twice, expected each once: made rows name their source by its id"
        )


def _normalised(*frames: pd.DataFrame) -> dict[str, str]:
    """Map each query and translation to the key by which `folds` and `leakage` compare it."""
    columns = [frame[name].fillna("") for frame in frames for name in QUERIES if name in frame]
    return {text: normalise_text(text) for text in set().union(*columns)}


def _crossing(base: pd.DataFrame, parents: pd.DataFrame, new: pd.DataFrame, key_of: dict[str, str]) -> np.ndarray:
    """Return which new rows have a text that is new to their source and belongs to another fold."""
    folds_of: dict[str, set[int]] = {}
    for keys, fold in zip(_keys(base, key_of), base["fold"].tolist(), strict=True):
        for key in keys:
            folds_of.setdefault(key, set()).add(fold)
    fresh = [now - was for was, now in zip(_keys(parents, key_of), _keys(new, key_of), strict=True)]
    rows = list(zip(fresh, new["fold"].tolist(), strict=True))
    claims: dict[str, set[int]] = {}
    for keys, fold in rows:
        for key in keys:
            claims.setdefault(key, set()).add(fold)
    owners = {key: folds_of.get(key, {min(folds)}) for key, folds in claims.items()}
    return np.array([any(owners[key] != {fold} for key in keys) for keys, fold in rows], dtype=bool)


def _keys(frame: pd.DataFrame, key_of: dict[str, str]) -> list[set[str]]:
    columns = [frame[name].fillna("").tolist() for name in QUERIES if name in frame]
    return [{key_of[text] for text in texts} - {""} for texts in zip(*columns, strict=True)]


def _clashing(base: pd.DataFrame, new: pd.DataFrame, key_of: dict[str, str]) -> np.ndarray:
    """Return which new rows repeat a pair of texts, or have a pair that has the other label elsewhere."""
    both = pd.concat([base, new], ignore_index=True)
    both = both[["id", "origin_query", "target"]].assign(label=both["label"].fillna(-1) if "label" in both else -1)
    both["is_new"], both["query"] = np.arange(len(both)) >= len(base), both["origin_query"].map(key_of)
    both = both[both["query"].isin(set(both["query"][both["is_new"]]))]
    both["path"] = both["target"].map({text: normalise_text(text) for text in both["target"].unique()})
    labels = both.groupby(["query", "path"])["label"].transform("nunique")
    # Among new rows the one with the least id stays, whatever the order of rows.
    repeated = both.sort_values(["is_new", "id"], kind="stable").duplicated(["origin_query", "target"])
    return ((labels > 1) | repeated)[both["is_new"]].to_numpy(bool)


def _new_ids(base: pd.DataFrame, parents: pd.Series, method: str) -> list[str]:
    before = base.loc[base["method"] == method, "id"].str.rsplit("#", n=1).str[0].value_counts()
    numbers = parents.map(before).fillna(0).astype("int64") + parents.groupby(parents).cumcount() + 1
    return [f"{parent}#{METHODS[method]}{n}" for parent, n in zip(parents, numbers, strict=True)]
