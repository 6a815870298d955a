"""The marks on models and kinds -> what an object sets that does nothing yet, and docs/support.md.

python -m isthmus.api.support > docs/support.md
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from isthmus.api.fields import fields, path
from isthmus.api.kinds import KINDS, Kind
from isthmus.api.meta import Later, Model, Object, Problem

_HEAD = """# What does something, and what does not yet

Isthmus stores and validates every field of the kinds below, as Istio does. Some of them do not change yet
what proxies do. An object that sets such a field says so: in the warnings of the request that wrote it, and
in its condition `Translated`, which is `False` and names the fields. Nothing is dropped silently.

This page is made from the marks on the models: `python -m isthmus.api.support > docs/support.md`.
"""


def untranslated(obj: Object) -> list[Problem]:
    """Warnings about what an object sets that does not change yet what proxies do."""
    kind = KINDS[obj.key.kind]
    if kind.later:
        return [_warning("spec", f"{kind.kind} is stored, but not applied yet: {kind.later}")]
    return [
        _warning(field, f"is stored, but not applied yet{': ' if later.text else ''}{later.text}")
        for field, later in _set(obj.spec, "spec" if kind.has_spec else "")
    ]


def _warning(field: str, text: str) -> Problem:
    return Problem(field, text, severity="warning")


def _set(model: Model, prefix: str) -> Iterator[tuple[str, Later]]:
    for name, info in type(model).model_fields.items():
        if name not in model.model_fields_set:
            continue
        value = getattr(model, name)
        later = _mark(info.metadata)
        field = path(prefix, [info.alias or name])
        if later is None:
            yield from _inside(value, field)
        elif value != info.get_default(call_default_factory=True, validated_data={}) and _meant(value, later):
            yield field, later


def _inside(value: Any, field: str) -> Iterator[tuple[str, Later]]:
    if isinstance(value, Model):
        yield from _set(value, field)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _inside(item, path(field, [str(key)]))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _inside(item, f"{field}[{index}]")


def _mark(metadata: Sequence[Any]) -> Later | None:
    return next((mark for mark in metadata if isinstance(mark, Later)), None)


def _meant(value: Any, later: Later) -> bool:
    for one in value if isinstance(value, tuple) else (value,):
        if one in later.values or (later.unless and one not in later.unless):
            return True
    return not later.values and not later.unless


# docs/support.md


def page() -> str:
    """The whole of docs/support.md."""
    return "\n".join([_HEAD, *_kinds(), *(line for kind in KINDS.values() for line in _section(kind))])


def _kinds() -> Iterator[str]:
    yield "| Kind | Versions | State |"
    yield "|---|---|---|"
    for kind in KINDS.values():
        count = len(list(_marked(kind.spec_model, "spec", ())))
        state = (
            f"stored only: {kind.later}" if kind.later else f"{count} fields to come" if count else "whole"
        )
        yield f"| {kind.kind} | {', '.join(kind.api_versions)} | {state} |"
    yield ""


def _section(kind: Kind) -> Iterator[str]:
    rows = [] if kind.later else list(_marked(kind.spec_model, "spec" if kind.has_spec else "", ()))
    if not rows:
        return
    yield f"## {kind.kind}\n"
    yield "| Field | What happens instead |"
    yield "|---|---|"
    for field, later in rows:
        only = f" (only {', '.join(map(str, later.values))})" if later.values else ""
        only += f" (other than {', '.join(map(str, later.unless))})" if later.unless else ""
        yield f"| `{field}`{only} | {later.text or 'it is not looked at'} |"
    yield ""


def _marked(model: type[Model], prefix: str, above: tuple[type[Model], ...]) -> Iterator[tuple[str, Later]]:
    if model in above:
        return
    for name, info in model.model_fields.items():
        plain = info.alias or name
        found = fields(model)[plain]
        suffix = {"one": "", "list": "[]", "map": "[*]"}[found.container]
        field = path(prefix, [plain])
        if later := _mark(info.metadata):
            yield field, later
        elif found.model is not None:
            yield from _marked(found.model, field + suffix, (*above, model))


if __name__ == "__main__":
    sys.stdout.write(page())
