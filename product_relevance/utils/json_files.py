"""Read JSON files that others may have written: plain files of bounded size and depth, without duplicate keys."""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

MAX_BYTES = 20_000_000
# Of lists, objects and values: bounds the memory that a small file can grow to.
MAX_ITEMS = 2_000_000
MAX_DEPTH = 64
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_json(path: str | os.PathLike[str], kind: type = dict, limit: int = MAX_BYTES) -> Any:
    """Read a JSON file.

    Args:
        path: of a plain file, or of a link to one.
        kind: dict or list.
        limit: bytes.

    Raises:
        ValueError: with the file's name: no such file, another kind of file, too large or too deep, not JSON, a key
            that stands twice in one object, a number that is not finite, or another kind of content.
    """
    content = read_plain(path, limit)
    try:
        return _parsed(content, kind)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_plain(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a plain file of bounded size.

    Raises:
        ValueError: from `check_plain`, or the file is too large.
    """
    size = check_plain(path)
    if size > limit:
        raise ValueError(f"{path}: {size} bytes, expected at most {limit}")
    return Path(path).read_bytes()


def check_plain(path: str | os.PathLike[str]) -> int:
    """Return the size of a plain file in bytes.

    Raises:
        ValueError: nothing of that name, a folder or a device, a file that may not be read, or a Git LFS pointer.
    """
    try:
        info = Path(path).stat()
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{path}: found a folder or a device, expected a plain file")
        with open(path, "rb") as file:
            start = file.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise ValueError(f"{path}: not found") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if start == LFS_POINTER:
        raise ValueError(
            f"{path}: a Git LFS pointer, not the file itself: run `git lfs pull` there, or get it with `hf download`"
        )
    return info.st_size


def check_items(content: bytes, limit: int = MAX_BYTES) -> None:
    """Raise ValueError if a JSON text has more bytes or more values than the limits.

    Raises:
        ValueError: how many there are.
    """
    items = sum(map(content.count, (b"[", b"{", b",")))
    if len(content) > limit or items > MAX_ITEMS:
        what = f"about {items} values, expected at most {MAX_ITEMS}"
        raise ValueError(what if items > MAX_ITEMS else f"{len(content)} bytes, expected at most {limit}")


def _parsed(content: bytes, kind: type) -> Any:
    check_items(content, len(content))
    text = content.decode("utf-8")
    found = json.loads(text, object_pairs_hook=_unique, parse_float=parse_finite, parse_constant=parse_finite)
    if not isinstance(found, kind):
        raise ValueError(f"found a {type(found).__name__}, expected a {kind.__name__}")
    _check_depth(found)
    if b"\\u" in content:  # the one way in for half a surrogate pair, which no tokenizer takes
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    return found


def _check_depth(found: Any) -> None:
    level = [found]
    for _ in range(MAX_DEPTH):
        groups = [value for value in level if isinstance(value, dict | list)]
        level = [part for each in groups for part in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def parse_finite(text: str) -> float:
    """Parse a number of a JSON text; ValueError where it is not finite."""
    if not math.isfinite(float(text)):
        raise ValueError(f"found {text}, expected finite numbers")
    return float(text)
