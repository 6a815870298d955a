"""Bytes of a request -> a JSON value that is safe to work on: small, shallow, without doubles, plain text.

YAML is read where Kubernetes takes it, for apply patches; without aliases, which could grow without end.
"""

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json, to_json
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent
from starlette.requests import ClientDisconnect, Request

from isthmus.api.kinds import Kind
from isthmus.api.plain_yaml import PlainConstructor
from isthmus.server import kube_protobuf
from isthmus.server.kube_protobuf import PROTOBUF
from isthmus.server.status_errors import Failure, bad_request

OBJECT_LIMIT = 2**20
"""Largest body with one object."""
BATCH_LIMIT = 16 * 2**20
"""Largest body with many objects."""
YAML_LIMIT = 2**18
"""Largest body that is read as YAML, which takes a hundred times as long as JSON."""
DEEPEST = 128
"""Most objects and lists inside each other."""

JSON = "application/json"
YAML_TYPE = "application/yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


def patch_types(kind: Kind) -> tuple[str, ...]:
    """What a patch of an object of this kind may be; strategic merge for kinds whose rules kubectl knows."""
    return (JSON_PATCH, MERGE_PATCH, *((STRATEGIC_PATCH,) if kind.of_kubernetes else ()), APPLY_PATCH)


def media_type(request: Request, accepted: Sequence[str]) -> str:
    """The type of a request's body; 415 when it is none of the accepted ones."""
    given = request.headers.get("content-type", accepted[0]).split(";")[0].strip().lower()
    if given not in accepted:
        raise Failure(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(accepted),
        )
    return given


async def read_body(request: Request, limit: int) -> bytes:
    """The bytes of a request's body; 413 when there are too many, known before they are read or not."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        raise bad_request("the body of the request ended early") from None
    return bytes(body)


async def json_body(request: Request, limit: int, accepted: Sequence[str] = (JSON,)) -> Any:
    """The JSON value of a request's body; a Failure when there is none, or too much of it."""
    media_type(request, accepted)
    return json_value(await read_body(request, limit))


async def object_body(request: Request) -> Any:
    """The document in a request's body, in JSON, YAML or Kubernetes' protobuf."""
    given = media_type(request, (JSON, YAML_TYPE, PROTOBUF))
    if given == YAML_TYPE:
        return await yaml_body(request)
    body = await read_body(request, OBJECT_LIMIT)
    if given == JSON:
        return json_value(body)
    try:
        return _checked(kube_protobuf.document(body), strings=True)
    except kube_protobuf.Undecodable as error:
        raise bad_request(f"the body of the request cannot be read: {error}") from None


async def yaml_body(request: Request) -> Any:
    """The value of a request's body in JSON or YAML."""
    body = await read_body(request, OBJECT_LIMIT)
    if body.lstrip()[:1] == b"{":
        try:
            return json_value(body)
        except Failure:
            if len(body) > YAML_LIMIT:
                raise
    if len(body) > YAML_LIMIT:
        raise _too_large(YAML_LIMIT)
    return await asyncio.to_thread(yaml_value, body)


def json_value(body: bytes) -> Any:
    """The value that JSON spells; 400 when it spells none, or one that nobody would send."""
    if b"\\" not in body and body.count(b"{") + body.count(b"[") < DEEPEST:
        try:
            value = from_json(body, allow_inf_nan=False)
            # what it would be written as: then nothing is given twice in it, which only the way below tells
            if to_json(value) == body:
                return value
        except ValueError:
            pass
    try:
        value = _JSON.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise bad_request(f"the body of the request is not JSON: {error}") from None
    # strings cannot be odd without an escape
    return _checked(value, strings=b"\\u" in body)


def yaml_value(body: bytes) -> Any:
    """The value that YAML spells; 400 when it spells none, or uses aliases."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.Constructor = PlainConstructor
    try:
        value = yaml.load(body.decode())
    except RecursionError:
        raise _too_deep() from None
    except (YAMLError, ValueError) as error:
        raise bad_request(f"the body of the request is not YAML: {error}") from None
    return _with_text_keys(_checked(value, strings=True))


def _with_text_keys(value: Any) -> Any:
    """YAML's keys may be numbers; in JSON they are text."""
    if isinstance(value, dict):
        return {_key(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(item) for item in value]
    return value


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)


class _Composer(Composer):
    """Reads no aliases: nine of them are enough to make a gigabyte of nothing."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.parser.check_event(AliasEvent):
            raise ValueError("aliases are not read: write the value out")
        return super().compose_node(parent, index)


def _checked(value: Any, *, strings: bool) -> Any:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise _too_deep()
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
                if strings:
                    below += item
            elif isinstance(item, list):
                below += item
            elif strings and isinstance(item, str):
                _check_text(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise bad_request(f"{item} cannot be written as JSON")
            elif not isinstance(item, str | int | float | None):
                raise bad_request(f"{type(item).__name__} cannot be written as JSON")
        level = below
    return value


def _check_text(text: str) -> None:
    if "\0" in text:
        raise bad_request("the body of the request has a NUL in a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise bad_request("the body of the request has half a character (a lone surrogate)") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"field {twice!r} is given twice in the same object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def _too_large(limit: int) -> Failure:
    return Failure(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def _too_deep() -> Failure:
    return bad_request(f"the body of the request is nested too deeply: at most {DEEPEST} levels")
