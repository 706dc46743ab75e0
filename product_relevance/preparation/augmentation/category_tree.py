"""Read a tree of categories in several languages: a table of paths, or text files of Shopify's and Google's form."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from product_relevance.data.sources.defects import RecordError, raise_defects, show_value
from product_relevance.data.sources.encodings import find_encoding, kind_of_name, raw_lines
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.readers import read_table
from product_relevance.data.sources.tables import RawTable, Source, require_kind_of_name
from product_relevance.text.language_codes import is_code, normal_code
from product_relevance.text.path_format import path_separators
from product_relevance.text.taxonomy import PathForm

PATH_COLUMNS = ("path", "category_path", "en_path")
ID, SYNONYM = "id", "|"
ENGLISH = "en"
OF_LANGUAGE = re.compile(r"([A-Za-z]{2,3}(?:[-_][A-Za-z]+)?)=(.+)")  # de=taxonomy.de-DE.txt
# A line of the published files: `gid://... : A > B` (Shopify), `1 - A > B` or `A > B` (Google).
LINE = re.compile(r"(?:(gid://\S+)\s*:\s*|(\d+)\s+-\s+)?(.*)")


@dataclass(frozen=True)
class TreeReading:
    """How a table of categories is read.

    Attributes:
        path: Column of the paths; None takes the first of `PATH_COLUMNS` that is there.
        separator: Text between the levels of a path; None finds it.
        options: Encoding and delimiter.
    """

    path: str | None = None
    separator: str | None = None
    options: ReadingOptions = field(default_factory=ReadingOptions)


@dataclass(frozen=True)
class Category:
    """A node of the tree.

    Attributes:
        levels: Of its path, the root first.
        names: Language code -> its name and synonyms.
    """

    levels: tuple[str, ...]
    names: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Entry:
    """A row or line of a file: where it stands, its id ("" without one) and its category."""

    line: int
    id: str
    category: Category


def read_tree(files: Sequence[str], languages: Iterable[str], reading: TreeReading | None = None) -> list[Category]:
    """Read a tree.

    Args:
        files: The first has the paths, the others the same categories in other languages, by their ids. `de=FILE` says
            that its paths are German; without a code they are English. A name that ends in .csv, .tsv or .parquet is
            a table: its column `id` is optional, and a column named by a language (`fr`, `pt-BR`) has names in it,
            several with | between. Any other is a text file as Shopify and Google
            publish it.
        languages: Codes that are needed.
        reading: Of tables, and the encoding of text files.

    Returns:
        The categories in the order of the first file.

    Raises:
        RecordError: A file cannot be read, has a bad line, or no file has names in a language.
    """
    (first, *others), reading = [_of_language(file) for file in files], reading or TreeReading()
    entries = _read_file(*first, reading)
    _require_once(first[1], entries, "path", lambda entry: " > ".join(entry.category.levels))
    for language, name in others:
        added = _read_file(language, name, reading)
        for file, found in ((first[1], entries), (name, added)):
            _require_ids(file, found)
        entries = _add_names(entries, {entry.id: entry.category.names for entry in added})
    categories = [entry.category for entry in entries]
    known = {code for category in categories for code in category.names}
    if missing := [code for code in languages if code not in known]:
        raise RecordError(
            f"{first[1]}: found no names in {', '.join(missing)}, expected some, as in {', '.join(sorted(known))}; "
            "leave these languages out, or name a file of theirs, as fr=FILE"
        )
    return categories


def _of_language(file: str) -> tuple[str, str]:
    found = OF_LANGUAGE.fullmatch(file)
    return (normal_code(found[1]), found[2]) if found else (ENGLISH, file)


def _read_file(language: str, name: str, reading: TreeReading) -> list[_Entry]:
    if not os.path.isfile(name):
        raise RecordError(f"{name}: found no such file, expected a tree of categories; check the name")
    is_table = kind_of_name(name) in (".csv", ".tsv", ".parquet")
    entries = (
        _read_columns(language, name, reading) if is_table else _read_lines(language, name, reading.options.encoding)
    )
    if not entries:
        raise RecordError(f"{name}: found no category, expected at least one; check that the file is complete")
    return entries


def _read_lines(language: str, name: str, encoding: str | None) -> list[_Entry]:
    encoding = encoding or find_encoding(name, require_kind_of_name(name))
    entries = []
    for number, raw in raw_lines(name, encoding):
        line = raw.decode("utf-8", "replace").strip()
        if not line or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        gid, number_id, path = found.groups() if found else (None, None, line)
        levels = tuple(level.strip() for level in path.split(" > "))
        _require_levels(name, number, path, levels)
        id_ = gid.rsplit("/", 1)[-1] if gid else number_id or ""
        entries.append(_Entry(number, id_, Category(levels, {language: levels[-1:]})))
    return entries


def _read_columns(language: str, name: str, reading: TreeReading) -> list[_Entry]:
    table = read_table(Source(name, reading=reading.options))
    if table.defects:
        raise_defects(name, table.defects, "Correct the tree: a category that is left out becomes a wrong negative.")
    path_column = _path_column(table, reading.path)
    paths = [value if isinstance(value, str) else "" for value in table.columns[path_column]]
    form = PathForm(reading.separator or _separator_of(name, paths))
    codes = {column: normal_code(column) for column in table.columns if column not in (ID, path_column)}
    codes = {column: code for column, code in codes.items() if is_code(code)}
    ids = table.columns.get(ID, [""] * len(paths))
    entries = []
    for row, path in enumerate(paths):
        levels = tuple(level.strip() for level in form.split(path))
        _require_levels(name, table.lines[row], path, levels)
        names: dict[str, tuple[str, ...]] = {language: levels[-1:]}
        for column, code in codes.items():
            names[code] = names.get(code, ()) + _names_in(table.columns[column][row])
        kept = {code: tuple(dict.fromkeys(found)) for code, found in names.items() if found}
        entries.append(_Entry(table.lines[row], str(ids[row]), Category(levels, kept)))
    return entries


def _names_in(value: object) -> tuple[str, ...]:
    return tuple(part for part in map(str.strip, value.split(SYNONYM)) if part) if isinstance(value, str) else ()


def _path_column(table: RawTable, asked: str | None) -> str:
    tried = (asked,) if asked else PATH_COLUMNS
    if found := [name for name in tried if name in table.columns]:
        return found[0]
    raise RecordError(
        f"{table.name}: found the columns {', '.join(table.columns)}, expected {' or '.join(tried)}; rename the "
        "column of the paths to path, or say its name where the command has a flag for it (path_column)"
    )


def _separator_of(name: str, paths: list[str]) -> str:
    found = path_separators(paths)
    if len(found) == 1:
        return next(iter(found))
    shown = ", ".join(f"{text!r} in {share:.0%} of the paths" for text, share in found.items()) or "none"
    raise RecordError(
        f"{name}: found the separators of levels: {shown}; expected one; write all paths "
        "with one, or say it where the command has a flag for it (path_separator)"
    )


def _require_levels(name: str, line: int, path: str, levels: tuple[str, ...]) -> None:
    if not all(levels):
        raise RecordError(
            f"{name}:{line}: path: found {show_value(path)}, expected levels that are not empty; correct the line"
        )


def _require_ids(name: str, entries: list[_Entry]) -> None:
    if without := [entry for entry in entries if not entry.id]:
        raise RecordError(
            f"{name}:{without[0].line}: found no id, expected one in each line, since files of several languages are "
            "joined by ids; take the files with ids, as taxonomy-with-ids.en-US.txt"
        )
    _require_once(name, entries, "id", lambda entry: entry.id)


def _require_once(name: str, entries: list[_Entry], what: str, key: Callable[[_Entry], str]) -> None:
    lines: dict[str, int] = {}
    for entry in entries:
        if (first := lines.setdefault(key(entry), entry.line)) != entry.line:
            raise RecordError(
                f"{name}:{entry.line}: {what}: found {show_value(key(entry))}, which line {first} has too, expected "
                "each once; take one of the lines out"
            )


def _add_names(entries: list[_Entry], names: dict[str, dict[str, tuple[str, ...]]]) -> list[_Entry]:
    joined = []
    for entry in entries:
        own, more = entry.category.names, names.get(entry.id, {})
        merged = own | {code: tuple(dict.fromkeys([*own.get(code, ()), *found])) for code, found in more.items()}
        joined.append(replace(entry, category=replace(entry.category, names=merged)))
    return joined
