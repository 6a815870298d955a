"""A JSON path, as columns and kubectl spell it -> the values that it finds in a document.

Whatever the document is: what is not there, or of another type, is not found.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\*|\d+|'[^']*')\]|\[\?\(@\.(\w+)==[\"'](.*?)[\"']\)\]")


def found(json_path: str, document: Mapping[str, Any]) -> list[Any]:
    """What a JSON path finds in a document."""
    values: list[Any] = [document]
    for step in _steps(json_path):
        values = [item for value in values for item in step(value)]
    return values


Walk = Callable[[Any], list[Any]]


@cache
def _steps(json_path: str) -> tuple[Walk, ...]:
    plain = json_path.removeprefix("{").removesuffix("}").removeprefix("$")
    steps, end = [], 0
    for match in _STEP.finditer(plain):
        assert match.start() == end, f"{json_path!r} is no JSON path that is read here"
        end = match.end()
        name, index, key, wanted = match.groups()
        steps.append(_selecting(key, wanted) if key else _walk(name or index))
    assert end == len(plain), f"{json_path!r} is no JSON path that is read here"
    return tuple(steps)


def _walk(step: str) -> Walk:
    if step == "*":
        return lambda value: list(value) if isinstance(value, list) else []
    if step.isdigit():
        index = int(step)
        return lambda value: value[index : index + 1] if isinstance(value, list) else []
    name = step.strip("'")
    return lambda value: [value[name]] if isinstance(value, Mapping) and name in value else []


def _selecting(key: str, wanted: str) -> Walk:
    def select(value: Any) -> list[Any]:
        items = value if isinstance(value, list) else []
        return [item for item in items if isinstance(item, Mapping) and item.get(key) == wanted]

    return select
