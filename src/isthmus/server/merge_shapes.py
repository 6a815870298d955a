"""How the parts of a kind's documents merge: maps by name, lists whole, by keys, or as sets.

What nobody says is as in Kubernetes: maps merge by name, lists are replaced whole
(https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from isthmus.api.kinds import KINDS


@dataclass(frozen=True, slots=True)
class Shape:
    """How one value merges, and what stands below it."""

    merge: Literal["by name", "whole", "by keys", "as set"] = "by name"
    keys: tuple[str, ...] = ()
    """Fields that tell the elements of a list apart."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Keys that an element may leave out, and what they are then."""
    fields: Mapping[str, "Shape"] = field(default_factory=dict)
    """Of a map, or of a list's elements."""
    whole_elements: bool = False
    """Whether the elements of a list with keys are replaced whole."""

    @property
    def element(self) -> "Shape":
        """How one element of a list merges."""
        return WHOLE if self.merge == "as set" or self.whole_elements else Shape(fields=self.fields)


def keyed(*keys: str, defaults: Mapping[str, Any] | None = None, **fields: Shape) -> Shape:
    """A list whose elements are told apart by these fields."""
    return Shape("by keys", keys, defaults or {}, fields)


WHOLE = Shape("whole")
SET = Shape("as set")
ANY = Shape()

_TCP = {"protocol": "TCP"}
_CONTAINERS = keyed(
    "name",
    ports=keyed("containerPort", "protocol", defaults=_TCP),
    env=keyed("name"),
    volumeMounts=keyed("mountPath"),
)
_METADATA = Shape(
    fields={"finalizers": SET, "ownerReferences": Shape("by keys", ("uid",), whole_elements=True)}
)
_STATUS = Shape(fields={"conditions": keyed("type")})
"""Istio's schemas say nothing of conditions: the list of one of its kinds is replaced whole."""
_BODIES: Mapping[str, Mapping[str, Shape]] = {
    "Service": {
        "spec": Shape(
            fields={"ports": keyed("port", "protocol", defaults=_TCP), "selector": WHOLE, "clusterIPs": WHOLE}
        )
    },
    "ServiceEntry": {"spec": Shape(fields={"ports": keyed("name")})},
    "WasmPlugin": {"spec": Shape(fields={"vmConfig": Shape(fields={"env": keyed("name")})})},
    "ServiceAccount": {"secrets": keyed("name"), "imagePullSecrets": WHOLE},
    "Pod": {
        "spec": Shape(
            fields={
                "containers": _CONTAINERS,
                "initContainers": _CONTAINERS,
                "volumes": keyed("name"),
                "imagePullSecrets": keyed("name"),
            }
        )
    },
}


@cache
def shape_of(kind: str) -> Shape:
    """How documents of a kind merge."""
    status = Shape() if KINDS[kind].group.endswith(".istio.io") else _STATUS
    return Shape(fields={"metadata": _METADATA, "status": status, **_BODIES.get(kind, {})})
