"""POST, PUT and PATCH -> drafts that admission writes, with who owns which fields.

POST    new object            PUT     whole object          PATCH   what the patch makes of the latest
apply patch   what a manager wants, merged with what others have
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
from isthmus.api.meta import Object, Problem
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
from isthmus.server.kube_http import Target, answer, flag, is_dry_run, manager_name, version
from isthmus.server.kube_ownership import as_applied, own, owners_for_apply
from isthmus.server.kube_reads import shown
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
from isthmus.server.status_errors import Failure, bad_request, invalid, not_found, option_invalid
from isthmus.server.translated import with_condition
from isthmus.store.base import MODIFIED, Conflict, Mutate, NotFound, Store, StoreError

_BLIND = "Invalid value: 0: must be specified for an update: read the object, change it, write it back"
_PATCH_TRIES = 5
"""A patch without resourceVersion is made again on the newest state, so many times."""


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
        draft = Draft(obj, "create", finish=self._owned(request, wanted, obj))
        outcome = await self._admit(draft, told, dry_run=dry_run)
        if token and not dry_run:
            document = encode(outcome.object, wanted.api_version) | {"status": {"token": token}}
            return answer(document, code=201, warnings=outcome.warnings)
        return answer(shown(outcome.object, wanted, request), code=201, warnings=outcome.warnings)

    async def replace(self, request: Request, wanted: Target) -> Response:
        """A whole object, or its status, in place of the present one."""
        body = await object_body(request)
        obj, told = decoded(body, wanted, field_validation(request))
        if await self.store.get(wanted.key) is None:
            raise not_found(wanted.key)
        if not obj.meta.resource_version and not wanted.kind.of_kubernetes:
            raise invalid(wanted.key, [Problem("metadata.resourceVersion", _BLIND)])
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
            text = "Forbidden: may not be specified for non-apply patch"
            raise option_invalid(request.method, Problem("force", text))
        patch, level = await json_body(request, OBJECT_LIMIT, types), field_validation(request)

        async def once(before: Object | None) -> Response:
            if before is None:
                raise not_found(wanted.key)
            document = _patched(encode(before, wanted.api_version), patch, given, wanted.kind)
            obj, told = decoded(document, wanted, level, patched=True)
            _check_uid(before, obj.meta.uid)
            if wanted.status:
                return await self._write_status(request, wanted, obj, told)
            return await self._update(request, wanted, obj, told)

        return await self._again(wanted, once, pinned=_pins(patch))

    async def _update(self, request: Request, wanted: Target, obj: Object, told: tuple[str, ...]) -> Response:
        before = await self.store.get(obj.key)
        if before and wanted.kind.kind == "JoinToken" and before.spec != obj.spec:
            raise invalid(obj.key, [Problem("spec", "cannot be changed", "create another token")])
        finish = self._owned(request, wanted, obj)
        draft = Draft(obj, "update", obj.meta.resource_version or None, obj.meta.uid, finish)
        outcome = await self._admit(draft, told, dry_run=is_dry_run(request))
        return answer(shown(outcome.object, wanted, request), warnings=outcome.warnings)

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
            after = _with_status(before, obj.status, rfc3339(self.now()))
            return finish(
                replace(after, meta=replace(after.meta, managed_fields=meta.managed_fields)), before
            )

        if is_dry_run(request):
            return answer(shown(change(await self.store.get(wanted.key)), wanted, request), warnings=told)
        (after,) = await self.store.apply([Mutate(wanted.key, change)])
        assert after is not None
        return answer(shown(after, wanted, request), warnings=told)

    async def _apply(self, request: Request, wanted: Target, body: Any) -> Response:
        """Server-side apply."""
        if not request.query_params.get("fieldManager"):
            problem = Problem("fieldManager", "Required value: is required for apply patch")
            raise option_invalid(request.method, problem)
        # of what is dropped a real API server does not warn here
        refusing = "Strict" if field_validation(request) == "Strict" else "Ignore"
        force = bool(flag(request, "force"))
        config = _configuration(body, wanted)
        manager = self._manager(request, wanted, "Apply")

        async def once(before: Object | None) -> Response:
            if before is None and wanted.status:
                raise not_found(wanted.key)
            _check_uid(before, config["metadata"].get("uid") or "")
            document, owned = self._applied(wanted, before, config, manager, force=force)
            obj, told = decoded(document, wanted, refusing, patched=True, sent=body)
            rows = entries(owned)
            finish = partial(as_applied, rows=rows)
            if wanted.status:
                assert before is not None
                after = _with_status(before, obj.status, rfc3339(self.now()))
                after = as_applied(after, before, rows=rows)
                return await self._put_status(request, wanted, before, after)
            pinned = before.meta.resource_version if before else None
            verb = "update" if before else "create"
            draft = Draft(obj, verb, pinned, finish=finish)  # type: ignore[arg-type]
            outcome = await self._admit(draft, told, dry_run=is_dry_run(request))
            code = 201 if outcome.action == "created" else 200
            whole = shown(outcome.object, wanted, request)
            return answer(whole, code=code, warnings=outcome.warnings)

        return await self._again(wanted, once, pinned=bool(config["metadata"].get("resourceVersion")))

    def _applied(
        self, wanted: Target, before: Object | None, config: dict[str, Any], manager: Manager, *, force: bool
    ) -> tuple[dict[str, Any], Owners]:
        live = encode(before, wanted.api_version) if before else {}
        part = "status" if wanted.status else ""
        asked = version(config["metadata"].get("resourceVersion"))
        if before and asked is not None and asked != before.meta.resource_version:
            raise Conflict(wanted.key, MODIFIED)
        time = rfc3339(self.now())
        try:
            new, owned = applied(
                ownable(live, subresource=part),
                ownable(config, subresource=part),
                owners_for_apply(before, manager=manager, time=time),
                manager=manager,
                time=time,
                shape=shape_of(wanted.kind.kind),
                force=force,
            )
        except ApplyConflict as conflict:
            raise Failure(409, "Conflict", str(conflict), {"causes": conflict.causes()}) from None
        except Unmergeable as error:
            raise invalid(wanted.key, [Problem("", str(error))]) from None
        if part:
            return {**live, **new}, owned
        frame = {"apiVersion": wanted.api_version, "kind": wanted.kind.kind}
        kept = live.get("metadata") or {"name": wanted.name, "namespace": wanted.namespace or ""}
        nobodys = {name: kept[name] for name in kept.keys() - ownable({"metadata": kept}).get("metadata", {})}
        nobodys.pop("managedFields", None)
        nobodys.pop("resourceVersion", None)
        metadata = nobodys | new.get("metadata", {})
        status = {"status": live["status"]} if live.get("status") else {}
        return {**frame, **new, "metadata": metadata, **status}, owned

    async def _put_status(self, request: Request, wanted: Target, before: Object, after: Object) -> Response:
        def change(present: Object | None) -> Object:
            if present is None or present.meta.resource_version != before.meta.resource_version:
                raise Conflict(wanted.key, MODIFIED)
            return after

        if not is_dry_run(request):
            (stored,) = await self.store.apply([Mutate(wanted.key, change)])
            assert stored is not None
            after = stored
        return answer(shown(after, wanted, request))

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

    async def _admit(self, draft: Draft, told: tuple[str, ...], *, dry_run: bool) -> Outcome:
        """What became of the draft; `told` are warnings that come before those about its meaning."""
        if draft.obj.status:
            draft = replace(draft, obj=replace(draft.obj, status={}))
        try:
            (outcome,) = await self.admission.write([draft], dry_run=dry_run)
        except Rejected as rejected:
            problems = [problem for _, problem in rejected.errors]
            raise invalid(draft.obj.key, problems, warnings=told) from None
        outcome = replace(outcome, warnings=(*told, *outcome.warnings))
        if dry_run:
            stands = await self.store.get(draft.obj.key)
            version = stands.meta.resource_version if stands else 0
            meta = replace(outcome.object.meta, resource_version=version)
            return replace(outcome, object=replace(outcome.object, meta=meta))
        return outcome

    def _manager(self, request: Request, wanted: Target, operation: str) -> Manager:
        part = "status" if wanted.status else ""
        name = manager_name(request)
        return Manager(name, "Apply" if operation == "Apply" else "Update", wanted.api_version, part)

    def _owned(
        self, request: Request, wanted: Target, written: Object | None = None
    ) -> Callable[[Object, Object | None], Object]:
        """Gives the fields that an update changes to who makes it."""
        manager = self._manager(request, wanted, "Update")
        return partial(own, manager=manager, time=rfc3339(self.now()), written=written)


def _with_status(before: Object, status: Mapping[str, Any], now: str) -> Object:
    """The object with a client's status, in which what only the server can know stays as it is."""
    names = _SERVERS.get(before.key.kind, frozenset())
    theirs = {name: value for name, value in status.items() if name not in names}
    ours = {name: value for name, value in before.status.items() if name in names}
    return with_condition(replace(before, status=theirs | ours), now)


