"""Find the positives that negatives are made for, the catalogue, and the targets that a query must not get."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_relevance.data.arguments import GROUPINGS, FoldArguments
from product_relevance.data.folds import prefix_groups, query_groups
from product_relevance.data.provenance import draw_share
from product_relevance.text.cleaning import normalise_text
from product_relevance.text.path_format import form_of
from product_relevance.text.taxonomy import PathForm
from product_relevance.utils.options import option

UNITS = ("similarity", "quantile")  # cosines, or quantiles of the cosines of the positives


@dataclass(kw_only=True)
class NegativeOptions:
    """How many negatives to make, and from which targets."""

    unit: str = option("similarity", "unit of the limits", [*UNITS])
    per_positive: int = option(1, "negatives per positive at most")
    negative_share: float | None = option(None, "stop at this share of negatives in each language")
    max_targets: int = option(20_000, "targets to take negatives from; of more distinct ones so many are drawn")
    seed: int = option(42, "another seed draws other negatives")

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit: found {self.unit!r}, expected one of {', '.join(UNITS)}")
        if self.per_positive < 1:
            raise ValueError(f"per_positive: found {self.per_positive}, expected at least 1")
        if self.negative_share is not None and not 0 < self.negative_share < 1:
            raise ValueError(f"negative_share: found {self.negative_share}, expected a share between 0 and 1")
        if self.max_targets < 1:
            raise ValueError(f"max_targets: found {self.max_targets}, expected at least 1")

    def check_limits(self, *limits: float) -> None:
        """Check limits of similarity before anything is encoded.

        Args:
            *limits: A single limit, or the two ends of a band.

        Raises:
            ValueError: A quantile lies outside 0 to 1, or the higher end of a band comes first.
        """
        if self.unit == "quantile" and not all(0 <= value <= 1 for value in limits):
            raise ValueError(f"quantiles: found {', '.join(map(str, limits))}, expected values from 0 to 1")
        if list(limits) != sorted(limits):
            raise ValueError(f"band: found {limits[0]} to {limits[1]}, expected the lower end first")


class Catalogue:
    """The distinct targets of the records; writings that differ in case or quotes alone are one target.

    Attributes:
        targets, clean: Each target as given (the first of its writings in sorted order) and cleaned.
        levels: Each target's normalised levels; those of an item title are the whole title.
        of_row, row_levels: The place of each row's target (-1: not in the catalogue) and its levels.
    """

    def __init__(self, frame: pd.DataFrame, limit: int, seed: int):
        self.is_paths = bool((frame["task"] == "QC").all())
        texts, names = pd.factorize(frame["clean_target"].fillna("").astype(str))
        # The None keeps numpy from making a table of paths of equal depth.
        form = form_of(frame) if self.is_paths else None
        levels = np.array([*(_levels(name, form) for name in names), None], dtype=object)
        table = pd.DataFrame({"levels": levels[:-1], "clean": names, "target": frame["target"].groupby(texts).min()})
        table = table[[any(path) for path in table["levels"]]].sort_values(["levels", "target"])
        table = table.drop_duplicates("levels")
        if len(table) > limit:
            draws = np.array([draw_share(seed, "catalogue", *path) for path in table["levels"]])
            table = table.iloc[np.sort(np.argsort(draws, kind="stable")[:limit])]
        self.targets, self.clean = table["target"].tolist(), table["clean"].tolist()
        self.levels = table["levels"].tolist()
        self._place, self._below = {path: i for i, path in enumerate(self.levels)}, _below(self.levels)
        self.row_levels = levels[texts]
        self.of_row = np.array([self._place.get(path, -1) for path in self.row_levels], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.targets)

    def relatives(self, levels: tuple[str, ...]) -> set[int]:
        """Return the places of a path itself, its ancestors and its descendants."""
        above = {self._place[levels[:n]] for n in range(1, len(levels)) if levels[:n] in self._place}
        return above | set(self._below.get(levels, ()))


class Positives:
    """The rows with label 1 that negatives are made for.

    Attributes:
        frame, options, folds, catalogue: What they are made from. With folds by prefix a negative's path has its
            prefix in the fold of its row, so that training never sees a validation prefix.
        rows: Their row numbers (positives,).
        groups: The query group of each as a number: queries linked by text or translation count as one.
    """

    def __init__(self, frame: pd.DataFrame, options: NegativeOptions, folds: FoldArguments):
        self.frame, self.options, self.folds = frame, options, folds
        self.catalogue = Catalogue(frame, options.max_targets, options.seed)
        self._relevant = frame["label"].eq(1).fillna(False).to_numpy(bool)
        self._group_of_row = pd.factorize(query_groups(frame))[0]
        usable = (frame["query"].fillna("") != "").to_numpy(bool)
        self.rows = np.flatnonzero(self._relevant & usable)
        self.groups = self._group_of_row[self.rows]

    def forbidden(self, relatives: bool) -> list[np.ndarray]:
        """List what each query must not get: every target that it was paired with, in any row of any fold.

        Args:
            relatives: And the ancestors and descendants of its positives.

        Returns:
            Sorted places in the catalogue, an array a positive.
        """
        found: dict[int, set[int]] = {group: set() for group in self.groups.tolist()}
        places, levels = self.catalogue.of_row.tolist(), self.catalogue.row_levels
        for row, group in enumerate(self._group_of_row.tolist()):
            if group in found:
                found[group] |= {places[row]} - {-1}
                if relatives and self.catalogue.is_paths and self._relevant[row]:
                    found[group] |= self.catalogue.relatives(levels[row])
        arrays = {group: np.array(sorted(near), dtype=np.int32) for group, near in found.items()}
        return [arrays[group] for group in self.groups.tolist()]

    def roots(self) -> list[set[str]]:
        """Return the first levels of the paths that are relevant to each query."""
        roots: dict[int, set[str]] = {}
        for row in np.flatnonzero(self._relevant).tolist():
            roots.setdefault(self._group_of_row[row], set()).add(self.catalogue.row_levels[row][0])
        return [roots[group] for group in self.groups]

    def weights(self) -> np.ndarray:
        """Count the rows with label 1 of each target."""
        places = self.catalogue.of_row[self._relevant]
        return np.bincount(places[places >= 0], minlength=len(self.catalogue))

    def same_fold(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which targets each positive may get: all, or where folds keep prefixes apart those of its own fold.

        Returns:
            (boolean (folds, targets), the row of it that holds for each positive)

        Raises:
            ValueError: No column `fold`, or a prefix whose rows lie in several folds.
        """
        if self.folds.group_by == "query":
            return np.ones((1, len(self.catalogue)), dtype=bool), np.zeros(len(self.rows), dtype=np.int64)
        codes = _prefix_folds(self.frame, self.folds)
        allowed = np.zeros((codes.max(initial=0) + 1, len(self.catalogue)), dtype=bool)
        known = self.catalogue.of_row >= 0
        allowed[codes[known], self.catalogue.of_row[known]] = True
        return allowed, codes[self.rows]

    def quotas(self) -> dict[str, float]:
        """Return how many negatives each language may get until `negative_share` of its rows has label 0."""
        languages, share = self.frame["language"].fillna(""), self.options.negative_share
        if share is None:
            return dict.fromkeys(set(languages), float("inf"))
        labels = self.frame["label"].fillna(-1).astype(int)
        counts = pd.crosstab(languages, labels).reindex(columns=[0, 1], fill_value=0)
        wanted = np.ceil((share * counts.sum(axis=1) - counts[0]) / (1 - share) - 1e-9)
        return wanted.clip(lower=0).to_dict()

    def languages(self) -> list[str]:
        """Return the language of each positive."""
        return self.frame["language"].fillna("").iloc[self.rows].tolist()

    def shuffled(self) -> list[int]:
        """Return the numbers of the positives in an order that depends on seed and ids alone."""
        ids = self.ids()
        return sorted(range(len(ids)), key=lambda i: (draw_share(self.options.seed, "order", ids[i]), ids[i]))

    def ids(self) -> list[str]:
        """Return the id of each positive."""
        return self.frame["id"].iloc[self.rows].astype(str).tolist()


