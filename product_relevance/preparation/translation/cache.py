"""Keep machine translations on disk, shared by runs, so that no text is translated twice by the same model."""

import hashlib
import json
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from product_relevance.utils.files import cache_folder

logger = logging.getLogger(__name__)

T = TypeVar("T")
Request = tuple[str, str, str]  # text, its language, the language to translate into

VERSION = 1  # raise it when an engine's code gives other translations under the same settings
WAIT = 120  # seconds for other processes to end their writing
_TABLE = "CREATE TABLE IF NOT EXISTS translations (key BLOB PRIMARY KEY, translation BLOB, sum BLOB) WITHOUT ROWID"


class TranslationCache:
    """Translations by (text, languages) under one model's settings, in an SQLite file that many processes may share.

    A `put` is one transaction: after a kill the file holds all of it or nothing. SQLite's rollback journal is used,
    not its write-ahead log, which does not work on network file systems. A file that is no database any more is moved
    aside with a warning and begun anew; an entry whose check sum does not fit is translated again.

    Args:
        settings: What the translations depend on beside the text: engine, model, revision, decoding options. It must
            fit into JSON.
        path: The file; by default `translations.sqlite3` in the user's cache, for all models.

    Raises:
        ValueError: The file cannot be opened or written.
    """

    def __init__(self, settings: Mapping[str, object], path: str | os.PathLike | None = None):
        self.path = Path(path) if path else cache_folder() / "translations.sqlite3"
        self._salt = json.dumps([VERSION, dict(settings)], sort_keys=True)
        self._db: sqlite3.Connection | None = None
        self._try(_check)

    def get(self, requests: Iterable[Request]) -> dict[Request, str]:
        """Return what is known of these requests."""
        keys = {self._key(request): request for request in requests}
        names = list(keys)
        rows: list[tuple[bytes, bytes, bytes]] = []
        for start in range(0, len(names), 500):  # older SQLite takes at most 999 variables
            part = names[start : start + 500]
            rows += self._try(partial(_select, keys=part))
        sound = {
            keys[key]: text.decode("utf-8", "surrogatepass") for key, text, check in rows if check == _sum(key, text)
        }
        if len(sound) < len(rows):
            logger.warning("%s: %d damaged entries will be translated again", self.path, len(rows) - len(sound))
        return sound

    def put(self, translations: Mapping[Request, str]) -> None:
        """Write translations; on return they are on disk."""
        pairs = [(self._key(request), text.encode()) for request, text in translations.items()]
        self._try(lambda db: _insert(db, [(key, text, _sum(key, text)) for key, text in pairs]))

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
        self._db = None

    def __enter__(self) -> "TranslationCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _key(self, request: Request) -> bytes:
        return hashlib.sha256(f"{self._salt}{json.dumps(request)}".encode()).digest()

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some work on the open file; where the file is damaged, once more on a new one."""
        try:
            return work(self._open())
        except sqlite3.DatabaseError as error:
            self._raise_unless_damaged(error)
        self.close()
        try:
            return work(self._open())  # another process may have begun anew in the meantime
        except sqlite3.DatabaseError as error:
            self._raise_unless_damaged(error)
        self._move_aside()
        return work(self._open())

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"{self.path}: {error}; set HF_HOME to a folder that can be written") from None
            self._db = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            self._db.execute(_TABLE)
        return self._db

    def _move_aside(self) -> None:
        self.close()
        mark = secrets.token_hex(4)
        aside = self.path.with_name(f"{self.path.name}.damaged-{mark}")
        logger.warning("%s is damaged: moved to %s, translations begin anew", self.path, aside.name)
        self.path.rename(aside)
        journal = self.path.with_name(self.path.name + "-journal")
        if journal.exists():  # left in place it would be rolled back into the new file
            journal.rename(aside.with_name(aside.name + "-journal"))

    def _raise_unless_damaged(self, error: sqlite3.DatabaseError) -> None:
        name = getattr(error, "sqlite_errorname", None) or ""
        if not name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise ValueError(f"{self.path}: {error} ({name}); set HF_HOME to a folder that can be written") from None


def _check(db: sqlite3.Connection) -> None:
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        error = sqlite3.DatabaseError(found)
        error.sqlite_errorname = "SQLITE_CORRUPT"
        raise error


def _select(db: sqlite3.Connection, keys: list[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    query = f"SELECT key, translation, sum FROM translations WHERE key IN ({','.join('?' * len(keys))})"
    return db.execute(query, keys).fetchall()


def _insert(db: sqlite3.Connection, rows: list[tuple[bytes, bytes, bytes]]) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?, ?)", rows)
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


def _sum(key: bytes, text: bytes) -> bytes:
    return hashlib.sha256(key + text).digest()[:8]
