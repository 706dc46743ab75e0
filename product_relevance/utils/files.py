"""Write files whole or not at all, and fingerprint what was read."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_ENCODE = json.JSONEncoder(ensure_ascii=False, default=str).encode


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w", encoding: str = "utf-8") -> Iterator[IO[Any]]:
    """Open a file for writing that appears under its name only once it is complete.

    Args:
        path: Where the file shall be; an existing plain file is replaced, a link is written through.
        mode: "w" for text (newlines are written as given, on every platform) or "wb" for bytes.
        encoding: Of the text; not used for "wb".

    Yields:
        The open file. On an exception inside the block the old file, if any, stays as it was.

    Raises:
        ValueError: The mode is another one, or the path is a folder or a device.
        FileNotFoundError: The folder does not exist.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode: found {mode!r}, expected 'w' or 'wb'")
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        raise ValueError(f"{path}: found a folder or a device, expected the name of a plain file")
    # The temporary file lies in the same folder, since os.replace is atomic only within one file system.
    temporary = final.with_name(f".{final.name[:200]}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    form = (None, None) if mode == "wb" else (encoding, "")
    try:
        with open(temporary, mode.replace("w", "x"), encoding=form[0], newline=form[1]) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def write_table(table: "pd.DataFrame", path: str | os.PathLike[str]) -> None:
    """Write a pandas table as Parquet, whole or not at all."""
    with atomic_write(path, "wb") as file:
        table.to_parquet(file, index=False)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Fingerprint a file by its bytes, or a folder by the names and bytes of all its files.

    Args:
        path: A file or a folder.

    Returns:
        64 hexadecimal digits. A folder's do not depend on where it lies or on the order of listing.

    Raises:
        FileNotFoundError: There is nothing under this name.
    """
    path = Path(path)
    if not path.is_dir():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    names = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    for name in sorted(names):
        digest.update(f"{sha256_of(names[name])}  {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def json_line(row: dict[str, Any]) -> bytes:
    """Encode one record as a JSON line.

    Args:
        row: Field names to values; a value JSON has no form for is written as its text.

    Returns:
        UTF-8 bytes ending in a newline. Half a surrogate pair, which UTF-8 cannot hold, is written as its escape.
    """
    return _ENCODE(row).encode("utf-8", "backslashreplace") + b"\n"


def cache_folder() -> Path:
    """Return the folder of assembled bases, below HF_HOME."""
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    return Path(home) / "product_relevance"
