"""The newest changes in the store's file -> watchers go on where they were when the server starts again.

    close   each change with the state *before* it
    open    what stands, and these states, from the newest back ─▶ the changes, in order

The state after a change is the one before the next change of the same object, or what stands: it is written
down once, and at the end: with each write it would cost one write in ten. After a crash the revisions do not
fit, and what does not fit, or cannot be read, is forgotten: watchers list again.
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from isthmus.api.codec import decode
from isthmus.api.meta import Key, Object
from isthmus.api.text import text
from isthmus.store.base import Event
from isthmus.store.transaction import State

KEPT = 1_000
"""Changes that are remembered."""
TABLE = """
CREATE TABLE IF NOT EXISTS history (
    revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    before TEXT, deleted INTEGER NOT NULL
)
"""


def remember(connection: sqlite3.Connection, events: Iterable[Event]) -> None:
    """Writes the changes down in place of older ones, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("DELETE FROM history")
        connection.executemany("INSERT INTO history VALUES (?,?,?,?,?,?)", map(_row, events))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def recall(connection: sqlite3.Connection, state: State) -> list[Event]:
    """The remembered changes that lead to what stands, the oldest first."""
    after: dict[Key, Object | None] = {}
    expected, found = state.revision, list[Event]()
    for revision, kind, namespace, name, before, deleted in connection.execute(
        "SELECT * FROM history ORDER BY revision DESC"
    ):
        key, old = Key(kind, namespace, name), _object(before)
        event = _event(revision, after.get(key, state.objects.get(key)), old, deleted=deleted)
        unreadable = before is not None and old is None
        # after a crash, or after a version whose kinds were others
        if revision != expected or unreadable or event is None:
            break
        found.append(event)
        after[key] = event.before
        expected -= 1
    return found[::-1]


def _row(event: Event) -> tuple[Any, ...]:
    key = event.object.key
    before = text(event.before).decode() if event.before else None
    return event.revision, key.kind, key.namespace, key.name, before, event.type == "DELETED"


def _event(revision: int, after: Object | None, before: Object | None, *, deleted: bool) -> Event | None:
    """The change between two states, None when they do not fit."""
    if deleted:
        if after is not None or before is None:
            return None
        gone = replace(before, meta=replace(before.meta, resource_version=revision))
        return Event("DELETED", gone, revision, before)
    if after is None or after.meta.resource_version != revision:
        return None
    return Event("MODIFIED" if before else "ADDED", after, revision, before)


def _object(document: str | None) -> Object | None:
    """None when there is none, or one that this version cannot read."""
    try:
        return decode(json.loads(document))[0] if document is not None else None
    except ValueError:
        return None
