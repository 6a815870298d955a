"""Objects -> the bytes that clients read, made once however many ask.

An object in the store is the same for ever under its resourceVersion, and so is its text; a change is told
to all its watchers in the same bytes.
"""

from collections.abc import Callable
from typing import Any

from isthmus.api.meta import Key, Object
from isthmus.api.text import head, tail

_OBJECTS = 50_000
_EVENTS = 4_096


class Encodings:
    """The texts of objects and events that were asked for last."""

    def __init__(self) -> None:
        self._tails: dict[Key, tuple[int, bytes]] = {}
        self._events: dict[tuple[Key, int, str, str, str], bytes] = {}

    def document(self, obj: Object, api_version: str) -> bytes:
        """The document of an object that is (or was) in the store."""
        known = self._tails.get(obj.key)
        if known is not None and known[0] == obj.meta.resource_version:
            return head(api_version) + known[1]
        made = tail(obj)
        if known is None or known[0] < obj.meta.resource_version:
            _make_room(self._tails, _OBJECTS)
            self._tails[obj.key] = (obj.meta.resource_version, made)
        return head(api_version) + made

    def event(
        self, change: str, obj: Object, api_version: str, form: str, shown: Callable[[], bytes]
    ) -> bytes:
        """The line of a watch that tells a change; `shown` makes the object's bytes when nobody has."""
        key = (obj.key, obj.meta.resource_version, change, api_version, form)
        found = self._events.get(key)
        if found is None:
            found = line(change, shown())
            _make_room(self._events, _EVENTS)
            self._events[key] = found
        return found


def line(change: str, shown: bytes) -> bytes:
    """One line of a watch."""
    return b'{"type":"' + change.encode() + b'","object":' + shown + b"}\n"


def _make_room(items: dict[Any, Any], capacity: int) -> None:
    while len(items) >= capacity:
        del items[next(iter(items))]
