"""HTTP in Kubernetes' manner: what a path names, what a query asks, how answers and warnings look."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from isthmus.api.kinds import Kind, kind_by_plural
from isthmus.api.meta import Key, Problem
from isthmus.server.status_errors import Failure, bad_request, option_invalid

Form = Literal["whole", "table", "metadata"]
"""How objects are to be shown: themselves, as rows of a table, or their metadata alone."""
_FORMS: Mapping[str, Form] = {
    "Table": "table",
    "PartialObjectMetadata": "metadata",
    "PartialObjectMetadataList": "metadata",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a kind's objects, those in a namespace, or one of them."""

    kind: Kind
    api_version: str
    namespace: str | None
    """None: all namespaces, or a kind that stands in none."""
    name: str = ""
    status: bool = False

    @property
    def key(self) -> Key:
        """The one object that is named."""
        return Key(self.kind.kind, self.namespace or "", self.name)


def target(group: str, version: str, rest: str) -> Target | None:
    """What the part of a path after `/api/v1/` or `/apis/GROUP/VERSION/` names, None when nothing."""
    parts = rest.split("/")
    if not all(parts):
        return None
    namespace = None
    # /namespaces/x and /namespaces/x/status are the Namespace itself
    if parts[0] == "namespaces" and len(parts) >= 3 and parts[2:] != ["status"]:
        namespace, parts = parts[1], parts[2:]
    kind = kind_by_plural(group, parts[0])
    if kind is None or version not in kind.versions or len(parts) > 3:
        return None
    if (namespace is not None and not kind.namespaced) or (parts[2:] not in ([], ["status"])):
        return None
    if len(parts) > 1 and kind.namespaced and namespace is None:
        return None
    api_version = f"{group}/{version}" if group else version
    return Target(kind, api_version, namespace, parts[1] if len(parts) > 1 else "", len(parts) == 3)


def form(request: Request) -> Form:
    """How the client wants objects shown: the first thing it accepts that is served; 406 when none is."""
    accept = request.headers.get("accept", "")
    for part in accept.split(",") if accept.strip() else ():
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media.lower() not in {"application/json", "application/*", "*/*"}:
            continue
        wanted = dict(parameter.partition("=")[::2] for parameter in parameters)
        if "as" not in wanted:
            return "whole"
        group = wanted.get("g") == "meta.k8s.io" and wanted.get("v") == "v1"
        if group and wanted["as"] in _FORMS:
            return _FORMS[wanted["as"]]
    if accept.strip():
        text = "only the following media types are accepted: application/json"
        raise Failure(406, "NotAcceptable", text)
    return "whole"


def is_dry_run(request: Request) -> bool:
    """Whether the request is to be answered as if it had been done; only `All` is known."""
    return asks_dry_run(request.method, request.query_params.getlist("dryRun"))


def asks_dry_run(method: str, values: Sequence[Any]) -> bool:
    """Whether these values of `dryRun` ask for one."""
    for value in values:
        if value != "All":
            text = f'Unsupported value: {json.dumps(value)}: supported values: "All"'
            raise option_invalid(method, Problem("dryRun", text))
    return bool(values)


def flag(request: Request, name: str) -> bool | None:
    """A parameter that is true unless it says false or 0, None when it is not given."""
    text = request.query_params.get(name)
    return None if text is None else text.lower() not in {"0", "false"}


def number(request: Request, name: str) -> int:
    """A parameter that is a whole number; 0 when it is not given, or less."""
    text = request.query_params.get(name) or "0"
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise bad_request(f"{name}: Invalid value: {text[:40]!r}: is no whole number")
    return max(int(text), 0)


def version(text: Any) -> int | None:
    """A resourceVersion, None when it is not given."""
    if text in (None, ""):
        return None
    if not isinstance(text, str) or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_request(f"resourceVersion: Invalid value: {str(text)[:40]!r}")
    return int(text)


def manager_name(request: Request) -> str:
    """Who writes: `fieldManager`, else the beginning of the User-Agent."""
    given = request.query_params.get("fieldManager", "")
    if len(given.encode(errors="replace")) > _LONGEST_MANAGER:
        text = f"Too long: may not be more than {_LONGEST_MANAGER} bytes"
        raise option_invalid(request.method, Problem("fieldManager", text))
    if not given.isprintable():
        text = f"Invalid value: {json.dumps(given)}: has characters that cannot be printed"
        raise option_invalid(request.method, Problem("fieldManager", text))
    agent = request.headers.get("user-agent", "").split("/")[0]
    return given or agent[:_LONGEST_MANAGER] or "unknown"


_LONGEST_MANAGER = 128


def answer(document: Mapping[str, Any] | bytes, *, code: int = 200, warnings: Sequence[str] = ()) -> Response:
    """A JSON answer, warnings in headers as RFC 7234 has them."""
    body = (
        document
        if isinstance(document, bytes)
        else json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    )
    response = Response(body, code, media_type="application/json")
    for warning in warnings:
        response.headers.append("Warning", f'299 - "{_header_text(warning)}"')
    return response


def _header_text(text: str) -> str:
    plain = "".join(char if char.isprintable() and char.isascii() else "?" for char in text)[:512]
    return plain.replace("\\", "\\\\").replace('"', '\\"')
