"""DELETE of one object or of many -> writes of the store: gone now, or marked until the finalizers are.

What a client says about a deletion stands in the query, or in a `DeleteOptions` in the body.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from isthmus.api.codec import encode
from isthmus.api.meta import Object, Problem
from isthmus.server.advertised import NAMESPACES
from isthmus.server.kube_bodies import object_body
from isthmus.server.kube_http import Target, answer, asks_dry_run, flag, is_dry_run, version
from isthmus.server.kube_reads import selection, shown
from isthmus.server.status_errors import Failure, bad_request, not_found, option_invalid
from isthmus.store.base import MODIFIED, Conflict, Delete, NotFound, Propagation, Store

_TOLD_WHOLE = frozenset({"Pod", "Service", "ServiceAccount"})
"""Kinds whose deletion Kubernetes answers with the object; of others it tells the name and uid."""


@dataclass(frozen=True, slots=True)
class Deletes:
    """What a request that deletes does."""

    store: Store

    async def one(self, request: Request, wanted: Target) -> Response:
        """Takes an object away, or marks it when it has finalizers."""
        options = await _options(request)
        before = await self.store.get(wanted.key)
        if before is None:
            raise not_found(wanted.key)
        _check_namespaces([before])
        after = None
        if options.dry_run:
            _check(before, options)
        else:
            write = Delete(wanted.key, options.revision, options.uid or before.meta.uid, options.propagation)
            (after,) = await self.store.apply([write])
        if after is not None or wanted.kind.kind in _TOLD_WHOLE:
            return answer(shown(after or before, wanted, request))
        details = {"name": wanted.name, "group": wanted.kind.group, "kind": wanted.kind.plural}
        details = {name: value for name, value in details.items() if value} | {"uid": before.meta.uid}
        return answer(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    async def many(self, request: Request, wanted: Target) -> Response:
        """Takes away what a request selects; what another one deletes meanwhile counts as done."""
        options, selects = await _options(request), selection(request, wanted)
        objects, revision = await self.store.list(wanted.kind.kind, wanted.namespace)
        chosen = [obj for obj in objects if selects(obj)]
        _check_namespaces(chosen)
        for obj in () if options.dry_run else chosen:
            try:
                await self.store.apply([Delete(obj.key, None, obj.meta.uid, options.propagation)])
            except (NotFound, Conflict):
                continue
        return answer(
            {
                "kind": f"{wanted.kind.kind}List",
                "apiVersion": wanted.api_version,
                "metadata": {"resourceVersion": str(revision)},
                "items": [encode(obj, wanted.api_version) for obj in chosen],
            }
        )


@dataclass(frozen=True, slots=True)
class _Options:
    propagation: Propagation
    revision: int | None
    uid: str
    dry_run: bool


async def _options(request: Request) -> _Options:
    given = await _given(request)
    conditions, dry_run = given.get("preconditions") or {}, given.get("dryRun") or []
    if not isinstance(conditions, dict):
        raise bad_request("preconditions is no object")
    if not isinstance(dry_run, list):
        raise bad_request("dryRun is no list")
    if not isinstance(given.get("gracePeriodSeconds") or 0, int):
        raise bad_request("gracePeriodSeconds is no whole number")
    wanted = request.query_params.get("propagationPolicy") or given.get("propagationPolicy") or ""
    orphans = given.get("orphanDependents", flag(request, "orphanDependents"))
    if wanted and orphans is not None:
        text = f"Invalid value: {json.dumps(wanted)[:60]}: give it or orphanDependents, not both"
        raise option_invalid(request.method, Problem("propagationPolicy", text))
    wanted = wanted or ("Orphan" if orphans else "Background")
    if wanted not in ("Background", "Foreground", "Orphan"):
        supported = '"Background", "Foreground", "Orphan"'
        text = f"Unsupported value: {json.dumps(wanted)[:60]}: supported values: {supported}"
        raise option_invalid(request.method, Problem("propagationPolicy", text))
    return _Options(
        wanted,  # type: ignore[arg-type]
        version(conditions.get("resourceVersion")),
        str(conditions.get("uid") or ""),
        is_dry_run(request) or asks_dry_run(request.method, dry_run),
    )


async def _given(request: Request) -> Mapping[str, Any]:
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return {}
    given = await object_body(request)
    if not isinstance(given, dict) or given.get("kind", "DeleteOptions") != "DeleteOptions":
        raise bad_request("the body of the request is no DeleteOptions")
    return given


def _check_namespaces(objects: Sequence[Object]) -> None:
    """Refuses what takes a namespace away that the mesh stands on."""
    for obj in objects:
        if obj.key.kind == "Namespace" and obj.key.name in NAMESPACES:
            text = f'namespaces "{obj.key.name}" is forbidden: this namespace may not be deleted'
            raise Failure(403, "Forbidden", text, {"name": obj.key.name, "kind": "namespaces"})


def _check(obj: Object, options: _Options) -> None:
    if options.uid and options.uid != obj.meta.uid:
        raise Conflict(obj.key, f"its uid is {obj.meta.uid}, not {options.uid}")
    if options.revision is not None and options.revision != obj.meta.resource_version:
        raise Conflict(obj.key, MODIFIED)
