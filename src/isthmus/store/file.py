"""The SQLite file: objects as Kubernetes JSON, one row each, the newest revision; at the end, newest changes.

WAL with synchronous=FULL: a commit that returned survives a power cut. The file is locked for one process.
A file of a newer version, of another program, or a damaged one is refused and left as it is.
"""

import json
import logging
import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from isthmus.api.codec import decode
from isthmus.api.defaults import upgraded
from isthmus.api.text import text
from isthmus.store import history
from isthmus.store.base import Event, StoreUnavailable, StoreUnreadable
from isthmus.store.transaction import State

_log = logging.getLogger(__name__)
T = TypeVar("T")
_ROWS = 500
"""Most rows of one statement."""
_APPLICATION_ID = 0x15781305
_VERSION = 1
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE newest (revision INTEGER NOT NULL);
INSERT INTO newest VALUES (0);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""


class StoreFile:
    """An open store file. Used by one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._recent: deque[Event] = deque(maxlen=history.KEPT)
        self._written = False

    @classmethod
    def open(cls, path: Path) -> "StoreFile":
        """Opens the file, or makes it (0600); StoreUnreadable when it is not ours to use."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnreadable(f"{path}: cannot be opened: {error}") from error
        file = cls(path, connection)
        try:
            file._prepare()
        except sqlite3.Error as error:
            connection.close()
            raise StoreUnreadable(f"{path}: {_advice(error)}") from error
        except BaseException:
            connection.close()
            raise
        return file

    def load(self) -> State:
        """Everything that the file holds."""
        state = State()
        try:
            for kind, namespace, name, stored in self._connection.execute("SELECT * FROM objects"):
                obj, problems = decode(json.loads(stored))
                if obj is None:
                    told = "; ".join(map(str, problems))
                    raise StoreUnreadable(
                        f"{self.path}: {kind}/{namespace}/{name} cannot be read by this version: {told}; "
                        "start the version that wrote it"
                    )
                state.put(upgraded(obj))
            ((state.revision,),) = self._connection.execute("SELECT revision FROM newest")
        except (sqlite3.Error, ValueError) as error:
            raise StoreUnreadable(f"{self.path}: {_advice(error)}") from error
        return state

    def changes(self, state: State) -> list[Event]:
        """The newest changes that led to what the file holds, as far as they are known, in order."""
        try:
            self._recent.extend(history.recall(self._connection, state))
            return list(self._recent)
        except (sqlite3.Error, ValueError) as error:
            raise StoreUnreadable(f"{self.path}: {_advice(error)}") from error

    def commit(self, events: Sequence[Event]) -> None:
        """Makes the changes durable, all or none; StoreUnavailable when that is not possible."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._write(events)
                self._connection.execute("UPDATE newest SET revision = ?", (events[-1].revision,))
                self._connection.execute("COMMIT")
            except BaseException:
                # some errors end the transaction by themselves
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self.path}: nothing was written: {error}") from error
        self._recent.extend(events)
        self._written = True

    def copy(self, path: Path) -> None:
        """Writes everything into a new file (0600)."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection.execute("VACUUM INTO ?", (str(path),))
            with path.open("rb") as written:
                os.fsync(written.fileno())
            _sync_directory(path.parent)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{path}: no copy was made: {error}") from error

    def close(self) -> None:
        """Closes the file. Watchers of the next one that opens it go on where they were."""
        try:
            if self._written:
                history.remember(self._connection, self._recent)
        except sqlite3.Error as error:
            # a full disk, say: nothing is lost but that they list again
            _log.warning("newest changes not kept file=%s error=%s", self.path, error)
        finally:
            self._connection.close()

    def _prepare(self) -> None:
        # exclusive before the first read: a second server on the same file is refused, and WAL needs no
        # shared memory file
        self._one("PRAGMA locking_mode = EXCLUSIVE")
        application, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        fresh = self._one("SELECT count(*) FROM sqlite_master") == 0
        if not fresh and application != _APPLICATION_ID:
            raise StoreUnreadable(f"{self.path}: is a database of another program; give another --state-dir")
        if version > _VERSION:
            raise StoreUnreadable(
                f"{self.path}: was written by a newer version of Isthmus (schema {version}, this one knows "
                f"{_VERSION}); start that version"
            )
        self._one("PRAGMA journal_mode = WAL")
        self._one("PRAGMA synchronous = FULL")
        self._one("PRAGMA journal_size_limit = 16777216")
        if fresh:
            self._connection.executescript(_SCHEMA)
            _sync_directory(self.path.parent)
        found = self._one("PRAGMA quick_check(1)")
        if found != "ok":
            raise StoreUnreadable(f"{self.path}: {_advice(found)}")
        self._connection.execute(history.TABLE)

    def _one(self, sql: str) -> Any:
        row = self._connection.execute(sql).fetchone()
        return row[0] if row else None

    def _write(self, events: Sequence[Event]) -> None:
        # many rows in a statement: each statement gives the interpreter's lock away, and waits to get it back
        last = {event.object.key: event for event in events}.values()
        gone = [event.object.key for event in last if event.type == "DELETED"]
        kept = [event.object for event in last if event.type != "DELETED"]
        for keys in _chunks(gone):
            self._connection.execute(
                f"DELETE FROM objects WHERE (kind, namespace, name) IN (VALUES {_places(len(keys), 3)})",
                [part for key in keys for part in (key.kind, key.namespace, key.name)],
            )
        for objects in _chunks(kept):
            rows = ((obj.key.kind, obj.key.namespace, obj.key.name, text(obj).decode()) for obj in objects)
            self._connection.execute(
                f"INSERT OR REPLACE INTO objects VALUES {_places(len(objects), 4)}",
                [part for row in rows for part in row],
            )


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[begin : begin + _ROWS] for begin in range(0, len(items), _ROWS))


def _places(rows: int, columns: int) -> str:
    row = f"({','.join('?' * columns)})"
    return ",".join([row] * rows)


def _advice(error: object) -> str:
    if "locked" in str(error):
        return "is in use by another isthmus serve"
    return f"is damaged ({error}); it was left as it is: restore it from a backup, or move it away"


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