_SERVERS = {"ServiceEntry": frozenset({"addresses"}), "Namespace": frozenset({"phase"})}
"""Fields of the status that no client writes: virtual addresses, and whether a namespace is being deleted."""


def _check_uid(before: Object | None, uid: str) -> None:
    if uid and before is not None and uid != before.meta.uid:
        text = f"Invalid value: {uid!r:.80}: field is immutable: this object has {before.meta.uid}"
        raise invalid(before.key, [Problem("metadata.uid", text)])


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


def _configuration(body: Any, wanted: Target) -> dict[str, Any]:
    """What a manager wants, with known fields alone; a Failure when it is for another object."""
    if not isinstance(body, dict):
        raise bad_request("the body of the request is not an object")
    for field, expected in (("apiVersion", wanted.api_version), ("kind", wanted.kind.kind)):
        if body.get(field) != expected:
            raise bad_request(f"{field} of an apply patch must be {expected}, is {body.get(field)!r:.60}")
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    if not metadata.get("name"):
        raise bad_request("the configuration has no metadata.name")
    for field, path in (("name", wanted.name), ("namespace", wanted.namespace or "")):
        if metadata.get(field) not in (None, "", path):
            raise bad_request(f"metadata.{field} ({metadata[field]!r:.80}) does not match the URL ({path})")
    if metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    known, _ = without_unknown({**body, "metadata": metadata}, wanted.kind)
    config = {name: value for name, value in known.items() if value is not None}
    if wanted.kind.has_spec and "spec" in config:
        config["spec"] = without_nulls(config["spec"], wanted.kind.spec_model)
    config["metadata"] = {name: value for name, value in metadata.items() if value is not None}
    return config
