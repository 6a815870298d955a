"""HTTP in Kubernetes' manner: what a path names, what a body holds, how answers and warnings look."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from isthmus.api.kinds import Kind, kind_by_plural
from isthmus.api.meta import Key
from isthmus.server.status_errors import Failure, bad_request

OBJECT_LIMIT = 3 * 2**20
"""Largest body with one object, as in Kubernetes."""
BATCH_LIMIT = 32 * 2**20
"""Largest body with many objects."""


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


async def json_body(request: Request, limit: int, media_types: Sequence[str] = ("application/json",)) -> Any:
    """The JSON value of a request's body; a Failure when there is none, or too much of it."""
    media_type = request.headers.get("content-type", media_types[0]).split(";")[0].strip().lower()
    if media_type not in media_types:
        raise Failure(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - accepted media types include: "
            f"{', '.join(media_types)}",
        )
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Failure(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")
    try:
        return json.loads(bytes(body), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise bad_request("the body of the request is nested too deeply") from None
    except ValueError as error:
        raise bad_request(f"the body of the request is not JSON: {error}") from None


def is_dry_run(request: Request) -> bool:
    """Whether the request is to be answered as if it had been done; only `All` is known."""
    values = request.query_params.getlist("dryRun")
    if any(value != "All" for value in values):
        raise Failure(422, "Invalid", f"dryRun: Unsupported value: {values[0]!r}: supported values: All")
    return bool(values)


def answer(document: Mapping[str, Any], *, code: int = 200, warnings: Sequence[str] = ()) -> Response:
    """A JSON answer, warnings in headers as RFC 7234 has them."""
    response = Response(
        json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(),
        code,
        media_type="application/json",
    )
    for warning in warnings:
        response.headers.append("Warning", f'299 - "{_header_text(warning)}"')
    return response


def merge_patch(target_value: Any, patch: Any) -> Any:
    """RFC 7396: the value that a merge patch makes of another one."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target_value) if isinstance(target_value, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is given twice in the same object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _header_text(text: str) -> str:
    plain = "".join(char if char.isprintable() and char.isascii() else "?" for char in text)[:512]
    return plain.replace("\\", "\\\\").replace('"', '\\"')
