"""What is stored, and what stored objects stand for -> typed facts: the objects that the mesh is made of."""

from collections.abc import Mapping
from typing import Any, TypeVar

from isthmus.api.mesh import MeshConfigSpec
from isthmus.api.meta import Fact, Key, Model
from isthmus.engine import Reader
from isthmus.mesh import committed, ingresses
from isthmus.mesh.model import MeshSettings
from isthmus.mesh.settings import KIND, NAME, applied

M = TypeVar("M", bound=Model)


def settings(q: Reader) -> MeshSettings:
    """The settings that every proxy shares: those of the set-up, as the mesh's MeshConfig changes them."""
    given = committed.settings(q)
    said = spec(q, Key(KIND, given.root_namespace, NAME), MeshConfigSpec)
    return applied(given, said) if said else given


def mesh_config(q: Reader) -> tuple[Key, ...]:
    """The MeshConfig that counts, if there is one."""
    key = Key(KIND, q(settings).root_namespace, NAME)
    return (key,) if fact(q, key) else ()


def fact(q: Reader, key: Key) -> Fact | None:
    """What is known of one object."""
    found = committed.fact(q, key)
    if found is None and key.kind in ingresses.KINDS:
        return q(ingresses.derived).get(key)
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
    return committed.status(q, key)


def keys(q: Reader, kind: str, namespace: str) -> tuple[Key, ...]:
    """The objects of a kind in a namespace, by name."""
    found = committed.keys(q, kind, namespace)
    if kind in ingresses.KINDS:
        more = (key for key in q(ingresses.of_kind, kind) if key.namespace == namespace)
        return tuple(sorted({*found, *more}))
    return found


def namespaces(q: Reader, *kinds: str) -> tuple[str, ...]:
    """The namespaces that hold objects of any of the kinds, sorted."""
    found: set[str] = set()
    for kind in kinds:
        found.update(committed.namespaces(q, kind))
        if kind in ingresses.KINDS:
            found.update(key.namespace for key in q(ingresses.of_kind, kind))
    return tuple(sorted(found))


def all_keys(q: Reader, kind: str) -> tuple[Key, ...]:
    """Every object of a kind, by namespace and name."""
    return tuple(key for namespace in namespaces(q, kind) for key in keys(q, kind, namespace))


def seniority(q: Reader, key: Key) -> tuple[str, str, str]:
    """Sorts the oldest object first; of one age, the names decide, then the namespaces."""
    found = fact(q, key)
    return (found.created if found else "", key.name, key.namespace)
