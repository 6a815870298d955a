"""Requests in Kubernetes' shape -> reads and writes of the store.

    GET    list, watch, get          POST   create         PUT, PATCH   update, also of /status
    DELETE delete                    POST /apis/isthmus.dev/v1alpha1/apply   many objects, all or nothing

Every answer that is not the one asked for is a `Status`; warnings come in headers.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from isthmus.api.codec import decode, encode
from isthmus.api.meta import Object, Problem
from isthmus.server import join_tokens, kube_discovery, kube_watch
from isthmus.server.admission import Admission, Draft, NamespaceMissing, OnAdmit, Rejected
from isthmus.server.authentication import Authenticate
from isthmus.server.batch import apply_batch
from isthmus.server.join_tokens import MintToken
from isthmus.server.kube_http import (
    OBJECT_LIMIT,
    Target,
    answer,
    is_dry_run,
    json_body,
    merge_patch,
    target,
)
from isthmus.server.selectors import Selects, field_selector, label_selector
from isthmus.server.status_errors import (
    Failure,
    bad_request,
    failure_of,
    invalid,
    method_not_allowed,
    no_such_path,
    not_found,
    unauthorized,
    undecodable,
)
from isthmus.store.base import Conflict, Delete, Store, StoreError, UpdateStatus

_log = logging.getLogger(__name__)
_MERGE_PATCH = "application/merge-patch+json"
_PATCH_TRIES = 5
"""A patch without resourceVersion is made again on the newest state, so many times."""

Handler = Callable[[Request], Awaitable[Response]]


def kube_api(
    store: Store,
    *,
    authenticate: Authenticate,
    on_admit: OnAdmit,
    mint_token: MintToken,
    now: Callable[[], float] = time.time,
) -> list[Route]:
    """The routes of the API. `on_admit` completes objects before they are written."""
    api = _Api(store, Admission(store, on_admit), mint_token, now)

    def known(handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if authenticate(request) is None:
                raise unauthorized()
            return await handler(request)

        return _telling(guarded)

    async def apply(request: Request) -> Response:
        return await apply_batch(api.admission, request)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [
        Route("/version", _telling(_document(lambda _: kube_discovery.version()))),
        *(Route(path, _telling(_fine)) for path in ("/healthz", "/livez", "/readyz")),
        Route("/api", known(_document(lambda _: kube_discovery.core_versions()))),
        Route("/apis", known(_document(lambda _: kube_discovery.groups()))),
        Route("/apis/{group}", known(_document(lambda path: kube_discovery.group(path["group"])))),
        Route("/api/v1", known(_document(lambda _: kube_discovery.resources("", "v1")))),
        Route(
            "/apis/{group}/{version}",
            known(_document(lambda path: kube_discovery.resources(path["group"], path["version"]))),
        ),
        Route("/apis/isthmus.dev/v1alpha1/apply", known(apply), methods=["POST"]),
        Route("/api/v1/{rest:path}", known(api.serve), methods=methods),
        Route("/apis/{group}/{version}/{rest:path}", known(api.serve), methods=methods),
    ]


def _telling(handler: Handler) -> Handler:
    """A handler whose refusals become `Status` documents."""

    async def told(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            failure = _failure(error)
            if failure.code == 500:
                _log.exception("request failed method=%s path=%s", request.method, request.url.path)
        return answer(failure.document(), code=failure.code)

    return told


def _failure(error: Exception) -> Failure:
    match error:
        case Failure():
            return error
        case NamespaceMissing(key=key):
            details = {"name": key.namespace, "kind": "namespaces"}
            return Failure(404, "NotFound", f'namespaces "{key.namespace}" not found', details)
        case StoreError():
            return failure_of(error)
    return Failure(500, "InternalError", "Internal error occurred: see the server's log")


def _document(make: Callable[[Mapping[str, str]], Mapping[str, Any] | None]) -> Handler:
    async def document(request: Request) -> Response:
        found = make(request.path_params)
        if found is None:
            raise no_such_path()
        return answer(found)

    return document


async def _fine(_: Request) -> Response:
    return Response("ok", media_type="text/plain")


@dataclass(frozen=True, slots=True)
class _Api:
    """What a request on a resource does."""

    store: Store
    admission: Admission
    mint_token: MintToken
    now: Callable[[], float]

    async def serve(self, request: Request) -> Response:
        """Answers a request on a kind's objects, or on one of them."""
        group, version = request.path_params.get("group", ""), request.path_params.get("version", "v1")
        wanted = target(group, version, request.path_params["rest"])
        if wanted is None:
            raise no_such_path()
        match request.method, bool(wanted.name), wanted.status:
            case "GET" | "HEAD", False, _:
                return await self._list(request, wanted)
            case "GET" | "HEAD", True, _:
                return answer(encode(await self._found(wanted), wanted.api_version))
            case "POST", False, _:
                return await self._create(request, wanted)
            case "PUT", True, False:
                return await self._replace(request, wanted)
            case "PUT", True, True:
                return await self._replace_status(request, wanted)
            case "PATCH", True, _:
                return await self._patch(request, wanted)
            case "DELETE", True, False:
                return await self._delete(request, wanted)
        raise method_not_allowed(request.method)

    async def _found(self, wanted: Target) -> Object:
        obj = await self.store.get(wanted.key)
        if obj is None:
            raise not_found(wanted.key)
        return obj

    async def _list(self, request: Request, wanted: Target) -> Response:
        query = request.query_params
        selects = _selection(request)
        if query.get("watch", "").lower() in {"true", "1"}:
            lines = kube_watch.watch_lines(
                self.store, wanted, selects, since=_since(request), timeout_s=_timeout(request)
            )
            return StreamingResponse(lines, media_type="application/json;stream=watch")
        objects, revision = await self.store.list(wanted.kind.kind, wanted.namespace)
        return answer(
            {
                "kind": f"{wanted.kind.kind}List",
                "apiVersion": wanted.api_version,
                "metadata": {"resourceVersion": str(revision)},
                "items": [encode(obj, wanted.api_version) for obj in objects if selects(obj)],
            }
        )

    async def _create(self, request: Request, wanted: Target) -> Response:
        if wanted.kind.namespaced and wanted.namespace is None:
            raise method_not_allowed("POST")
        obj = _decoded(_named(await json_body(request, OBJECT_LIMIT)), wanted)
        if obj.meta.resource_version:
            raise bad_request("resourceVersion should not be set on objects to be created")
        dry_run, token = is_dry_run(request), ""
        if wanted.kind.kind == "JoinToken":
            if found := await join_tokens.problems(self.store, obj):
                raise invalid(obj.key, found)
            obj, token = join_tokens.issue(obj, self.mint_token, self.now)
        document, warnings = await self._write(Draft(obj, "create"), wanted, dry_run=dry_run)
        if token and not dry_run:
            document["status"] = {"token": token}
        return answer(document, code=201, warnings=warnings)

    async def _replace(self, request: Request, wanted: Target) -> Response:
        obj = _decoded(await json_body(request, OBJECT_LIMIT), wanted)
        draft = Draft(obj, "update", obj.meta.resource_version or None, obj.meta.uid)
        document, warnings = await self._write(draft, wanted, dry_run=is_dry_run(request))
        return answer(document, warnings=warnings)

    async def _replace_status(self, request: Request, wanted: Target) -> Response:
        obj = _decoded(await json_body(request, OBJECT_LIMIT), wanted)
        return await self._write_status(obj, wanted, dry_run=is_dry_run(request))

    async def _patch(self, request: Request, wanted: Target) -> Response:
        patch = await json_body(request, OBJECT_LIMIT, (_MERGE_PATCH,))
        if not isinstance(patch, dict):
            raise bad_request("a merge patch is an object")
        pinned = bool((patch.get("metadata") or {}).get("resourceVersion"))
        for tries_left in range(_PATCH_TRIES - 1, -1, -1):
            before = await self._found(wanted)
            obj = _decoded(merge_patch(encode(before, wanted.api_version), patch), wanted)
            try:
                if wanted.status:
                    return await self._write_status(obj, wanted, dry_run=is_dry_run(request))
                draft = Draft(obj, "update", obj.meta.resource_version or None, obj.meta.uid)
                document, warnings = await self._write(draft, wanted, dry_run=is_dry_run(request))
                return answer(document, warnings=warnings)
            except Conflict:
                if pinned or not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _write(
        self, draft: Draft, wanted: Target, *, dry_run: bool
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        draft = replace(draft, obj=replace(draft.obj, status={}))
        before = await self.store.get(draft.obj.key) if draft.verb == "update" else None
        if before and wanted.kind.kind == "JoinToken" and before.spec != draft.obj.spec:
            raise invalid(draft.obj.key, [Problem("spec", "cannot be changed", "create another token")])
        try:
            (outcome,) = await self.admission.write([draft], dry_run=dry_run)
        except Rejected as rejected:
            raise invalid(draft.obj.key, [problem for _, problem in rejected.errors]) from None
        return encode(outcome.object, wanted.api_version), outcome.warnings

    async def _write_status(self, obj: Object, wanted: Target, *, dry_run: bool) -> Response:
        write = UpdateStatus(wanted.key, obj.status, obj.meta.resource_version or None, obj.meta.uid)
        if dry_run:
            return answer(encode(replace(await self._found(wanted), status=obj.status), wanted.api_version))
        (after,) = await self.store.apply([write])
        assert after is not None
        return answer(encode(after, wanted.api_version))

    async def _delete(self, request: Request, wanted: Target) -> Response:
        uid, version, dry_run = "", None, is_dry_run(request)
        if request.headers.get("content-length", "0") != "0":
            options = await json_body(request, OBJECT_LIMIT)
            conditions = (options.get("preconditions") or {}) if isinstance(options, dict) else {}
            uid, version = conditions.get("uid") or "", _version(conditions.get("resourceVersion"))
            dry_run = dry_run or (isinstance(options, dict) and options.get("dryRun") == ["All"])
        before = await self._found(wanted)
        if not dry_run:
            await self.store.apply([Delete(wanted.key, version, uid or before.meta.uid)])
        details = {"name": wanted.name, "kind": wanted.kind.plural, "uid": before.meta.uid}
        if wanted.kind.group:
            details["group"] = wanted.kind.group
        return answer(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )


def _named(document: Any) -> Any:
    """The document with a name made from `generateName` where it has no name."""
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or metadata.get("name") or not metadata.get("generateName"):
        return document
    return document | {"metadata": metadata | {"name": f"{metadata['generateName']}{secrets.token_hex(3)}"}}


def _decoded(document: Any, wanted: Target) -> Object:
    """The object in a request's body, which must be the one that the path names."""
    if not isinstance(document, dict):
        raise bad_request("the body of the request is not an object")
    document = {"apiVersion": wanted.api_version, "kind": wanted.kind.kind} | document
    if document["kind"] != wanted.kind.kind or document["apiVersion"] != wanted.api_version:
        raise bad_request(
            f"the API version or kind in the data ({document['apiVersion']}, {document['kind']}) "
            f"does not match the expected ({wanted.api_version}, {wanted.kind.kind})"
        )
    obj, problems = decode(document, default_namespace=wanted.namespace or "")
    if obj is None:
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        raise undecodable(wanted.kind, wanted.name or str(name or ""), problems)
    if wanted.name and obj.key.name != wanted.name:
        raise bad_request(
            f"the name of the object ({obj.key.name}) does not match the name on the URL ({wanted.name})"
        )
    if obj.key.namespace != (wanted.namespace or ""):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return obj


def _selection(request: Request) -> Selects:
    try:
        labels = label_selector(request.query_params.get("labelSelector", ""))
        fields = field_selector(request.query_params.get("fieldSelector", ""))
    except ValueError as error:
        raise bad_request(str(error)) from None
    return lambda obj: labels(obj) and fields(obj)


def _since(request: Request) -> int | None:
    return _version(request.query_params.get("resourceVersion")) or None


def _version(text: Any) -> int | None:
    if text in (None, ""):
        return None
    if not isinstance(text, str) or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_request(f"resourceVersion: Invalid value: {text!r}")
    return int(text)


def _timeout(request: Request) -> float:
    text = request.query_params.get("timeoutSeconds") or "0"
    if not (text.isascii() and text.isdigit()):
        raise bad_request(f"timeoutSeconds: Invalid value: {text!r}")
    return min(float(text), kube_watch.LONGEST_S) or kube_watch.LONGEST_S
