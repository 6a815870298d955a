"""The marks on models and kinds -> warnings about what an object sets that does nothing yet."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic.fields import FieldInfo

from isthmus.api.fields import path
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Later, Model, Object, Problem, Telling

Mark = TypeVar("Mark")

UNKNOWN_SETTING = Later("this setting is not known here")


def untranslated(obj: Object) -> list[Problem]:
    """Warnings about what an object sets that does not change yet what proxies do."""
    kind = KINDS[obj.key.kind]
    if kind.later:
        return [_warning("spec", f"{kind.kind} is stored, but not applied yet: {kind.later}")]
    return [
        _warning(field, f"is stored, but not applied yet{': ' if later.text else ''}{later.text}")
        for field, later in _set(obj.spec, "spec" if kind.has_spec else "")
    ]


def mark(metadata: Sequence[Any], sort: type[Mark]) -> Mark | None:
    """The mark of this sort on a field, None when it has none."""
    return next((found for found in metadata if isinstance(found, sort)), None)


def _warning(field: str, text: str) -> Problem:
    return Problem(field, text, severity="warning")


def _set(model: Model, prefix: str) -> Iterator[tuple[str, Later]]:
    for name, info in _marked_fields(type(model)):
        if name not in model.model_fields_set:
            continue
        value = getattr(model, name)
        later = mark(info.metadata, Later)
        field = path(prefix, [info.alias or name])
        if later is None:
            yield from _inside(value, field)
        elif value != info.get_default(call_default_factory=True, validated_data={}) and _meant(value, later):
            yield field, later
    if isinstance(model, Telling):
        yield from ((path(prefix, [name]), UNKNOWN_SETTING) for name in model.model_extra or ())


@cache
def _marked_fields(model: type[Model]) -> tuple[tuple[str, FieldInfo], ...]:
    """The fields that are marked, or in which something is: most need not be looked into at all."""
    return tuple(
        (name, info)
        for name, info in model.model_fields.items()
        if mark(info.metadata, Later) or any(map(_tells, _models_in(info.annotation, {model})))
    )


def _tells(model: type[Model]) -> bool:
    return issubclass(model, Telling) or any(mark(i.metadata, Later) for i in model.model_fields.values())


def _models_in(annotation: Any, seen: set[type[Model]]) -> Iterator[type[Model]]:
    """The models that a value of this type may hold, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        if annotation not in seen:
            seen.add(annotation)
            yield annotation
            for info in annotation.model_fields.values():
                yield from _models_in(info.annotation, seen)
        return
    for argument in get_args(annotation):
        yield from _models_in(argument, seen)


def _inside(value: Any, field: str) -> Iterator[tuple[str, Later]]:
    if isinstance(value, Model):
        yield from _set(value, field)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _inside(item, path(field, [str(key)]))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _inside(item, f"{field}[{index}]")


def _meant(value: Any, later: Later) -> bool:
    for one in value if isinstance(value, tuple) else (value,):
        if one in later.values or (later.unless and one not in later.unless):
            return True
    return not later.values and not later.unless
