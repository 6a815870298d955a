"""Mistakes that the types find -> the words in which Kubernetes tells them.

People, and the programs that read `kubectl apply`, know these words; after them stands what to try.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from isthmus.api.fields import nearest
from isthmus.api.meta import Problem

REQUIRED = "Required value"
MOST_PROBLEMS = 1000
"""More of one severity are not told."""
_WANTED = {
    "string_type": "string",
    "string_sub_type": "string",
    "int_type": "integer",
    "int_from_float": "integer",
    "int_parsing": "integer",
    "float_type": "number",
    "float_parsing": "number",
    "bool_type": "boolean",
    "tuple_type": "array",
    "list_type": "array",
    "mapping_type": "object",
    "dict_type": "object",
    "model_type": "object",
    "model_attributes_type": "object",
}
_LIMITS = {
    "greater_than_equal": ("greater than or equal to", "ge"),
    "less_than_equal": ("less than or equal to", "le"),
    "greater_than": ("greater than", "gt"),
    "less_than": ("less than", "lt"),
}


def said(kind: str, field: str, value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
    """The text and the hint for a mistake of this kind (https://docs.pydantic.dev/latest/errors/)."""
    if kind == "missing":
        return REQUIRED, ""
    if kind in _WANTED:
        quoted = kind == "string_type" and isinstance(value, bool | int | float)
        return wrong_type(field, _WANTED[kind], value), "put it in quotes" if quoted else ""
    if kind == "literal_error":
        wanted = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        listed = ", ".join(f'"{word}"' for word in wanted)
        return f"Unsupported value: {seen(value)}: supported values: {listed}", nearest(str(value), wanted)
    if kind == "value_error":
        text = str(context["error"])
        return (text if text.startswith("Invalid value") else f"Invalid value: {seen(value)}: {text}"), ""
    if kind == "string_too_long":
        return f"Too long: may not be more than {context['max_length']} characters", ""
    if kind == "too_long":
        most = context["max_length"]
        return f"Too many: {len(value)}: must have at most {most} items", ""
    return f"Invalid value: {seen(value)}: {field} in body {_fault(kind, context)}", ""


def first(problems: Iterable[Problem]) -> list[Problem]:
    """The problems as a list, which stays small for the worst of objects."""
    told: list[Problem] = []
    count = Counter[str]()
    for problem in problems:
        count[problem.severity] += 1
        if count[problem.severity] <= MOST_PROBLEMS:
            told.append(problem)
        elif problem.severity == "error":
            break
    severities: tuple[Literal["error", "warning"], ...] = ("error", "warning")
    for severity in severities:
        if count[severity] > MOST_PROBLEMS:
            text = f"has more {severity}s than the {MOST_PROBLEMS} that are told here"
            told.append(Problem("", text, severity=severity))
    return told


def wrong_type(field: str, wanted: str, value: Any) -> str:
    """A value of another type than wanted."""
    return f'Invalid value: {seen(value)}: {field} in body must be of type {wanted}: "{_type(value)}"'


def null(field: str, wanted: str) -> str:
    """A null where a value must be."""
    return wrong_type(field, wanted, None)


def seen(value: Any) -> str:
    """A value as messages show it."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | int | float) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _fault(kind: str, context: Mapping[str, Any]) -> str:
    if kind in _LIMITS:
        word, bound = _LIMITS[kind]
        return f"should be {word} {context[bound]}"
    if kind == "string_pattern_mismatch":
        return f"should match '{context['pattern']}'"
    if kind == "string_too_short":
        return f"should be at least {context['min_length']} chars long"
    if kind == "too_short":
        return f"should have at least {context['min_length']} items"
    message = str(context["message"])
    return f"{message[:1].lower()}{message[1:]}"


def _type(value: Any) -> str:
    if value is None:
        return "null"
    for types, name in (
        (bool, "boolean"),
        (str, "string"),
        (int, "integer"),
        (float, "number"),
        (Mapping, "object"),
    ):
        if isinstance(value, types):
            return name
    return "array"
