"""What goes wrong -> Kubernetes' `Status` documents, with its codes, reasons and wording.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.api.kinds import KINDS, Kind
from isthmus.api.meta import Key, Problem
from isthmus.store.base import AlreadyExists, Conflict, Expired, NotFound, StoreError


@dataclass(slots=True, eq=False)
class Failure(Exception):
    """An answer that is not the one asked for."""

    code: int
    reason: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the answer holds beside Kubernetes' fields."""
    warnings: tuple[str, ...] = ()
    """What is told all the same, in headers."""

    def document(self) -> dict[str, Any]:
        """The `Status` that tells it."""
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = dict(self.details)
        return status | dict(self.extra)

    def __str__(self) -> str:
        return self.message


def resource(kind: Kind) -> str:
    """A kind as Kubernetes' messages name it: `virtualservices.networking.istio.io`."""
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def bad_request(message: str) -> Failure:
    """400: the request makes no sense."""
    return Failure(400, "BadRequest", message)


def field_invalid(field: str, text: str) -> Failure:
    """422 for a field of a request's body."""
    return Failure(422, "Invalid", f"{field}: {text}", {"causes": [cause(Problem(field, text))]})


def option_invalid(method: str, *problems: Problem) -> Failure:
    """422 for parameters of a request, in the query or in the body of a DELETE."""
    kind, told = _OPTIONS[method], ", ".join(map(str, problems))
    message = f'{kind}.meta.k8s.io "" is invalid: ' + (f"[{told}]" if len(problems) > 1 else told)
    causes = [cause(problem) for problem in problems]
    return Failure(422, "Invalid", message, {"group": "meta.k8s.io", "kind": kind, "causes": causes})


_OPTIONS = {
    "GET": "ListOptions",
    "HEAD": "ListOptions",
    "POST": "CreateOptions",
    "PUT": "UpdateOptions",
    "PATCH": "PatchOptions",
    "DELETE": "DeleteOptions",
}
"""What Kubernetes calls the parameters of a request."""


def forbidden(user: str, verb: str, what: str, details: Mapping[str, Any] | None = None) -> Failure:
    """403: it is known who asks, and this is not for them."""
    return Failure(403, "Forbidden", f'{what} is forbidden: User "{user}" cannot {verb}', details or {})


def unauthorized() -> Failure:
    """401: it is not known who asks; it is not told why."""
    return Failure(401, "Unauthorized", "Unauthorized")


def no_such_path() -> Failure:
    """404: no resource is served under this path."""
    return Failure(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed(method: str, kind: Kind) -> Failure:
    """405: the resource exists, the verb does not."""
    text = f"the server does not allow this method on the requested resource: {method}"
    return Failure(405, "MethodNotAllowed", text, _details(kind, Key(kind.kind, "", "")))


def not_found(key: Key) -> Failure:
    """404: the object does not exist."""
    kind = KINDS[key.kind]
    return Failure(404, "NotFound", f'{resource(kind)} "{key.name}" not found', _details(kind, key))


def invalid(key: Key, problems: Sequence[Problem], *, warnings: tuple[str, ...] = ()) -> Failure:
    """422: the object has these problems, all of them."""
    kind = KINDS[key.kind]
    name = f"{key.kind}.{kind.group}" if kind.group else key.kind
    told = ", ".join(map(str, problems))
    causes = [cause(problem) for problem in problems]
    return Failure(
        422,
        "Invalid",
        f'{name} "{key.name}" is invalid: ' + (f"[{told}]" if len(problems) > 1 else told),
        _given({"name": key.name, "group": kind.group, "kind": key.kind, "causes": causes}),
        warnings=warnings,
    )


def cause(problem: Problem) -> dict[str, str]:
    """A problem as `details.causes` has it."""
    reason = {
        "required field is missing": "FieldValueRequired",
        "unknown field": "FieldValueForbidden",
    }.get(problem.text, _reason(problem.text))
    return {"reason": reason, "message": _message(problem), "field": problem.field}


def _reason(text: str) -> str:
    if " in body must be of type " in text:
        return "FieldValueTypeInvalid"
    for begin, reason in _REASONS:
        if text.startswith(begin):
            return reason
    return "FieldValueInvalid"


_REASONS = (
    ("Required value", "FieldValueRequired"),
    ("Duplicate value", "FieldValueDuplicate"),
    ("Unsupported value", "FieldValueNotSupported"),
    ("Forbidden", "FieldValueForbidden"),
    ("Not found", "FieldValueNotFound"),
    ("Too many", "FieldValueTooMany"),
    ("Too long", "FieldValueTooLong"),
)
"""How Kubernetes begins what it says, and the word for it."""


def undecodable(
    kind: Kind, name: str, problems: Sequence[Problem], *, warnings: tuple[str, ...] = ()
) -> Failure:
    """422 for a document that is no object of its kind."""
    return invalid(Key(kind.kind, "", name), problems, warnings=warnings)


def batch_invalid(errors: Sequence[tuple[int, str, Problem]]) -> Failure:
    """422 for many objects: every problem with the index and name of its object."""
    rows = [
        {"index": index, "key": name, "field": problem.field, "message": _message(problem)}
        for index, name, problem in errors
    ]
    count = len({index for index, _, _ in errors})
    return Failure(
        422,
        "Invalid",
        f"{count} of the objects {'is' if count == 1 else 'are'} invalid, nothing was applied",
        extra={"errors": rows},
    )


def failure_of(error: StoreError) -> Failure:
    """What a store's refusal is to a client."""
    match error:
        case NotFound(key=key):
            return not_found(key)
        case AlreadyExists(key=key):
            kind = KINDS[key.kind]
            text = f'{resource(kind)} "{key.name}" already exists'
            return Failure(409, "AlreadyExists", text, _details(kind, key))
        case Conflict(key=key, text=why):
            kind = KINDS[key.kind]
            text = f'Operation cannot be fulfilled on {resource(kind)} "{key.name}": {why}'
            return Failure(409, "Conflict", text, _details(kind, key))
        case Expired():
            return Failure(410, "Expired", str(error))
    return Failure(503, "ServiceUnavailable", str(error))


def _details(kind: Kind, key: Key) -> dict[str, Any]:
    return _given({"name": key.name, "group": kind.group, "kind": kind.plural})


def _given(details: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value}


def _message(problem: Problem) -> str:
    return problem.text + (f" ({problem.hint})" if problem.hint else "")
