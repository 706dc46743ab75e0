"""Text files of any usual encoding and compression as lines of UTF-8."""

import codecs
import gzip
import io
import logging
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from product_relevance.data.sources.defects import RecordError

logger = logging.getLogger(__name__)

COMPRESSIONS = (".gz", ".zst", ".xz")
BOM = b"\xef\xbb\xbf"
UTF_8, WINDOWS = "utf-8", "windows-1252"
CHUNK = 1 << 20
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what damaged archives and unreadable files raise
ESCAPED = re.compile("[\udc80-\udcff]")
BEYOND_ASCII = re.compile("[^\0-\x7f\udc80-\udcff]")
NO_WINDOWS = re.compile("[\udc81\udc8d\udc8f\udc90\udc9d]")  # bytes that mean nothing in Windows-1252


def kind_of_name(name: str) -> str:
    """Return the ending that says what a file holds: `.csv` of `a.csv` and of `a.csv.gz`."""
    path = Path(name)
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).suffix.lower()


def open_bytes(name: str) -> BinaryIO:
    """Open a file to read its bytes, unpacked where the name ends in .gz, .zst or .xz.

    Raises:
        OSError: It cannot be opened.
    """
    suffix = Path(name).suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(name, "rb"))
    if suffix == ".xz":
        return cast(BinaryIO, lzma.open(name, "rb"))
    if suffix == ".zst":
        import pyarrow as pa

        return cast(BinaryIO, io.BufferedReader(pa.input_stream(name, compression="zstd"), CHUNK))
    return open(name, "rb")


def find_encoding(name: str, head: bytes, windows: bool = True) -> str:
    """Find the encoding of a text file.

    UTF-16 shows in its first bytes. What is not UTF-8 is Windows-1252, unless some of its letters are UTF-8: then a
    few bytes of it are damaged.

    Args:
        name: The file.
        head: Its first bytes.
        windows: Whether it can be Windows-1252; JSON cannot.

    Returns:
        A name that Python knows.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" * 4 in (head[0:8:2], head[1:8:2]):  # without a mark: every other byte of plain letters is 0
        return "utf-16-le" if head[1] == 0 else "utf-16-be"
    if not (windows and _is_windows(name)):
        return UTF_8
    logger.warning(
        "%s: is not UTF-8, read as Windows-1252 (Western Europe): if letters come out wrong, name its encoding with "
        "--encoding, as windows-1254 for Turkish or windows-1250 for Polish",
        name,
    )
    return WINDOWS


def _is_windows(name: str) -> bool:
    """Return whether hardly any letter beyond ASCII is UTF-8, and all bytes have a meaning in Windows-1252."""
    if _is_utf_8(name):
        return False
    decoder, damaged, letters = codecs.getincrementaldecoder(UTF_8)("surrogateescape"), 0, 0
    for chunk in _chunks(name):
        text = decoder.decode(chunk)
        if NO_WINDOWS.search(text):
            return False
        damaged += len(ESCAPED.findall(text))
        letters += len(BEYOND_ASCII.findall(text))
    return damaged > 20 * letters


def _is_utf_8(name: str) -> bool:
    decoder = codecs.getincrementaldecoder(UTF_8)()
    try:
        for chunk in _chunks(name):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _chunks(name: str) -> Iterator[bytes]:
    try:
        with open_bytes(name) as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except UNREADABLE as error:
        raise unreadable_bytes(name, error) from None


def raw_lines(name: str, encoding: str = UTF_8) -> Iterator[tuple[int, bytes]]:
    """Yield the physical lines of a text file as UTF-8 with their 1-based numbers, split at newline characters only.

    Args:
        name: The file.
        encoding: Its own; bad bytes of UTF-8 stay as they are.

    Raises:
        RecordError: It ends too early, or is not of this encoding.
    """
    try:
        with open_bytes(name) as file:
            lines = file if encoding == UTF_8 else _as_utf_8(file, encoding)
            for line, raw in enumerate(lines, start=1):
                yield line, raw.removeprefix(BOM) if line == 1 else raw
    except UnicodeError as error:
        raise RecordError(
            f"{name}: found bytes that are not {encoding} ({error.reason if hasattr(error, 'reason') else error}), "
            "expected text; name its encoding with --encoding, or save it as UTF-8"
        ) from None
    except UNREADABLE as error:
        raise unreadable_bytes(name, error) from None


def unreadable_bytes(name: str, error: Exception) -> RecordError:
    """Return the error for a file that cannot be opened, or not be unpacked to its end."""
    reason = (getattr(error, "strerror", None) or str(error)).strip()
    packed = Path(name).suffix.lower() in COMPRESSIONS
    advice = "check that it is complete" if packed else "check its permissions"
    return RecordError(f"{name}: found {type(error).__name__} ({reason}), expected a file that can be read; {advice}")


def _as_utf_8(file: BinaryIO, encoding: str) -> Iterator[bytes]:
    utf_16 = encoding.lower().replace("_", "-").startswith("utf-16")
    with io.TextIOWrapper(file, encoding, "surrogatepass" if utf_16 else "strict", newline="\n") as lines:
        for line in lines:
            yield line.encode(UTF_8, "surrogatepass")
