"""Split category paths into levels, collect them in a tree, and look up new paths in it."""

import html
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from product_relevance.utils.files import atomic_write
from product_relevance.utils.json_files import check_items, read_json

# Levels are joined by "," without a blank; a level's own name may hold ", " (the competition's training files).
LEVEL_BREAK = re.compile(r",(?! )")
MAX_LEVELS = 100  # of a path in taxonomy.json; each of them becomes a node
PATH_STYLES = ("raw", "markers", "level_tags", "leaf_first")


@dataclass(frozen=True)
class PathForm:
    """How the paths of a file are written.

    Attributes:
        separator: What stands between two levels: "," (not followed by a blank), or another text with blanks around it
            or without.
        names: Names of levels that hold the separator themselves, as "kitchen,dining & bar".
    """

    separator: str = ","
    names: tuple[str, ...] = ()

    def split(self, path: str) -> list[str]:
        """Return the levels of a path, the root first; blanks and empty levels stay only where "," separates them."""
        parts = self._parts(path)
        if not self._keys or len(parts) < 2:
            return parts
        words, levels, start = [_key(part) for part in parts], [], 0
        while start < len(parts):
            sizes = range(min(self._longest, len(parts) - start), 1, -1)
            size = next((n for n in sizes if tuple(words[start : start + n]) in self._keys), 1)
            levels.append(self.separator.join(parts[start : start + size]))
            start += size
        return levels

    def join(self, levels: Iterable[str]) -> str:
        """Write levels as a path: the inverse of `split`, up to blanks around the separator."""
        return (self.separator if self.separator == "," else f" {self.separator} ").join(levels)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {"separator": self.separator, "names": list(self.names)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PathForm":
        """Restore what `to_dict` gave.

        Raises:
            ValueError: Other keys, or values of another type.
        """
        good = isinstance(values, dict) and values.keys() == {"separator", "names"}
        texts = [values["separator"], *values["names"]] if good and isinstance(values["names"], list | tuple) else [""]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"paths: found {str(values)[:120]!r}, expected a separator and the names of levels")
        return cls(values["separator"], tuple(values["names"]))

    def _parts(self, path: str) -> list[str]:
        if self.separator == ",":
            return LEVEL_BREAK.split(path)
        return [part for part in map(str.strip, html.unescape(path).split(self.separator)) if part] or [path]

    @cached_property
    def _keys(self) -> set[tuple[str, ...]]:
        return {tuple(_key(part) for part in self._parts(name)) for name in self.names}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._keys))


PLAIN = PathForm()  # of the runs before forms were kept, and of texts that belong to no file


def _key(part: str) -> str:
    """Make the key under which a part of a level's name counts as the same, clean or not."""
    return " ".join(html.unescape(part).casefold().split())


