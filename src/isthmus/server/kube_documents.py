"""A document in a request -> the object that it means, with what there is to say about its fields.

Ignore   unknown fields are dropped
Warn     dropped, and told in headers (when the client says nothing)
Strict   refused: 400
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request

from isthmus.api.codec import decode, decode_plain
from isthmus.api.defaults import defaulted
from isthmus.api.inspection import inspected
from isthmus.api.meta import Key, Object, Problem
from isthmus.api.mistakes import wrong_type
from isthmus.api.unknown import without_unknown
from isthmus.server.kube_http import Target
from isthmus.server.status_errors import Failure, bad_request, cause, invalid, option_invalid, undecodable

_LEVELS = ("Ignore", "Warn", "Strict")


def field_validation(request: Request) -> str:
    """What the client wants done with unknown fields."""
    level = request.query_params.get("fieldValidation") or "Warn"
    if level not in _LEVELS:
        text = f'Unsupported value: "{level[:40]}": supported values: "Ignore", "Strict", "Warn"'
        raise option_invalid(request.method, Problem("fieldValidation", text))
    return level


def named(document: Any) -> Any:
    """The document with a name made from `generateName` where it has no name."""
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or metadata.get("name"):
        return document
    prefix = metadata.get("generateName")
    if not isinstance(prefix, str) or not prefix:
        return document
    name = f"{prefix[:58]}{''.join(secrets.choice(_ALPHABET) for _ in range(5))}"
    return document | {"metadata": metadata | {"name": name}}


_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' own: no vowels, so that no words come out."""


def decoded(
    document: Any, wanted: Target, level: str, *, patched: bool = False, sent: Any = None
) -> tuple[Object, tuple[str, ...]]:
    """The object in a request's body, which must be the one that the path names, and warnings.

    `patched`: the document is not the client's, but what its patch made of ours. `sent`: what the client sent
    instead, when unknown fields were already taken out of it.
    """
    if not isinstance(document, dict):
        raise bad_request("the body of the request is not an object")
    if wanted.kind.of_kubernetes:
        document = {"apiVersion": wanted.api_version, "kind": wanted.kind.kind} | document
    _check_type(document, wanted, patched=patched)
    known, warnings = document, tuple[str, ...]()
    namespace = wanted.namespace or ""
    obj = decode_plain(document, wanted.kind, default_namespace=namespace) if sent is None else None
    if obj is None:
        known, warnings, obj = _read(document, wanted, level, sent)
    if wrong := list(_status_problems(obj.status)):
        raise invalid(obj.key, [*wrong, *_errors(known, wanted)], warnings=warnings)
    if wanted.name and obj.key.name != wanted.name:
        raise bad_request(
            f"the name of the object ({obj.key.name}) does not match the name on the URL ({wanted.name})"
        )
    if obj.key.namespace != (wanted.namespace or ""):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return defaulted(obj), warnings


def _read(
    document: dict[str, Any], wanted: Target, level: str, sent: Any
) -> tuple[dict[str, Any], tuple[str, ...], Object]:
    """The document without unknown fields, the warnings of these, and the object that it spells."""
    known, unknown = without_unknown(document, wanted.kind)
    if sent is not None:
        document, (_, unknown) = sent, without_unknown(sent, wanted.kind)
    if unknown and level == "Strict":
        raise _strict(document, wanted, unknown, _errors(known, wanted))
    warnings = tuple(f'unknown field "{path}"' for path in unknown) if level == "Warn" else ()
    obj, _ = decode(known, default_namespace=wanted.namespace or "")
    if obj is None:
        errors = _errors(known, wanted)
        raise undecodable(wanted.kind, wanted.name or _name(document), errors, warnings=warnings)
    return known, warnings, obj


def _check_type(document: Mapping[str, Any], wanted: Target, *, patched: bool) -> None:
    given = {"apiVersion": document.get("apiVersion"), "kind": document.get("kind")}
    if missing := [name for name, value in given.items() if not value]:
        raise bad_request(f"the object has no {' and no '.join(missing)}: it is a {wanted.kind.kind}")
    for name, expected in (("apiVersion", wanted.api_version), ("kind", wanted.kind.kind)):
        if given[name] == expected:
            continue
        if name == "kind" or patched:
            text = f"Invalid value: {json.dumps(given[name])}: must be {expected}"
            raise undecodable(wanted.kind, wanted.name or _name(document), [Problem(name, text)])
        raise bad_request(
            f"the API version in the data ({given[name]}) does not match the expected one ({expected})"
        )


def _status_problems(status: Mapping[str, Any]) -> Iterator[Problem]:
    """What others could not read."""
    conditions = status.get("conditions", [])
    if not isinstance(conditions, list | tuple):
        yield Problem("status.conditions", wrong_type("status.conditions", "array", conditions))
        return
    for index, condition in enumerate(conditions):
        field = f"status.conditions[{index}]"
        if not isinstance(condition, Mapping):
            yield Problem(field, wrong_type(field, "object", condition))
            continue
        for name, value in condition.items():
            if name != "observedGeneration" and not isinstance(value, str):
                yield Problem(f"{field}.{name}", wrong_type(f"{field}.{name}", "string", value))


def _strict(
    document: Mapping[str, Any], wanted: Target, unknown: Sequence[str], others: Sequence[Problem]
) -> Failure:
    """What is refused for unknown fields; the causes name all that is wrong, so that one round is enough."""
    told = ", ".join(f'unknown field "{path}"' for path in unknown)
    key = Key(wanted.kind.kind, wanted.namespace or "", wanted.name or _name(document))
    problems = [*_unknown(document, unknown), *others]
    details = {
        "name": key.name,
        "group": wanted.kind.group,
        "kind": key.kind,
        "causes": [cause(problem) for problem in problems],
    }
    return Failure(400, "BadRequest", f"strict decoding error: {told}", details)


def _errors(document: Mapping[str, Any], wanted: Target) -> list[Problem]:
    found = inspected(document, default_namespace=wanted.namespace or "")
    return [problem for problem in found if problem.severity == "error"]


def _unknown(document: Mapping[str, Any], paths: Sequence[str]) -> list[Problem]:
    by_field = {problem.field: problem for problem in decode(document)[1]}
    return [by_field.get(path, Problem(path, "unknown field")) for path in paths]


def _name(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, Mapping) else ""
