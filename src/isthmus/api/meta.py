"""What every API object has: a key, metadata, problems and conditions.

Shapes follow the Kubernetes API conventions
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names one object. `kind` is the plain kind: it is unique across our API groups.

    Cluster-scoped kinds have the empty namespace.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)


class Model(BaseModel):
    """Base of every API shape: frozen, strict about unknown fields, camelCase outside."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )


class Preserving(Model):
    """A shape of which we read a part: fields that it does not name are kept as they are."""

    model_config = ConfigDict(extra="allow")


class Telling(Preserving):
    """A shape of the mesh's settings: a field that it does not name would mean something, so its author is
    told that it does not."""


@dataclass(frozen=True, slots=True)
class Later:
    """Marks a field that is stored and validated but does not change what proxies do yet.

    Stands in `Annotated[..., Later("what happens instead")]`. With `values` only those values are meant, with
    `unless` all but those; of a list, its elements.
    """

    text: str = ""
    values: tuple[object, ...] = ()
    unless: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """Marks a field that means nothing to a mesh: it is stored and given back, for other tools."""

    text: str = "for other tools"


@dataclass(frozen=True, slots=True)
class Refused:
    """Marks a field that validation refuses whatever it says; with `below`, these fields of its object."""

    text: str
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NullIsEmpty:
    """Marks a list in which Istio takes null for an element that says nothing."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about an object that its author should know.

    `field` is a path such as `spec.http[0].route[1].destination.host`; empty for the whole object.
    An `error` refuses the object at the door, a `warning` lets it in and is told.
    """

    field: str
    text: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.text}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """Kubernetes ObjectMeta, as far as it means something here. Times are RFC 3339 in UTC."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: int = 0
    generation: int = 0
    creation_timestamp: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_references: tuple[Mapping[str, Any], ...] = ()
    generate_name: str = ""
    finalizers: tuple[str, ...] = ()
    """Words that must all be taken away before a deleted object goes."""
    deletion_timestamp: str = ""
    """Set on an object that is deleted and still waits for its finalizers."""
    managed_fields: tuple[Mapping[str, Any], ...] = ()
    """Who wrote which fields (https://kubernetes.io/docs/reference/using-api/server-side-apply/)."""


@dataclass(frozen=True, slots=True)
class Object:
    """One stored object: what people wrote (`spec`) and what we say about it (`status`).

    `spec` is the kind's frozen model, `status` is plain JSON: it is ours alone and never input to
    validation.
    """

    key: Key
    meta: ObjectMeta
    spec: Model
    status: Mapping[str, Any] = field(default_factory=dict)
    tail: bytes = field(default=b"", init=False, repr=False, compare=False)
    """Its text, once it was made (`api.text`): written to disk, answered and watched are the same bytes."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What the engine sees of an object: only what can change configuration.

    No resourceVersion, generation or status: a write that changes none of these stops here.
    """

    key: Key
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created: str
    spec: Model
