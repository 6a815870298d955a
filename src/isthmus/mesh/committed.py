"""The engine's inputs by name: the only place that spells them."""

from collections.abc import Mapping
from typing import Any

from isthmus.api.meta import Fact, Key
from isthmus.engine import Reader
from isthmus.mesh.model import MeshSettings

_DEFAULTS = MeshSettings()


def settings(q: Reader) -> MeshSettings:
    """The settings of the set-up."""
    found: MeshSettings = q.input("mesh") or _DEFAULTS
    return found


def fact(q: Reader, key: Key) -> Fact | None:
    """What is stored of one object."""
    found: Fact | None = q.input("fact", key.kind, key.namespace, key.name)
    return found


def status(q: Reader, key: Key) -> Mapping[str, Any]:
    """The object's status, as far as it is committed."""
    found: Mapping[str, Any] | None = q.input("status", key.kind, key.namespace, key.name)
    return found or {}


def keys(q: Reader, kind: str, namespace: str) -> tuple[Key, ...]:
    """The stored objects of a kind in a namespace, by name."""
    found: tuple[Key, ...] | None = q.input("keys", kind, namespace)
    return found or ()


def namespaces(q: Reader, kind: str) -> tuple[str, ...]:
    """The namespaces that hold stored objects of a kind, sorted."""
    found: tuple[str, ...] | None = q.input("namespaces", kind)
    return found or ()
