"""Make QC rows from a tree of categories, without a human label: names as queries, paths as targets."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from product_relevance.data.provenance import draw_share
from product_relevance.preparation.augmentation.category_tree import ENGLISH, Category
from product_relevance.preparation.augmentation.noise import KINDS, NoiseSource, check_noise_options, make_variant
from product_relevance.text.cleaning import clean_text, normalise_text
from product_relevance.text.language_codes import normal_codes
from product_relevance.text.path_format import form_of
from product_relevance.text.taxonomy import LEVEL_BREAK, PathForm
from product_relevance.utils.options import option, required

logger = logging.getLogger(__name__)

SIBLING, COUSIN, STRANGER = "sibling", "cousin", "stranger"
TRIES = 30  # random categories looked at before a query goes without a negative of a kind
MOST_LOWER = 0.5  # share of lower-case paths from which on a file counts as lower-case
DEEPEST = 0.95  # share of a file's paths that are no deeper than those made after it

Levels = tuple[str, ...]


@dataclass(kw_only=True)
class PairOptions:
    """Which rows are made from a tree, and how many."""

    languages: list[str] = required("languages of the queries (en de pt-BR); the tree needs names in each")
    rows: int = option(8000, "rows to make")
    positive_share: float = option(0.5, "share of the rows with label 1: a name with the path of its own category")
    siblings: float = option(0.5, "share of the negatives whose path has the same parent")
    cousins: float = option(0.3, "share of the negatives whose path has the same first level, and another parent")
    strangers: float = option(0.2, "share of the negatives whose path has another first level")
    noise: float = option(0.2, "share of the queries that get a slip as people make it")
    kinds: list[str] = option([], "kinds of noise; all by default")
    like: str | None = option(
        None, "training records of QC: paths get their separator, their case and at most their number of levels"
    )
    target_separator: str = option(",", "text between the levels of a target, without --like")
    target_levels: int = option(0, "most levels of a target, without --like; 0: all")
    lowercase: bool = option(True, "lower-case names and, without --like, paths")
    seed: int = option(42, "another seed draws other names, negatives and noise")

    def __post_init__(self) -> None:
        self.languages = normal_codes(self.languages)
        check_noise_options(self.noise, self.kinds)
        shares = {"siblings": self.siblings, "cousins": self.cousins, "strangers": self.strangers}
        if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
            found = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            raise ValueError(f"negatives: found {found}, expected shares from 0 on that sum to 1")
        if not 0 < self.positive_share <= 1:
            raise ValueError(f"positive_share: found {self.positive_share}, expected a share above 0 and up to 1")
        if self.rows < 1:
            raise ValueError(f"rows: found {self.rows}, expected at least 1")
        if not self.target_separator.strip() or self.target_levels < 0:
            found = f"target_separator {self.target_separator!r}, target_levels {self.target_levels}"
            raise ValueError(f"targets: found {found}, expected a text that is not blank, and 0 or more levels")

    @property
    def style(self) -> "PathStyle":
        """How targets are written without records to take it from."""
        return PathStyle(self.target_separator.strip(), self.lowercase, self.target_levels)


@dataclass(frozen=True)
class PathStyle:
    """How targets are written.

    Attributes:
        separator: Text between two levels.
        lowercase: Whether they are lower-case.
        levels: The most levels that a path may have; a deeper category is named by its first ones. 0: any number.
    """

    separator: str
    lowercase: bool
    levels: int

    @classmethod
    def from_records(cls, frame: pd.DataFrame) -> "PathStyle":
        """Find how the targets of QC records are written."""
        form, paths = form_of(frame), frame.loc[frame["target"] != "", "target"].drop_duplicates()
        levels = paths.map(lambda path: len(form.split(path)))
        lower = (paths == paths.str.lower()).mean() >= MOST_LOWER
        return cls(form.separator, bool(lower), int(levels.quantile(DEEPEST, interpolation="lower")))

    def shorten(self, levels: Levels) -> Levels:
        """Return the levels that are written."""
        return levels[: self.levels] if self.levels else levels

    def write_path(self, levels: Levels) -> str:
        """Write a path; a separator inside a level's name gives way, so that the levels stay as they are."""
        if self.separator == ",":
            names = [LEVEL_BREAK.sub(", ", clean_text(level, self.lowercase) or level) for level in levels]
        else:
            names = [clean_text(level, self.lowercase).replace(self.separator, " ") for level in levels]
        return PathForm(self.separator).join(names)


@dataclass(frozen=True)
class _Name:
    """A name of a category in a language; `query` is what is asked, still without noise."""

    node: int
    language: str
    query: str
    english: str
    key: str


