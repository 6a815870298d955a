"""A place in a document -> values that could stand there, when what stands there cannot be read.

They come from the schema of the kind's model: every word of an enumeration, some plain texts and numbers; of
an object, all of its fields.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from isthmus.api.meta import Model

Schema = Mapping[str, Any]

_TEXTS = ("a", "b.example.com", "HTTP", "TLS", "10.1.2.3", "unix:///c", "8080", "")
_DURATIONS = ("1s", "2s")
_NUMBERS = (1, 2, 80)
_DEEPEST = 12
PORT_KEY = "8080"
"""A key that maps take, also those whose keys are ports."""


def stand_ins(model: type[Model], location: Sequence[str | int]) -> tuple[Any, ...]:
    """JSON values that the model takes at this location, none when it has no such place."""
    whole = schema = _schema(model)
    for part in location:
        below = _below(_resolved(schema, whole), part)
        if below is None:
            return ()
        schema = below
    return _values(schema, whole, 0)


@cache
def _schema(model: type[Model]) -> Schema:
    return model.model_json_schema(by_alias=True)


def _resolved(schema: Schema, whole: Schema) -> Schema:
    """The schema that another refers to, or that is left of `this or null`."""
    while "$ref" in schema or "anyOf" in schema:
        if "$ref" in schema:
            schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
        else:
            schema = next(member for member in schema["anyOf"] if member != {"type": "null"})
    return schema


def _below(schema: Schema, part: str | int) -> Schema | None:
    if isinstance(part, int):
        return schema.get("items")
    if part in schema.get("properties", {}):
        found: Schema = schema["properties"][part]
        return found
    others = schema.get("additionalProperties", False)
    return {} if others is True else others or None


def _values(schema: Schema, whole: Schema, depth: int) -> tuple[Any, ...]:
    schema = _resolved(schema, whole)
    if depth > _DEEPEST:
        return ()
    match schema:
        case {"enum": words}:
            return tuple(words)
        case {"const": word}:
            return (word,)
        case {"type": "string"}:
            return _texts(schema)
        case {"type": "boolean"}:
            return (True, False)
        case {"type": "integer" | "number"}:
            return _numbers(schema)
        case {"type": "array"}:
            return tuple([value] for value in _values(schema.get("items", {}), whole, depth + 1))
        case {"properties": properties}:
            return _objects({name: _values(field, whole, depth + 1) for name, field in properties.items()})
        case {"type": "object", "additionalProperties": Mapping() as field}:
            return tuple({PORT_KEY: value} for value in _values(field, whole, depth + 1))
        case _:
            return ({},)


def _numbers(schema: Schema) -> tuple[int, ...]:
    least, most = schema.get("minimum", 0), schema.get("maximum", 2**31 - 1)
    return tuple(number for number in _NUMBERS if least <= number <= most) or (least, most)


def _texts(schema: Schema) -> tuple[str, ...]:
    if schema.get("format") == "duration":
        return _DURATIONS
    least, most = schema.get("minLength", 0), schema.get("maxLength", 64)
    pattern = re.compile(schema.get("pattern", ""))
    return tuple(
        text
        for text in _TEXTS
        if (text or pattern.pattern) and least <= len(text) <= most and pattern.search(text)
    )


def _objects(values_by_name: Mapping[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    """Objects that have every field, as many as show every value of each."""
    given = {name: values for name, values in values_by_name.items() if values}
    turns = max(map(len, given.values()), default=1)
    return tuple(
        {name: values[turn % len(values)] for name, values in given.items()} for turn in range(turns)
    )
