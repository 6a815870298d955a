"""Objects -> the engine's inputs. Everything that configures proxies enters here, stored or read from files.

("fact", kind, ns, name)      what people wrote           ("keys", kind, ns)     who is there
("status", kind, ns, name)    what configuration is       ("namespaces", kind)   and where
                              made of: a ServiceEntry's addresses, a WorkloadEntry's conditions but ours,
                              a Pod's addresses and phase, where a Service's load balancer is
("resolved", name)            what DNS last said of a name
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from isthmus.api.codec import decode, encode, facts
from isthmus.api.meta import Fact, Key, Object
from isthmus.api.validate import validate

Input = tuple[tuple[Hashable, ...], Any]
"""The name of an input and its value; None takes it away."""

_OWN_CONDITIONS = frozenset({"Programmed", "Resolved"})


class Members:
    """Which objects there are, by kind and namespace."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, list[Key]]] = {}
        """Sorted: of ten thousand objects, one more or less is to cost little."""
        self._changed: set[tuple[str, str]] = set()

    def __contains__(self, key: Key) -> bool:
        keys = self._keys.get(key.kind, {}).get(key.namespace, [])
        at = bisect_left(keys, key.name, key=_name)
        return keys[at : at + 1] == [key]

    def add(self, key: Key) -> None:
        """Counts the object in, if it is not."""
        keys = self._keys.setdefault(key.kind, {}).setdefault(key.namespace, [])
        at = bisect_left(keys, key.name, key=_name)
        if keys[at : at + 1] != [key]:
            keys.insert(at, key)
            self._changed.add((key.kind, key.namespace))

    def remove(self, key: Key) -> None:
        """Counts the object out."""
        keys = self._keys.get(key.kind, {}).get(key.namespace, [])
        at = bisect_left(keys, key.name, key=_name)
        if keys[at : at + 1] != [key]:
            return
        del keys[at]
        if not keys:
            del self._keys[key.kind][key.namespace]
        self._changed.add((key.kind, key.namespace))

    def changes(self) -> Iterator[Input]:
        """The inputs of what was counted in or out since the last time."""
        changed, self._changed = self._changed, set()
        for kind, namespace in sorted(changed):
            held = self._keys.get(kind, {})
            yield ("keys", kind, namespace), tuple(held.get(namespace, ())) or None
            yield ("namespaces", kind), tuple(sorted(held)) or None


_name = attrgetter("name")


def inputs_of(key: Key, obj: Object | None) -> Iterator[Input]:
    """The inputs that one object is; None when it is gone."""
    where = (key.kind, key.namespace, key.name)
    yield ("fact", *where), facts(obj) if obj else None
    if key.kind in _STATUS:
        yield ("status", *where), _STATUS[key.kind](obj.status) if obj else None


def in_force(obj: Object) -> Fact | None:
    """What stood in for an object when its status was last written; None: it stood itself."""
    said = obj.status.get("inForce")
    refused = any(
        (c.get("type"), c.get("status"), c.get("observedGeneration"))
        == ("Programmed", "False", obj.meta.generation)
        for c in obj.status.get("conditions", ())
    )
    if not refused or not isinstance(said, Mapping):
        return None
    before, _ = decode({**encode(obj), "spec": said.get("spec"), "status": {}})
    return (
        None
        if before is None or any(each.severity == "error" for each in validate(before))
        else facts(before)
    )


def is_noise(before: Object, after: Object) -> bool:
    """Whether a change of an object changes none of its inputs, as most writes of a status do."""
    same = after.spec is before.spec and after.meta.generation == before.meta.generation
    return same and list(inputs_of(before.key, before)) == list(inputs_of(after.key, after))


def whole(objects: Iterable[Object]) -> dict[tuple[Hashable, ...], Any]:
    """The inputs of a world that holds these objects and no others."""
    members = Members()
    inputs: dict[tuple[Hashable, ...], Any] = {}
    for obj in objects:
        members.add(obj.key)
        inputs.update(inputs_of(obj.key, obj))
    inputs.update(members.changes())
    return inputs


def _addresses(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return {"addresses": status["addresses"]} if status.get("addresses") else None


def _observed_conditions(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    conditions = [c for c in status.get("conditions", ()) if c.get("type") not in _OWN_CONDITIONS]
    return {"conditions": conditions} if conditions else None


def _pod_state(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    state = {name: status[name] for name in ("podIP", "podIPs", "phase") if status.get(name)}
    ready = [
        {"type": "Ready", "status": c.get("status")}
        for c in status.get("conditions") or ()
        if c.get("type") == "Ready"
    ]
    return {**state, "conditions": ready} if ready else state or None


def _entrances(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Where a load balancer takes connections for a Service, by address or name."""
    said = (status.get("loadBalancer") or {}).get("ingress") or ()
    found = [text for each in said if (text := each.get("ip") or each.get("hostname"))]
    return {"addresses": found} if found else None


_STATUS: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any] | None]] = {
    "ServiceEntry": _addresses,
    "WorkloadEntry": _observed_conditions,
    "Pod": _pod_state,
    "Service": _entrances,
}