class _Tree:
    """The categories as they are written, and who is whose relative; nodes are numbers."""

    def __init__(self, categories: Sequence[Category], style: PathStyle) -> None:
        self.paths: list[Levels] = list(dict.fromkeys(style.shorten(category.levels) for category in categories))
        self.place = {path: node for node, path in enumerate(self.paths)}
        self.children, self.family = defaultdict[Levels, list[int]](list), defaultdict[str, list[int]](list)
        # A first level alone is nobody's own path, so as a negative it would give its label away.
        self.targets = sorted({self.place[style.shorten(each.levels)] for each in categories if len(each.levels) > 1})
        for node in self.targets:
            self.children[self.paths[node][:-1]].append(node)
            self.family[self.paths[node][0]].append(node)
        self.meanings = defaultdict[str, set[int]](set)
        for category in categories:
            node = self.place[style.shorten(category.levels)]
            for name in (name for names in category.names.values() for name in names):
                self.meanings[normalise_text(name)].add(node)

    def draw_negative(self, kind: str, node: int, avoided: set[int], draws: Iterator[float]) -> int | None:
        """Draw a category of a kind of kinship to a node that is no relative of those avoided; None without one."""
        path = self.paths[node]
        pools = {SIBLING: self.children[path[:-1]], COUSIN: self.family[path[0]]}
        pool = pools.get(kind, self.targets)
        for _ in range(TRIES):
            found = pool[int(next(draws) * len(pool))]
            if self._kinship(path, self.paths[found]) == kind and not self._is_related(found, avoided):
                return found
        return None

    def _kinship(self, one: Levels, other: Levels) -> str:
        if one[0] != other[0]:
            return STRANGER
        return SIBLING if one[:-1] == other[:-1] else COUSIN

    def _is_related(self, node: int, avoided: set[int]) -> bool:
        # An ancestor's path answers the query, too, if less well; a descendant's may.
        path = self.paths[node]
        return any(path[: len(other)] == other[: len(path)] for other in map(self.paths.__getitem__, avoided))


def make_pairs(categories: Sequence[Category], options: PairOptions, style: PathStyle) -> list[dict[str, Any]]:
    """Make rows: each query with the path of its category, label 1, and with paths of other ones, label 0.

    A path is no negative of a query that names its category in any language, nor that of an ancestor or a descendant.
    The languages take turns. First levels alone are no queries: nobody types them.

    Args:
        categories: From `read_tree`.
        options: How many rows, and which.
        style: How targets are written.

    Returns:
        Records as JSON has them; the same options give the same ones. Fewer than asked for where the tree has no more.
    """
    tree, rows, negatives = _Tree(categories, style), list[dict[str, Any]](), 0
    asked: set[tuple[str, str]] = set()
    per_query = 1 / options.positive_share - 1
    for turn, name in enumerate(_in_turn(_names(categories, options, tree, style), options), 1):
        query = _with_noise(name, options)
        if (key := (normalise_text(query), name.language)) in asked:
            continue
        asked.add(key)
        found = _negatives_of(name, round(turn * per_query) - negatives, tree, options)
        negatives = round(turn * per_query)
        for node, label in ((name.node, 1), *((node, 0) for node in found)):
            path = style.write_path(tree.paths[node])
            rows.append({"id": len(rows) + 1, "task": "QC", "language": name.language, "origin_query": query})
            rows[-1] |= {"category_path": path, "label": label}
        if len(rows) >= options.rows:
            return rows[: options.rows]
    logger.warning(
        "the tree has names for %s rows only, of %s that were asked for", f"{len(rows):,}", f"{options.rows:,}"
    )
    return rows


def _names(categories: Sequence[Category], options: PairOptions, tree: _Tree, style: PathStyle) -> Iterator[_Name]:
    for category in (category for category in categories if len(category.levels) > 1):
        node = tree.place[style.shorten(category.levels)]
        english = next(iter(category.names.get(ENGLISH, ())), "")
        for language in options.languages:
            for name in category.names.get(language, ()):
                if query := clean_text(name, options.lowercase):
                    key = "\n".join((language, *category.levels, name))
                    yield _Name(node, language, query, clean_text(english, options.lowercase) or query, key)


def _in_turn(names: Iterator[_Name], options: PairOptions) -> Iterator[_Name]:
    """Give one name of each language after the other, those of a language in an order drawn by the seed."""
    of_language: dict[str, list[_Name]] = {language: [] for language in options.languages}
    for name in names:
        of_language[name.language].append(name)
    drawn = [
        sorted(found, key=lambda name: draw_share(options.seed, "name", name.key)) for found in of_language.values()
    ]
    for turn in range(max(map(len, drawn))):
        yield from (found[turn] for found in drawn if turn < len(found))


def _with_noise(name: _Name, options: PairOptions) -> str:
    if draw_share(options.seed, "noise", name.key) >= options.noise:
        return name.query
    source = NoiseSource(name.query, name.language, name.english, name.key)
    found = make_variant(source, options.kinds or tuple(KINDS), options.seed)
    return found[0] if found else name.query


def _negatives_of(name: _Name, count: int, tree: _Tree, options: PairOptions) -> list[int]:
    # What was found is avoided with its relatives, too: so a query's negatives differ.
    avoided, found = {name.node} | tree.meanings[normalise_text(name.query)], list[int]()
    for number in range(count):
        for kind in _kinds_in_turn(draw_share(options.seed, "kind", name.key, number), options):
            draws = (draw_share(options.seed, kind, name.key, number, attempt) for attempt in range(TRIES))
            if (node := tree.draw_negative(kind, name.node, avoided, draws)) is not None:
                found.append(node)
                avoided.add(node)
                break
    return found


def _kinds_in_turn(draw: float, options: PairOptions) -> list[str]:
    """Return the kind that a draw from [0, 1) stands for, then the kinds that take its place where there is none."""
    if draw < options.siblings:
        return [SIBLING, COUSIN, STRANGER]
    return [COUSIN, STRANGER] if draw < options.siblings + options.cousins else [STRANGER, COUSIN]
