"""POST, PUT, PATCH and DELETE -> drafts that admission writes, with who owns which fields.

POST    new object            PUT     whole object          PATCH   what the patch makes of the latest
apply patch   what a manager wants, merged with what others have      DELETE   now, or marked as deleted
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from isthmus.api.codec import encode
from isthmus.api.fields import without_nulls
from isthmus.api.kinds import Kind
from isthmus.api.meta import Key, Object, Problem
from isthmus.api.text import text
from isthmus.api.unknown import without_unknown
from isthmus.clock import rfc3339
from isthmus.server import join_tokens
from isthmus.server.admission import Admission, Draft, Outcome, Rejected
from isthmus.server.fieldsets import Unmergeable
from isthmus.server.join_tokens import MintToken
from isthmus.server.kube_bodies import (
    APPLY_PATCH,
    JSON_PATCH,
    OBJECT_LIMIT,
    STRATEGIC_PATCH,
    json_body,
    media_type,
    object_body,
    patch_types,
    yaml_body,
)
from isthmus.server.kube_documents import decoded, field_validation, named
from isthmus.server.kube_http import Target, answer, asks_dry_run, flag, is_dry_run, manager_name, version
from isthmus.server.kube_ownership import own, owners_of, with_rows
from isthmus.server.kube_reads import selection
from isthmus.server.managed_fields import (
    ApplyConflict,
    Manager,
    Owners,
    applied,
    entries,
    ownable,
)
from isthmus.server.merge_shapes import shape_of
from isthmus.server.patching import Inapplicable, Unpatchable, json_patch, merge_patch, strategic_merge
from isthmus.server.status_errors import Failure, bad_request, cause, field_invalid, invalid, not_found
from isthmus.store.base import (
    MODIFIED,
    Conflict,
    Delete,
    Mutate,
    NotFound,
    Propagation,
    Store,
    StoreError,
)

_PATCH_TRIES = 5
"""A patch without resourceVersion is made again on the newest state, so many times."""

_TOLD_WHOLE = frozenset({"Pod", "Service", "ServiceAccount"})
"""Kinds whose deletion Kubernetes answers with the object; of others it tells the name and uid."""


@dataclass(frozen=True, slots=True)
class Writes:
    """What a request that changes something does."""

    store: Store
    admission: Admission
    mint_token: MintToken
    now: Callable[[], float]

    async def create(self, request: Request, wanted: Target) -> Response:
        """A new object."""
        body = named(await object_body(request))
        obj, told = decoded(body, wanted, field_validation(request))
        if obj.meta.resource_version:
            raise bad_request("resourceVersion should not be set on objects to be created")
        dry_run, token = is_dry_run(request), ""
        if wanted.kind.kind == "JoinToken":
            if found := await join_tokens.problems(self.store, obj):
                raise invalid(obj.key, found)
            obj, token = join_tokens.issue(obj, self.mint_token, self.now)
        outcome = await self._admit(
            Draft(obj, "create", finish=self._owned(request, wanted)), dry_run=dry_run
        )
        warnings = (*told, *outcome.warnings)
        if token and not dry_run:
            document = encode(outcome.object, wanted.api_version) | {"status": {"token": token}}
            return answer(document, code=201, warnings=warnings)
        return answer(text(outcome.object, wanted.api_version), code=201, warnings=warnings)

    async def replace(self, request: Request, wanted: Target) -> Response:
        """A whole object, or its status, in place of the present one."""
        body = await object_body(request)
        obj, told = decoded(body, wanted, field_validation(request))
        if wanted.status:
            return await self._write_status(request, wanted, obj, told)
        return await self._update(request, wanted, obj, told)

    async def patch(self, request: Request, wanted: Target) -> Response:
        """What a patch makes of the present object, or of its status."""
        types = patch_types(wanted.kind)
        if "content-type" not in request.headers:
            raise bad_request("a patch says in Content-Type what it is")
        given = media_type(request, types)
        if given == APPLY_PATCH:
            return await self._apply(request, wanted, await yaml_body(request))
        if flag(request, "force") is not None:
            raise field_invalid("force", "Forbidden: may not be specified for non-apply patch")
        patch, level = await json_body(request, OBJECT_LIMIT, types), field_validation(request)

        async def once(before: Object | None) -> Response:
            if before is None:
                raise not_found(wanted.key)
            document = _patched(encode(before, wanted.api_version), patch, given, wanted.kind)
            obj, told = decoded(document, wanted, level)
            if wanted.status:
                return await self._write_status(request, wanted, obj, told)
            return await self._update(request, wanted, obj, told)

        return await self._again(wanted, once, pinned=_pins(patch))

    async def delete(self, request: Request, wanted: Target) -> Response:
        """Takes an object away, or marks it when it has finalizers."""
        options = await _delete_options(request)
        before = await self.store.get(wanted.key)
        if before is None:
            raise not_found(wanted.key)
        after = None
        if options.dry_run:
            _check(before, options)
        else:
            write = Delete(wanted.key, options.revision, options.uid or before.meta.uid, options.propagation)
            (after,) = await self.store.apply([write])
        if after is not None or wanted.kind.kind in _TOLD_WHOLE:
            return answer(text(after or before, wanted.api_version))
        details = {"name": wanted.name, "group": wanted.kind.group, "kind": wanted.kind.plural}
        details = {name: value for name, value in details.items() if value} | {"uid": before.meta.uid}
        return answer(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    async def delete_many(self, request: Request, wanted: Target) -> Response:
        """Takes away what a request selects; what another one deletes meanwhile counts as done."""
        options, selects = await _delete_options(request), selection(request, wanted)
        objects, revision = await self.store.list(wanted.kind.kind, wanted.namespace)
        chosen = [obj for obj in objects if selects(obj)]
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

    async def _update(self, request: Request, wanted: Target, obj: Object, told: tuple[str, ...]) -> Response:
        before = await self.store.get(obj.key)
        if before and wanted.kind.kind == "JoinToken" and before.spec != obj.spec:
            raise invalid(obj.key, [Problem("spec", "cannot be changed", "create another token")])
        finish = self._owned(request, wanted)
        draft = Draft(obj, "update", obj.meta.resource_version or None, obj.meta.uid, finish)
        outcome = await self._admit(draft, dry_run=is_dry_run(request))
        return answer(text(outcome.object, wanted.api_version), warnings=(*told, *outcome.warnings))

    async def _write_status(
        self, request: Request, wanted: Target, obj: Object, told: tuple[str, ...] = ()
    ) -> Response:
        finish = self._owned(request, wanted)
        meta = obj.meta

        def change(before: Object | None) -> Object:
            if before is None:
                raise NotFound(wanted.key)
            if meta.uid and meta.uid != before.meta.uid:
                raise Conflict(wanted.key, f"its uid is {before.meta.uid}, not {meta.uid}")
            if meta.resource_version and meta.resource_version != before.meta.resource_version:
                raise Conflict(wanted.key, MODIFIED)
            after = replace(before, status=obj.status)
            return finish(
                replace(after, meta=replace(after.meta, managed_fields=meta.managed_fields)), before
            )

        if is_dry_run(request):
            return answer(encode(change(await self.store.get(wanted.key)), wanted.api_version), warnings=told)
        (after,) = await self.store.apply([Mutate(wanted.key, change)])
        assert after is not None
        return answer(text(after, wanted.api_version), warnings=told)

    async def _apply(self, request: Request, wanted: Target, body: Any) -> Response:
        """Server-side apply."""
        if not request.query_params.get("fieldManager"):
            raise field_invalid("fieldManager", "Required value: is required for apply patch")
        level, force = field_validation(request), bool(flag(request, "force"))
        config = _configuration(body, wanted, level)
        manager = self._manager(request, wanted, "Apply")

        async def once(before: Object | None) -> Response:
            if before is None and (wanted.status or (config["metadata"].get("resourceVersion"))):
                raise not_found(wanted.key)
            document, owned = self._applied(wanted, before, config, manager, force=force)
            obj, told = decoded(document, wanted, level)
            rows = entries(owned)
            finish = partial(with_rows, rows=rows)
            if wanted.status:
                assert before is not None
                after = with_rows(replace(before, status=obj.status), None, rows=rows)
                return await self._put_status(request, wanted, before, after)
            pinned = before.meta.resource_version if before else None
            verb = "update" if before else "create"
            draft = Draft(obj, verb, pinned, finish=finish)  # type: ignore[arg-type]
            outcome = await self._admit(draft, dry_run=is_dry_run(request))
            code = 201 if outcome.action == "created" else 200
            shown = text(outcome.object, wanted.api_version)
            return answer(shown, code=code, warnings=(*told, *outcome.warnings))

        return await self._again(wanted, once, pinned=bool(config["metadata"].get("resourceVersion")))

    def _applied(
        self, wanted: Target, before: Object | None, config: dict[str, Any], manager: Manager, *, force: bool
    ) -> tuple[dict[str, Any], Owners]:
        live = encode(before, wanted.api_version) if before else {}
        part = "status" if wanted.status else ""
        asked = version(config["metadata"].get("resourceVersion"))
        if before and asked is not None and asked != before.meta.resource_version:
            raise Conflict(wanted.key, MODIFIED)
        try:
            new, owned = applied(
                ownable(live, subresource=part),
                ownable(config, subresource=part),
                owners_of(before),
                manager=manager,
                time=rfc3339(self.now()),
                shape=shape_of(wanted.kind.kind),
                force=force,
            )
        except ApplyConflict as conflict:
            raise Failure(409, "Conflict", str(conflict), {"causes": conflict.causes()}) from None
        except Unmergeable as error:
            raise invalid(wanted.key, [Problem("", str(error))]) from None
        if part:
            return {**live, **new}, owned
        kept = live.get("metadata") or {"name": wanted.name, "namespace": wanted.namespace or ""}
        nobodys = {name: kept[name] for name in kept.keys() - ownable({"metadata": kept}).get("metadata", {})}
        nobodys.pop("managedFields", None)
        nobodys.pop("resourceVersion", None)
        metadata = nobodys | new.get("metadata", {})
        status = {"status": live["status"]} if live.get("status") else {}
        return {**new, "metadata": metadata, **status}, owned

    async def _put_status(self, request: Request, wanted: Target, before: Object, after: Object) -> Response:
        def change(present: Object | None) -> Object:
            if present is None or present.meta.resource_version != before.meta.resource_version:
                raise Conflict(wanted.key, MODIFIED)
            return after

        if not is_dry_run(request):
            (stored,) = await self.store.apply([Mutate(wanted.key, change)])
            assert stored is not None
            after = stored
        return answer(text(after, wanted.api_version))

    async def _again(self, wanted: Target, once: Callable[[Object | None], Any], *, pinned: bool) -> Response:
        """Works on the latest state; when that changes meanwhile, on the next one."""
        for tries_left in range(_PATCH_TRIES - 1, -1, -1):
            try:
                found: Response = await once(await self.store.get(wanted.key))
                return found
            except StoreError as error:
                if pinned or not tries_left or not isinstance(error, Conflict):
                    raise
        raise AssertionError("the last try returns or raises")

    async def _admit(self, draft: Draft, *, dry_run: bool) -> Outcome:
        draft = replace(draft, obj=replace(draft.obj, status={}))
        try:
            (outcome,) = await self.admission.write([draft], dry_run=dry_run)
        except Rejected as rejected:
            raise invalid(draft.obj.key, [problem for _, problem in rejected.errors]) from None
        return outcome

    def _manager(self, request: Request, wanted: Target, operation: str) -> Manager:
        part = "status" if wanted.status else ""
        name = manager_name(request)
        return Manager(name, "Apply" if operation == "Apply" else "Update", wanted.api_version, part)

    def _owned(self, request: Request, wanted: Target) -> Callable[[Object, Object | None], Object]:
        """Gives the fields that an update changes to who makes it."""
        manager = self._manager(request, wanted, "Update")
        return partial(own, manager=manager, time=rfc3339(self.now()))


def _patched(document: dict[str, Any], patch: Any, given: str, kind: Kind) -> Any:
    if given != JSON_PATCH and not isinstance(patch, dict):
        raise bad_request("a merge patch is an object")
    try:
        if given == JSON_PATCH:
            return json_patch(document, patch)
        if given == STRATEGIC_PATCH:
            return strategic_merge(document, patch, shape_of(kind.kind))
        return merge_patch(document, patch)
    except Unpatchable as error:
        raise bad_request(f"error decoding patch: {error}") from None
    except Inapplicable as error:
        text = f"the server rejected our request due to an error in our request: {error}"
        raise Failure(422, "Invalid", text) from None


def _pins(patch: Any) -> bool:
    metadata = patch.get("metadata") if isinstance(patch, dict) else None
    return isinstance(metadata, dict) and bool(metadata.get("resourceVersion"))


def _configuration(body: Any, wanted: Target, level: str) -> dict[str, Any]:
    """What a manager wants, with known fields alone; a Failure when it is for another object."""
    if not isinstance(body, dict):
        raise bad_request("the body of the request is not an object")
    for field, expected in (("apiVersion", wanted.api_version), ("kind", wanted.kind.kind)):
        if body.get(field) != expected:
            raise bad_request(f"{field} of an apply patch must be {expected}, is {body.get(field)!r:.60}")
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    for field, path in (("name", wanted.name), ("namespace", wanted.namespace or "")):
        if metadata.get(field) not in (None, "", path):
            raise bad_request(f"metadata.{field} ({metadata[field]!r:.80}) does not match the URL ({path})")
    if metadata.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    known, unknown = without_unknown({**body, "metadata": metadata}, wanted.kind)
    if unknown and level == "Strict":
        told = ", ".join(f'unknown field "{path}"' for path in unknown)
        causes = [cause(Problem(path, "unknown field")) for path in unknown]
        details = {"name": wanted.name, "kind": wanted.kind.kind, "causes": causes}
        raise Failure(400, "BadRequest", f"strict decoding error: {told}", details)
    config = {name: value for name, value in known.items() if value is not None}
    if wanted.kind.has_spec and "spec" in config:
        config["spec"] = without_nulls(config["spec"], wanted.kind.spec_model)
    config["metadata"] = {name: value for name, value in metadata.items() if value is not None}
    return config


@dataclass(frozen=True, slots=True)
class _DeleteOptions:
    propagation: Propagation
    revision: int | None
    uid: str
    dry_run: bool


async def _delete_options(request: Request) -> _DeleteOptions:
    """What a client says about a deletion, in the query or in the body."""
    given: Mapping[str, Any] = {}
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body:
        found = await object_body(request)
        if not isinstance(found, dict):
            raise bad_request("the body of the request is no DeleteOptions")
        given = found
    conditions = given.get("preconditions") or {}
    if not isinstance(conditions, dict):
        raise bad_request("preconditions is no object")
    dry_run = given.get("dryRun") or []
    if not isinstance(dry_run, list):
        raise bad_request("dryRun is no list")
    wanted = request.query_params.get("propagationPolicy") or given.get("propagationPolicy") or ""
    if not wanted and (given.get("orphanDependents") or flag(request, "orphanDependents")):
        wanted = "Orphan"
    if not isinstance(wanted, str) or wanted not in {"", "Background", "Foreground", "Orphan"}:
        supported = '"Background", "Foreground", "Orphan"'
        text = f'Unsupported value: "{str(wanted)[:40]}": supported values: {supported}'
        raise field_invalid("propagationPolicy", text)
    uid = conditions.get("uid") or ""
    return _DeleteOptions(
        wanted or "Background",  # type: ignore[arg-type]
        version(conditions.get("resourceVersion")),
        str(uid),
        is_dry_run(request) or asks_dry_run(dry_run),
    )


def _check(obj: Object, options: _DeleteOptions) -> None:
    key: Key = obj.key
    if options.uid and options.uid != obj.meta.uid:
        raise Conflict(key, f"its uid is {obj.meta.uid}, not {options.uid}")
    if options.revision is not None and options.revision != obj.meta.resource_version:
        raise Conflict(key, MODIFIED)
