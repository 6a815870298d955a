"""A document -> the same without the fields that its kind does not have, and where those stood.

What a client asks for with `fieldValidation`: Kubernetes drops such fields, warns of them, or refuses them
(https://kubernetes.io/docs/reference/using-api/api-concepts/#setting-the-field-validation-level).
"""

from collections.abc import Mapping
from typing import Any

from isthmus.api.codec import Metadata
from isthmus.api.fields import Field, fields, path
from isthmus.api.kinds import Kind
from isthmus.api.meta import Model, Preserving

Location = tuple[str | int, ...]


def without_unknown(document: Mapping[str, Any], kind: Kind) -> tuple[dict[str, Any], list[str]]:
    """The document with known fields alone, and the paths of the others, in their order."""
    unknown: list[Location] = []
    frame: dict[str, Any] = {}
    body: dict[str, Any] = {}
    for name, value in document.items():
        if name in {"apiVersion", "kind", "status"}:
            frame[name] = value
        elif name == "metadata":
            frame[name] = _inside(value, Field("one", Metadata), (name,), unknown)
        elif kind.has_spec and name == "spec":
            frame[name] = _inside(value, Field("one", kind.spec_model), (name,), unknown)
        elif kind.has_spec:
            unknown.append((name,))
        else:
            body[name] = value
    if not kind.has_spec:
        frame |= _known(body, kind.spec_model, (), unknown)
    return frame, [path("", location) for location in unknown]


def _known(
    value: Mapping[str, Any], model: type[Model], at: Location, unknown: list[Location]
) -> dict[str, Any]:
    known = fields(model)
    kept = {}
    for name, item in value.items():
        field = known.get(name)
        if field is not None:
            kept[name] = _inside(item, field, (*at, name), unknown)
        elif issubclass(model, Preserving):
            kept[name] = item
        else:
            unknown.append((*at, name))
    return kept


def _inside(value: Any, field: Field, at: Location, unknown: list[Location]) -> Any:
    if field.model is None:
        return value
    if field.container == "list" and isinstance(value, list | tuple):
        one = Field("one", field.model)
        return [_inside(element, one, (*at, index), unknown) for index, element in enumerate(value)]
    if field.container == "map" and isinstance(value, Mapping):
        one = Field("one", field.model)
        return {name: _inside(item, one, (*at, name), unknown) for name, item in value.items()}
    if field.container == "one" and isinstance(value, Mapping):
        return _known(value, field.model, at, unknown)
    return value