def deal_targets(
    positives: Positives,
    propose: Callable[[int, str, set[int]], int | None],
    accept: Callable[[list[tuple[int, int]]], Iterable[bool]],
) -> list[tuple[int, int]]:
    """Deal out targets in rounds of at most one a positive, until all are served or nothing is left.

    Args:
        positives: To deal to.
        propose: From a positive's number, a key for draws and the places that its query has had, to a place or None.
        accept: Which of the proposed (positive, place) are taken.

    Returns:
        (positive, place) of each negative; a query gets no target twice.
    """
    ids, languages, quotas = positives.ids(), positives.languages(), positives.quotas()
    groups, used = positives.groups.tolist(), dict[int, set[int]]()
    missing, chosen = [positives.options.per_positive] * len(ids), list[tuple[int, int]]()
    waiting, turn = positives.shuffled(), 0
    while waiting:
        proposals, left = list[tuple[int, int]](), dict(quotas)
        for i in waiting:
            had = used.setdefault(groups[i], set())
            if left[languages[i]] >= 1:
                place = propose(i, f"{ids[i]} {turn}", had)
                if place is None:
                    missing[i] = 0
                else:
                    had.add(place)
                    left[languages[i]] -= 1
                    proposals.append((i, place))
        for (i, place), taken in zip(proposals, accept(proposals) if proposals else [], strict=True):
            if taken:
                chosen.append((i, place))
                missing[i] -= 1
                quotas[languages[i]] -= 1
        waiting = [i for i in waiting if missing[i] and quotas[languages[i]] >= 1] if proposals else []
        turn += 1
    return chosen


def _prefix_folds(frame: pd.DataFrame, folds: FoldArguments) -> np.ndarray:
    if folds.group_by not in GROUPINGS:
        raise ValueError(f"group_by: found {folds.group_by!r}, expected one of {', '.join(GROUPINGS)}")
    if "fold" not in frame:
        raise ValueError(f"group_by {folds.group_by!r}: found no column fold, expected the folds made by prefix")
    codes = pd.factorize(frame["fold"], sort=True)[0]
    pairs = pd.DataFrame({"prefix": prefix_groups(frame, folds.prefix_levels), "fold": codes}).drop_duplicates()
    split = pairs["prefix"][pairs["prefix"].duplicated()]
    if len(split):
        raise ValueError(
            f"group_by {folds.group_by!r}: found the prefix {split.iloc[0]!r} in several folds, expected each in one; "
            "give group_by and prefix_levels as the folds were made"
        )
    return codes


def _levels(text: str, form: PathForm | None) -> tuple[str, ...]:
    return tuple(map(normalise_text, form.split(text))) if form else (normalise_text(text),)


def _below(levels: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], list[int]]:
    """Map each node to the places of the paths at or under it."""
    below: dict[tuple[str, ...], list[int]] = {}
    for place, path in enumerate(levels):
        for depth in range(1, len(path) + 1):
            below.setdefault(path[:depth], []).append(place)
    return below
