"""A kind's model -> the tree of its JSON fields: objects, lists and maps, and what a name nearly is."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from isthmus.api.meta import Model, NullIsEmpty


@dataclass(frozen=True, slots=True)
class Field:
    """One JSON field: `model` is set when its value, or each of its elements, is an object with fields."""

    container: Literal["one", "list", "map"]
    model: type[Model] | None
    null_is_empty: bool = False
    """Null in the list is an element that says nothing."""


@cache
def fields(model: type[Model]) -> Mapping[str, Field]:
    """The fields of a model by the name they have in JSON."""
    return {info.alias or name: _marked(info) for name, info in model.model_fields.items()}


def _marked(info: FieldInfo) -> Field:
    field = _field(info.annotation)
    marked = any(isinstance(mark, NullIsEmpty) for mark in info.metadata)
    return replace(field, null_is_empty=True) if marked else field


def _field(annotation: Any) -> Field:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _field(args[0])
    if origin in {Union, UnionType}:
        members = [member for member in args if member is not NoneType]
        return _field(members[0]) if len(members) == 1 else Field("one", None)
    if origin is tuple:
        return Field("list", _field(args[0]).model)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Field("map", _field(args[1]).model)
    is_model = isinstance(annotation, type) and issubclass(annotation, Model)
    return Field("one", annotation if is_model else None)


def without_nulls(value: Any, model: type[Model]) -> Any:
    """`value` without the fields that are null: null means absent, as for Kubernetes.

    Elements of lists and values of maps stay: `headers: {cookie: null}` must not become "no condition".
    """
    if not isinstance(value, Mapping):
        return value
    known = fields(model)
    return {name: _inside(item, known.get(name)) for name, item in value.items() if item is not None}


def _inside(value: Any, field: Field | None) -> Any:
    if field is None or field.model is None:
        return value
    model = field.model
    if field.container == "list" and isinstance(value, list | tuple):
        empty: dict[str, Any] | None = {} if field.null_is_empty else None
        return [without_nulls(empty if element is None else element, model) for element in value]
    if field.container == "map" and isinstance(value, Mapping):
        return {key: without_nulls(element, model) for key, element in value.items()}
    return without_nulls(value, model)


def model_at(model: type[Model], location: Iterable[str | int]) -> type[Model] | None:
    """The model that the object at this location has, None when it is no object with fields."""
    current: Field = Field("one", model)
    inside_map = False
    for part in location:
        if inside_map or isinstance(part, int):
            inside_map = False
            continue
        if current.model is None:
            return None
        found = fields(current.model).get(part)
        if found is None:
            return None
        current, inside_map = found, found.container == "map"
    return None if inside_map else current.model


def json_type(model: type[Model], location: Sequence[str | int]) -> str:
    """The JSON type of the field at this location: string, integer, object, …"""
    parent = model_at(model, location[:-1])
    name = location[-1] if location else ""
    for plain, info in parent.model_fields.items() if parent else ():
        if (info.alias or plain) == name:
            found = fields(parent)[str(name)] if parent else Field("one", None)
            if found.container != "one":
                return "array" if found.container == "list" else "object"
            return "object" if found.model else _JSON_TYPES.get(info.annotation, "string")
    return "object"


_JSON_TYPES: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def path(prefix: str, location: Iterable[str | int]) -> str:
    """A location as people read it: `spec.http[0].match[1].headers[end-user]`."""
    text = prefix
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{part}]"
    return text


_LONGEST_WORD = 64


def nearest(word: str, known: Iterable[str]) -> str:
    """A `did you mean …?` for a word that is nearly a known one, else empty."""
    if len(word) > _LONGEST_WORD:
        return ""
    by_lower = {candidate.lower(): candidate for candidate in sorted(known)}
    plain = word.lower().replace("_", "").replace("-", "")
    close = difflib.get_close_matches(plain, by_lower, n=1, cutoff=0.7)
    return f"did you mean {by_lower[close[0]]}?" if close else ""