class Taxonomy:
    """The tree of the known category paths; every prefix of a known path is a known node.

    Attributes:
        paths: The known paths as tuples of levels, sorted.
        form: How paths are written.
    """

    def __init__(self, paths: Iterable[tuple[str, ...]], form: PathForm = PLAIN):
        self.paths, self.form = sorted(set(paths)), form
        self._leaves = set(self.paths)
        self._nodes = {path[:depth] for path in self.paths for depth in range(1, len(path) + 1)}

    @classmethod
    def from_paths(cls, paths: Iterable[str], form: PathForm = PLAIN) -> "Taxonomy":
        """Build the tree from paths of one form (by default the first rendering, "," without a blank)."""
        return cls((tuple(form.split(path)) for path in set(paths)), form)

    @classmethod
    def load(cls, path: str | os.PathLike[str], form: PathForm | None = None) -> "Taxonomy":
        """Read a tree that `save` wrote; the form of its paths is kept with the run, in its template.

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
        return cls(map(tuple, paths), form or PLAIN)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the known paths as JSON lists of levels.

        Raises:
            ValueError: more than `load` reads: no tree of categories is so large.
        """
        text = json.dumps(self.paths, ensure_ascii=False, indent=0)
        try:
            check_items(text.encode("utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{path}: {len(self.paths)} category paths: {error}: are these titles? They belong to the task QI"
            ) from None
        with atomic_write(path) as file:
            file.write(text)

    def has(self, levels: Iterable[str]) -> bool:
        """Return whether these levels are a known node."""
        return tuple(levels) in self._nodes

    @cached_property
    def levels(self) -> list[list[str]]:
        """The distinct names at each depth, sorted."""
        deepest = max(map(len, self.paths), default=0)
        return [sorted({path[depth] for path in self.paths if len(path) > depth}) for depth in range(deepest)]

    @cached_property
    def depths(self) -> dict[int, int]:
        """The number of known paths of each depth."""
        return dict(sorted(Counter(map(len, self.paths)).items()))

    @cached_property
    def _children(self) -> dict[tuple[str, ...], list[str]]:
        children: dict[tuple[str, ...], list[str]] = {}
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
        found: list[tuple[str, ...]] = []
        self._walk((), text, found)
        return list(found[0]) if len(found) == 1 else None

    def _walk(self, node: tuple[str, ...], rest: str, found: list[tuple[str, ...]]) -> None:
        # Down the tree along the children that the text goes on with; two finds are enough to call it ambiguous.
        for name in self._children.get(node, []):
            if len(found) > 1:
                return
            for written in {name, LEVEL_BREAK.sub(", ", name)}:  # in this rendering every comma may have a blank
                if rest == written and (*node, name) in self._leaves:
                    found.append((*node, name))
                elif rest.startswith(f"{written}, "):
                    self._walk((*node, name), rest[len(written) + 2 :], found)


def split_path(path: str, known: Taxonomy | None = None, form: PathForm | None = None) -> list[str]:
    """Split a category path into its levels.

    Args:
        path: Levels joined by "," without a blank, or (second rendering) by ", " throughout; or as the form says.
        known: Tree to look the second rendering up in. Without it, or where the look-up finds none or several
            paths, the text stays as it was split: nothing is guessed.
        form: How the path is written; by default as those of the tree, else the first rendering.

    Returns:
        The names of the levels, the root first.
    """
    form = form or (known.form if known is not None else PLAIN)
    levels = form.split(path)
    if known is None or form.separator != "," or ", " not in path:
        return levels
    # A name that holds a comma makes several parts of a path in the second rendering, too.
    return known.resolve(path) or levels if len(levels) == 1 or not known.has(levels) else levels


def join_path(levels: Iterable[str], form: PathForm = PLAIN) -> str:
    """Join levels as the competition's training files do, or as the form says; the inverse of `split_path`."""
    return form.join(levels)


def path_prefix(path: str, n: int, known: Taxonomy | None = None, form: PathForm | None = None) -> str:
    """Return the first n levels of a path; the whole path where it has fewer."""
    if n < 1:
        raise ValueError(f"prefix: found {n} levels, expected at least 1")
    return join_path(split_path(path, known, form)[:n], form or PLAIN)


def render_path(path: str, style: str = "raw", known: Taxonomy | None = None, form: PathForm | None = None) -> str:
    """Write a path as the model shall read it.

    Args:
        path: A path in either rendering.
        style: "raw" as it stands, with a blank on either side of a separator other than ","; "markers" `a > b > c`;
            "level_tags" `[L1] a [L2] b` (the level tokens of EAR-MP, arXiv 2510.23018); "leaf_first" `c < b < a`, so
            that cutting a long pair keeps the leaf.
        known: Tree to look the second rendering up in.
        form: As in `split_path`.

    Returns:
        The rendered path.

    Raises:
        ValueError: Unknown style.
    """
    if style not in PATH_STYLES:
        raise ValueError(f"path style: found {style!r}, expected one of {', '.join(PATH_STYLES)}")
    if style == "raw":
        form = form or PLAIN
        return path if form.separator == "," or not path else join_path(split_path(path, known, form), form)
    levels = split_path(path, known, form)
    if style == "level_tags":
        return " ".join(f"[L{i}] {level}" for i, level in enumerate(levels, 1))
    return " > ".join(levels) if style == "markers" else " < ".join(reversed(levels))
