"""Objects -> the bytes that clients read, made once however many ask.

An object in the store is the same for ever under its resourceVersion, and so is its text; a change is told
to all its watchers in the same bytes.
"""

from collections.abc import Callable
from typing import Any

from isthmus.api.meta import Key, Object

_EVENTS = 4_096


class Encodings:
    """The lines of watches that were asked for last."""

    def __init__(self) -> None:
        self._events: dict[tuple[Key, int, str, str, str], bytes] = {}

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
