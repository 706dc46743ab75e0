"""Find how the category paths of a file are written: the separator of levels, and level names that contain it."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from product_relevance.text.taxonomy import LEVEL_BREAK, PathForm

logger = logging.getLogger(__name__)

AUTO = "auto"
SEPARATORS = (",", ">", "/", "|", "›")
ATTRIBUTE = "path_form"  # of a frame: the form of its paths as JSON
# Names of the competition's files: 7.5% of its QC rows had one level too many.
KNOWN_NAMES = ("sports shoes,clothing&accessories", "kitchen,dining & bar", "arts,crafts & sewing")

# A separator counts as found where it splits this share of the distinct paths.
MIN_SHARE = 0.5
# Evidence that a name was split in two, beside that both parts never stand apart in the file: so many rows; few of the
# file's nodes with so many rows have a single child; and both together read as a list, "a,b & c". In the competition's
# training file these find the three names (131 to 446 rows). Without the last one a fourth were found, of 188 rows,
# which the dev file shows to be two levels.
MIN_ROWS = 100
MAX_SINGLE = 0.1
LIST_END = re.compile(
    r"&|\b(?:and|or|und|oder|et|ou|y|o|e|ed|i|oraz|en|of|og|och|ja|ve|dan|và|и|или)\b", re.IGNORECASE
)


def find_form(rows: Mapping[str, int], separator: str = AUTO, level_names: str | None = None) -> PathForm:
    """Find the form of a file's paths.

    Args:
        rows: How many rows each distinct path has.
        separator: "auto" finds it; another text is it.
        level_names: File with one name per line, added to the known and learned ones; "none" for no names at all.

    Returns:
        The form; names are known (of ",") and learned from the rows.

    Raises:
        ValueError: Several separators split most paths, or the file of names cannot be used.
    """
    chosen = _found_separator(rows) if separator == AUTO else _checked(separator)
    if level_names == "none":
        return PathForm(chosen)
    known = (KNOWN_NAMES if chosen == "," else ()) + _read_names(level_names, chosen)
    learned = learn_names(rows, PathForm(chosen, known))
    if learned:
        shown = ", ".join(f"{name!r} ({n:,} rows)" for name, n in learned.items())
        logger.info("levels of paths: names that hold the separator, learned from the file: %s", shown)
    return PathForm(chosen, tuple(dict.fromkeys([*known, *learned])))


def learn_names(rows: Mapping[str, int], form: PathForm) -> dict[str, int]:
    """Find names that were split in two: a node with exactly one child name over many rows.

    Args:
        rows: How many rows each distinct path has.
        form: With the names that are known already.

    Returns:
        Name -> rows. A node of at least `MIN_ROWS` rows makes one with its child if no path ends at it, the child goes
        on in several ways, neither name stands without the other anywhere in the file, both read as a list (a word
        such as "&" in the child's name alone), and at most `MAX_SINGLE` of all nodes with so many rows have a single
        child: in a tree that is seen in part this is no sign.
    """
    size: Counter[tuple[str, ...]] = Counter()
    children: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    ends: set[tuple[str, ...]] = set()
    after: defaultdict[str, set[str | None]] = defaultdict(set)
    before: defaultdict[str, set[str | None]] = defaultdict(set)
    for path, count in rows.items():
        levels = tuple(form.split(path))
        ends.add(levels)
        after[levels[-1]].add(None)
        before[levels[0]].add(None)
        for depth in range(1, len(levels) + 1):
            size[levels[:depth]] += count
        for depth in range(1, len(levels)):
            children[levels[:depth]].add(levels[depth])
            after[levels[depth - 1]].add(levels[depth])
            before[levels[depth]].add(levels[depth - 1])
    large = [node for node in children if size[node] >= MIN_ROWS]
    single = [node for node in large if len(children[node]) == 1 and node not in ends]
    if len(single) > MAX_SINGLE * len(large):
        return {}
    found: Counter[str] = Counter()
    for node in single:
        (child,) = children[node]
        apart = len(after[node[-1]]) > 1 or len(before[child]) > 1
        is_list = LIST_END.search(child) and not LIST_END.search(node[-1])
        if is_list and not apart and len(children.get((*node, child), ())) > 1:
            found[f"{node[-1]}{form.separator}{child}"] += size[node]
    return dict(sorted(found.items()))


def use_form(frame: pd.DataFrame, separator: str = AUTO, level_names: str | None = None) -> None:
    """Note in a frame's attributes how its paths are written; made rows do not count.

    Args:
        frame: Records; without QC rows nothing is noted.
        separator, level_names: As in `find_form`.

    Raises:
        ValueError: As `find_form`, with the name of the source.
    """
    rows = _rows(frame)
    if not rows:
        return
    try:
        form = find_form(rows, separator, level_names)
    except ValueError as error:
        raise ValueError(f"{frame.attrs.get('source', 'records')}: {error}") from None
    frame.attrs[ATTRIBUTE] = form.to_dict()
    if problem := flat_paths(frame):
        logger.warning("%s: %s: give --path_separator", frame.attrs.get("source", "records"), problem)


def form_of(frame: pd.DataFrame) -> PathForm:
    """Return how the paths of a frame are written: as `use_form` noted, else as its own rows show ("," in doubt)."""
    if noted := frame.attrs.get(ATTRIBUTE):
        return PathForm.from_dict(noted)
    rows = _rows(frame)
    found = list(_separators(rows))
    return find_form(rows, found[0] if len(found) == 1 else ",")


def flat_paths(frame: pd.DataFrame) -> str:
    """Say that no path of a frame has two levels, and which separators they hold; "" where one has."""
    paths, form = list(_rows(frame)), form_of(frame)
    if not paths or any(len(form.split(path)) > 1 for path in paths):
        return ""
    counts = {shown: sum(shown in path for path in paths) for shown in (", ", *SEPARATORS[1:], ";", "\\", "»", " - ")}
    seen = ", ".join(f"{shown!r} in {n / len(paths):.0%}" for shown, n in counts.items() if n)
    return f"no path has two levels at {form.separator!r}; separators seen: {seen or 'none'}"


def path_separators(texts: Iterable[str]) -> dict[str, float]:
    """Return the separators that split at least half of some texts, with the share of the texts; none for titles."""
    return _separators(set(texts))


def _rows(frame: pd.DataFrame) -> dict[str, int]:
    taken = frame["task"] == "QC" if "task" in frame else pd.Series(True, index=frame.index)
    if "method" in frame:
        taken &= frame["method"].fillna("original") == "original"
    counts = frame.loc[taken, "target"].dropna().value_counts(sort=False)
    return {str(path): int(n) for path, n in counts.items() if path}


def _separators(paths: Iterable[str]) -> dict[str, float]:
    """Return the separators that split most paths, with the share of the paths."""
    paths = list(paths)
    shares = {name: sum(map(_breaker(name), paths)) / max(len(paths), 1) for name in SEPARATORS}
    return {name: share for name, share in shares.items() if share >= MIN_SHARE}


def _found_separator(paths: Iterable[str]) -> str:
    found = _separators(paths)
    if len(found) > 1:
        shares = ", ".join(f"{name!r} {share:.0%}" for name, share in found.items())
        example = next((path for path in paths if all(name in path for name in found)), next(iter(paths)))
        raise ValueError(
            f"levels of paths: found several separators that split at least half of the paths ({shares}), as in "
            f"{example[:80]!r}; expected one: give it with --path_separator"
        )
    return next(iter(found), ",")


def _breaker(separator: str) -> Callable[[str], bool]:
    if separator == ",":
        return lambda path: LEVEL_BREAK.search(path) is not None
    form = PathForm(separator)
    return lambda path: len(form.split(path)) > 1


def _checked(separator: str) -> str:
    if not separator.strip():
        raise ValueError(f"--path_separator {separator!r}: expected {AUTO} or a text that is not blank")
    return separator.strip()


def _read_names(file: str | None, separator: str) -> tuple[str, ...]:
    if file is None:
        return ()
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"--level_names {file}: found no such file, expected level names, one per line, or none")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"--level_names {file}: found a file that is no UTF-8; save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and len(PathForm(separator).split(line.strip())) < 2:
            needed = "a comma that no blank follows" if separator == "," else f"{separator!r}"
            raise ValueError(
                f"{file}:{number}: found {line.strip()[:80]!r}, expected a level name with {needed} in it"
            )
    return tuple(line.strip() for line in lines if line.strip())
