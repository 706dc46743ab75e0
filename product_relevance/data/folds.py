"""Stratified, grouped folds that depend on the rows alone: not on their order, the platform or the hash seed."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from product_relevance.data.arguments import GROUPINGS
from product_relevance.text.cleaning import clean_path, normalise_text
from product_relevance.text.language_codes import normal_codes
from product_relevance.text.path_format import form_of
from product_relevance.text.taxonomy import path_prefix


@dataclass(frozen=True, eq=False)
class FoldAssignment:
    """Which rows each fold of a run validates on.

    Attributes:
        ids: Of the rows, as texts, shape (n,).
        folds: Name of the fold that validates on a row, "" where none does, shape (n,).
        digest: Name of a fold to task to the sha256 of the ids that it validates on. Folds of two runs with one digest
            leave out the same rows; settings do not show it, as folds depend on languages and translations too.
    """

    ids: np.ndarray
    folds: np.ndarray
    digest: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_rows(cls, rows: pd.DataFrame, folds: ArrayLike) -> "FoldAssignment":
        """Name the rows that each fold validates on.

        Args:
            rows: n records with id and task, in any order.
            folds: Name of each row's fold, "" where none validates on it, shape (n,).
        """
        names, ids = np.asarray(folds, dtype=object), rows["id"].astype(str).to_numpy(object)
        tasks = rows["task"].astype(str).to_numpy(object)
        digest: dict[str, dict[str, str]] = {name: {} for name in sorted(set(names) - {""}, key=lambda n: (len(n), n))}
        for name, by_task in digest.items():
            held = names == name
            by_task |= {task: _sha256_of(ids[held & (tasks == task)]) for task in sorted(set(tasks[held]))}
        return cls(ids, names, digest)

    def validated_by(self, fold: str) -> np.ndarray:
        """Return the rows that this fold validates on, as a mask of shape (n,)."""
        held: np.ndarray = self.folds == fold
        return held

    def to_json(self) -> dict[str, dict[str, str]]:
        """Return the digest, which is what run.json keeps."""
        return {name: dict(by_task) for name, by_task in self.digest.items()}


def assign_folds(
    frame: pd.DataFrame, k: int = 3, group_by: str = "query", prefix_levels: int = 2, seed: int = 42
) -> np.ndarray:
    """Give every row a fold, so that no group crosses folds and strata are spread evenly.

    Strata are language x label x first level of the path (QC) or language x label (QI). Of records of both tasks they
    are each task's own, while a group has rows of both: a query is never trained on for one task and held out for the
    other. Groups are placed one by one, the largest first and equal ones in the order of sha256(seed, group), each in
    the fold that has least of the group's strata so far.

    Args:
        frame: Records with task, language, origin_query, target and, if any, label and translated_query.
        k: Number of folds.
        group_by: "query": rows whose normalised query or its normalised translation equal one another's, directly
            or through other rows. "prefix" and "query+prefix" (QC): rows with the same first `prefix_levels`
            levels; for the latter `training_rows` also drops what shares a query with the validation side.
        prefix_levels: Levels of a prefix group.
        seed: Another seed gives other folds.

    Returns:
        int64 array (rows,) of folds 0..k-1.

    Raises:
        ValueError: Unknown grouping, a prefix grouping of item titles, or fewer groups than folds.
    """
    _check_grouping(frame, group_by)
    if k < 2:
        raise ValueError(f"folds: found {k}, expected at least 2")
    keys = query_groups(frame) if group_by == "query" else prefix_groups(frame, prefix_levels)
    codes, names = pd.factorize(keys, sort=True)
    if len(names) < k:
        raise ValueError(f"folds: found {len(names)} groups by {group_by!r}, expected at least {k}, one for each fold")
    fold_of_group = _place(codes, names, _strata(frame), k, seed)
    return fold_of_group[codes]


def training_rows(
    frame: pd.DataFrame, folds: np.ndarray, fold: int, group_by: str = "query"
) -> tuple[np.ndarray, int]:
    """Return the rows to train on when one fold is held out.

    The purge of "query+prefix": joining rows by query and by prefix into one kind of group would put nearly all
    rows into a single group. So prefixes make the folds, and the training side gives up the rows whose query group
    also occurs in the validation fold; the validation side stays whole.

    Args:
        frame: The records the folds were made of.
        folds: Their folds (rows,).
        fold: The held-out fold.
        group_by: As given to `assign_folds`.

    Returns:
        (boolean mask (rows,), number of purged rows)

    Raises:
        ValueError: Unknown grouping, or no such fold.
    """
    _check_grouping(frame, group_by)
    valid = np.asarray(folds) == fold
    if not valid.any():
        raise ValueError(f"fold: found {fold}, expected one of {', '.join(map(str, np.unique(folds)))}")
    return _purge(frame, valid) if group_by == "query+prefix" else (~valid, 0)


def leave_languages_out(frame: pd.DataFrame, languages: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Split by language: validate on these, train on the others, less what shares a query group with them.

    Args:
        frame: Records.
        languages: Codes to hold out, in any form of `normal_code`.

    Returns:
        (training mask, validation mask), both (rows,).

    Raises:
        ValueError: A language without rows, or none left to train on.
    """
    languages, found = sorted(set(normal_codes(languages))), pd.Series(normal_codes(frame["language"]))
    absent = sorted(set(languages) - set(found))
    if absent or not languages:
        present = ", ".join(sorted(set(found.dropna())))
        raise ValueError(f"held-out languages: found {', '.join(absent) or 'none'}, expected some of {present}")
    valid = found.isin(languages).to_numpy(dtype=bool)
    train, _ = _purge(frame, valid)
    if not train.any():
        raise ValueError(f"held-out languages: no row is left to train on without {', '.join(languages)}")
    return train, valid


