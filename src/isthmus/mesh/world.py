"""Committed inputs -> typed facts: the only place that spells the names of the engine's inputs."""

from collections.abc import Mapping
from typing import Any, TypeVar

from isthmus.api.mesh import MeshConfigSpec
from isthmus.api.meta import Fact, Key, Model
from isthmus.engine import Reader
from isthmus.mesh.model import MeshSettings
from isthmus.mesh.settings import KIND, NAME, applied

M = TypeVar("M", bound=Model)

_DEFAULTS = MeshSettings()


def settings(q: Reader) -> MeshSettings:
    """The settings that every proxy shares: those of the set-up, as the mesh's MeshConfig changes them."""
    committed: MeshSettings = q.input("mesh") or _DEFAULTS
    said = spec(q, Key(KIND, committed.root_namespace, NAME), MeshConfigSpec)
    return applied(committed, said) if said else committed


def fact(q: Reader, key: Key) -> Fact | None:
    """What is known of one object."""
    found: Fact | None = q.input("fact", key.kind, key.namespace, key.name)
    return found


def spec(q: Reader, key: Key, model: type[M]) -> M | None:
    """The object's spec, which is of this model."""
    found = fact(q, key)
    if found is None:
        return None
    assert isinstance(found.spec, model), f"{key} holds a {type(found.spec).__name__}"
    return found.spec


def status(q: Reader, key: Key) -> Mapping[str, Any]:
    """The object's status, as far as it is committed."""
    found: Mapping[str, Any] | None = q.input("status", key.kind, key.namespace, key.name)
    return found or {}


def keys(q: Reader, kind: str, namespace: str) -> tuple[Key, ...]:
    """The objects of a kind in a namespace, by name."""
    names: tuple[str, ...] | None = q.input("names", kind, namespace)
    return tuple(Key(kind, namespace, name) for name in names or ())


def namespaces(q: Reader, *kinds: str) -> tuple[str, ...]:
    """The namespaces that hold objects of any of the kinds, sorted."""
    found: set[str] = set()
    for kind in kinds:
        found.update(q.input("namespaces", kind) or ())
    return tuple(sorted(found))


def all_keys(q: Reader, kind: str) -> tuple[Key, ...]:
    """Every object of a kind, by namespace and name."""
    return tuple(key for namespace in namespaces(q, kind) for key in keys(q, kind, namespace))


def seniority(q: Reader, key: Key) -> tuple[str, str, str]:
    """Sorts the oldest object first; of one age, the names decide, then the namespaces."""
    found = fact(q, key)
    return (found.created if found else "", key.name, key.namespace)
