"""Category paths: split them into levels, collect them in a tree, and look new paths up in it."""

import json
import os
import re
from collections.abc import Iterable
from functools import cached_property

import pandas as pd

from product_relevance.files import atomic_write
from product_relevance.reading import read_json

# Levels are joined by "," without a blank; a level's own name may hold ", " (the competition's training files).
LEVEL_BREAK = re.compile(r",(?! )")
MAX_LEVELS = 100  # of a path in taxonomy.json; each of them becomes a node
PATH_STYLES = ("raw", "markers", "level_tags", "leaf_first")


class Taxonomy:
    """The tree of the known category paths; every prefix of a known path is a known node.

    Attributes:
        paths: The known paths as tuples of levels, sorted.
    """

    def __init__(self, paths: Iterable[tuple[str, ...]]):
        self.paths = sorted(set(paths))
        self._leaves = set(self.paths)
        self._nodes = {path[:depth] for path in self.paths for depth in range(1, len(path) + 1)}

    @classmethod
    def from_paths(cls, paths: Iterable[str]) -> "Taxonomy":
        """Build the tree from paths in the first rendering ("," without a blank)."""
        return cls(tuple(split_path(path)) for path in set(paths))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Taxonomy":
        """Read a tree that `save` wrote.

        Raises:
            ValueError: no such tree.
        """
        paths = read_json(path, list)
        for levels in paths:
            good = isinstance(levels, list) and 0 < len(levels) <= MAX_LEVELS
            if not good or not all(isinstance(level, str) for level in levels):
                raise ValueError(
                    f"{path}: found {str(levels)[:80]!r}, expected the names of 1 to {MAX_LEVELS} levels for each path"
                )
        return cls(map(tuple, paths))

    def save(self, path: str | os.PathLike) -> None:
        """Write the known paths as JSON lists of levels."""
        with atomic_write(path) as file:
            json.dump(self.paths, file, ensure_ascii=False, indent=0)

    @cached_property
    def levels(self) -> list[list[str]]:
        """The distinct names at each depth, sorted."""
        deepest = max(map(len, self.paths), default=0)
        return [sorted({path[depth] for path in self.paths if len(path) > depth}) for depth in range(deepest)]

    @cached_property
    def depths(self) -> dict[int, int]:
        """The number of known paths of each depth."""
        counts = pd.Series([len(path) for path in self.paths], dtype="int64").value_counts().sort_index()
        return {int(depth): int(count) for depth, count in counts.items()}

    @cached_property
    def _children(self) -> dict[tuple[str, ...], list[str]]:
        children = {}
        for node in sorted(self._nodes):
            children.setdefault(node[:-1], []).append(node[-1])
        return children

    def match(self, path: str) -> tuple[str, int]:
        """Compare a path with the tree.

        Args:
            path: A path in either rendering.

        Returns:
            ("complete", depth) for a known node, ("partial", depth) where only the first `depth` levels are known,
            ("none", 0) otherwise.
        """
        levels = tuple(split_path(path, self))
        depth = next((n for n in range(len(levels), 0, -1) if levels[:n] in self._nodes), 0)
        return ("complete" if depth == len(levels) else "partial" if depth else "none"), depth

    def report(self, paths: Iterable[str]) -> pd.DataFrame:
        """Match every distinct path; columns path, rows, levels, match, matched_levels; most frequent first."""
        counts = pd.Series(list(paths), dtype="object").value_counts().rename_axis("path").reset_index(name="rows")
        counts = counts.sort_values(["rows", "path"], ascending=[False, True], ignore_index=True)
        matches = [self.match(path) for path in counts["path"]]
        counts["levels"] = [len(split_path(path, self)) for path in counts["path"]]
        counts["match"], counts["matched_levels"] = [m for m, _ in matches], [d for _, d in matches]
        return counts

    def resolve(self, text: str) -> list[str] | None:
        """Find the one known path whose levels joined by ", " give the text.

        Args:
            text: A path in the second rendering.

        Returns:
            Its levels, or None where no known path or more than one gives this text.
        """
        found = []
        self._walk((), text, found)
        return list(found[0]) if len(found) == 1 else None

    def _walk(self, node: tuple[str, ...], rest: str, found: list) -> None:
        # Down the tree along the children that the text goes on with; two finds are enough to call it ambiguous.
        for name in self._children.get(node, []):
            if len(found) > 1:
                return
            if rest == name and (*node, name) in self._leaves:
                found.append((*node, name))
            elif rest.startswith(f"{name}, "):
                self._walk((*node, name), rest[len(name) + 2 :], found)


def split_path(path: str, known: Taxonomy | None = None) -> list[str]:
    """Split a category path into its levels.

    Args:
        path: Levels joined by "," without a blank, or (second rendering) by ", " throughout.
        known: Tree to look the second rendering up in. Without it, or where the look-up finds none or several
            paths, the text stays whole as a single level: nothing is guessed.

    Returns:
        The names of the levels, the root first.
    """
    levels = LEVEL_BREAK.split(path)
    if len(levels) == 1 and known is not None and ", " in path:
        return known.resolve(path) or levels
    return levels


def join_path(levels: Iterable[str]) -> str:
    """Join levels as the competition's training files do; the inverse of `split_path`."""
    return ",".join(levels)


def prefix(path: str, n: int, known: Taxonomy | None = None) -> str:
    """Return the first n levels of a path; the whole path where it has fewer."""
    if n < 1:
        raise ValueError(f"prefix: found {n} levels, expected at least 1")
    return join_path(split_path(path, known)[:n])


def render_path(path: str, style: str = "raw", known: Taxonomy | None = None) -> str:
    """Write a path as the model shall read it.

    Args:
        path: A path in either rendering.
        style: "raw" as it stands; "markers" `a > b > c`; "level_tags" `[L1] a [L2] b` (the level tokens of EAR-MP,
            arXiv 2510.23018); "leaf_first" `c < b < a`, so that cutting a long pair keeps the leaf.
        known: Tree to look the second rendering up in.

    Returns:
        The rendered path.

    Raises:
        ValueError: Unknown style.
    """
    if style not in PATH_STYLES:
        raise ValueError(f"path style: found {style!r}, expected one of {', '.join(PATH_STYLES)}")
    if style == "raw":
        return path
    levels = split_path(path, known)
    if style == "level_tags":
        return " ".join(f"[L{i}] {level}" for i, level in enumerate(levels, 1))
    return " > ".join(levels) if style == "markers" else " < ".join(reversed(levels))