def query_keys(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the normalised query and normalised translation of each row; "" where there is none."""
    queries = _mapped(frame["origin_query"], normalise_text)
    if "translated_query" not in frame:
        return queries, np.full(len(frame), "", dtype=object)
    return queries, _mapped(frame["translated_query"], normalise_text)


def query_groups(frame: pd.DataFrame) -> np.ndarray:
    """Name each row's query group by the first of its keys; rows linked by query or translation share a name."""
    queries, translations = query_keys(frame)
    translations = np.where(translations == "", queries, translations)
    codes, names = pd.factorize(np.concatenate([queries, translations]), sort=True)
    left, right = codes[: len(frame)], codes[len(frame) :]
    links = coo_matrix((np.ones(len(left), dtype=bool), (left, right)), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    # The names are sorted, so a component's first occurrence is its smallest name, whatever the order of rows.
    _, first = np.unique(component, return_index=True)
    found: np.ndarray = np.asarray(names, dtype=object)[first[component[left]]]
    return found


def hash_texts(texts: Iterable[str]) -> np.ndarray:
    """Return a number of 64 bits per text, which identifies a text without storing it, uint64 array (n,)."""
    codes, distinct = pd.factorize(np.asarray(texts, dtype=object))
    encoded = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8) for text in distinct)
    return np.array([int.from_bytes(each.digest()) for each in encoded], dtype=np.uint64)[codes]


def prefix_groups(frame: pd.DataFrame, levels: int = 2) -> np.ndarray:
    """Name each row's prefix group: the normalised first levels of its category path."""
    form = form_of(frame)
    return _mapped(frame["target"], lambda path: normalise_text(path_prefix(clean_path(path), levels, form=form)))


def _check_grouping(frame: pd.DataFrame, group_by: str) -> None:
    if group_by not in GROUPINGS:
        raise ValueError(f"group_by: found {group_by!r}, expected one of {', '.join(GROUPINGS)}")
    if group_by != "query" and not (frame["task"] == "QC").all():
        raise ValueError(f"group_by: found {group_by!r} for item titles (QI), which have no prefix; use 'query'")


def _purge(frame: pd.DataFrame, valid: np.ndarray) -> tuple[np.ndarray, int]:
    groups = query_groups(frame)
    shared = ~valid & pd.Series(groups).isin(set(groups[valid])).to_numpy()
    return ~valid & ~shared, int(shared.sum())


def _mapped(values: pd.Series, function: Callable[[str], str]) -> np.ndarray:
    codes, distinct = pd.factorize(values.fillna("").astype(str))
    return (
        np.array([function(text) for text in distinct], dtype=object)[codes] if len(values) else np.array([], object)
    )


def _strata(frame: pd.DataFrame) -> list[np.ndarray]:
    # Coarse strata beside the fine ones: many first levels are rarer than there are folds, and without the coarse
    # ones their rows would pull the balance of languages and labels.
    labels = frame["label"].astype("string").fillna("?") if "label" in frame else pd.Series("?", index=frame.index)
    coarse = frame["language"].fillna("?").astype(str).str.cat(labels.astype(str), sep="\x1f")
    paths = frame["task"] == "QC"
    if paths.any() and not paths.all():
        coarse = coarse.str.cat(frame["task"], sep="\x1f")
    strata = [pd.factorize(coarse, sort=True)[0]]
    if paths.any():
        first_level = pd.Series("", index=frame.index)
        first_level[paths] = prefix_groups(frame[paths], 1)
        strata.append(pd.factorize(coarse.str.cat(first_level, sep="\x1f"), sort=True)[0])
    return strata


def _place(codes: np.ndarray, names: np.ndarray, strata: list[np.ndarray], k: int, seed: int) -> np.ndarray:
    sizes = np.bincount(codes, minlength=len(names))
    order = sorted(range(len(names)), key=lambda group: (-sizes[group], _digest(seed, str(names[group]))))
    counts, totals = _counts(codes, strata, len(names))
    loads = [[0] * len(totals) for _ in range(k)]
    rows = [0] * k
    fold_of_group = np.zeros(len(names), dtype=np.int64)
    for group in order:
        held = counts[group]
        # The sum over strata of squared loads, each relative to the stratum's size, grows by this much (times 2).
        costs = [sum(n * load[stratum] / totals[stratum] for stratum, n in held) for load in loads]
        best = min(range(k), key=lambda fold: (costs[fold], rows[fold], fold))
        fold_of_group[group] = best
        rows[best] += int(sizes[group])
        for stratum, n in held:
            loads[best][stratum] += n
    return fold_of_group


def _counts(codes: np.ndarray, strata: list[np.ndarray], groups: int) -> tuple[list[list[tuple[int, int]]], list[int]]:
    """Count each group's rows by stratum; strata of several kinds are numbered through."""
    counts: list[list[tuple[int, int]]] = [[] for _ in range(groups)]
    totals: list[int] = []
    for kind in strata:
        pairs, n = np.unique(np.stack([codes, kind], axis=1), axis=0, return_counts=True)
        for (group, stratum), count in zip(pairs.tolist(), n.tolist(), strict=True):
            counts[group].append((len(totals) + stratum, count))
        totals += np.bincount(kind).tolist()
    return counts, totals


def _sha256_of(ids: Iterable[str]) -> str:
    return hashlib.sha256("\x1f".join(sorted(ids)).encode("utf-8", "surrogatepass")).hexdigest()


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{name}".encode("utf-8", "surrogatepass")).digest()
