"""Objects that clients want written -> what stands in the store afterwards, all or nothing.

    drafts ─▶ defaults ─▶ validate ─▶ namespaces exist ─▶ virtual addresses ─▶ one transaction ─▶ outcomes
                 └──────────────┴── every problem of every draft, nothing written

Preconditions (namespace still there, resourceVersion still that) are checked inside the transaction.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from isthmus.api.defaults import born, defaulted
from isthmus.api.meta import Key, Object, Problem
from isthmus.api.support import untranslated
from isthmus.api.validate import validate
from isthmus.api.validation.core import changed
from isthmus.clock import rfc3339
from isthmus.server.translated import with_condition
from isthmus.server.vips import Addresses
from isthmus.store.base import MODIFIED, AlreadyExists, Conflict, Mutate, NotFound, Store, StoreError, Write

Foresee = Callable[[Sequence[Object]], Mapping[Key, Sequence[Problem]]]
"""What would be wrong between these objects and all others, if they stood: told as warnings."""

Finish = Callable[[Object, Object | None], Object]
"""The object as it is stored, from the admitted one and what stood before: who owns which fields, say."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An object as a client wants it."""

    obj: Object
    verb: Literal["create", "update", "apply"]
    """create: must be new; update: must exist; apply: either."""
    resource_version: int | None = None
    uid: str = ""
    finish: Finish = field(default=lambda obj, _: obj)
    """Runs inside the transaction: pure and quick."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a draft."""

    object: Object
    action: Literal["created", "configured", "unchanged"]
    warnings: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Rejected(Exception):
    """Nothing was written: these are the problems, each with the index of its draft."""

    errors: Sequence[tuple[int, Problem]]


class NamespaceMissing(StoreError):
    """The namespace of an object does not exist."""

    def __init__(self, key: Key) -> None:
        super().__init__(f'namespace "{key.namespace}" of {key} does not exist')
        self.key = key


class NamespaceEnds(StoreError):
    """The namespace of an object is being deleted: nothing new comes into it."""

    def __init__(self, key: Key) -> None:
        super().__init__(f'namespace "{key.namespace}" of {key} is being deleted')
        self.key = key


class FinalizersSettled(StoreError):
    """An object that is being deleted takes no new finalizers."""

    def __init__(self, key: Key, added: Sequence[str]) -> None:
        super().__init__(f"{key} is being deleted: no new finalizers can be added: {', '.join(added)}")
        self.key = key


class _DryRun(Exception):
    """Ends a transaction that was only to be tried."""


@dataclass(slots=True)
class _Seen:
    """What the transaction saw of one draft."""

    before: Object | None = None
    made: Object | None = None
    """What was to be stored; it is not when its last finalizer went."""
    after: Object | None = None


@dataclass(slots=True)
class Admission:
    """The one way by which clients' objects come into the store."""

    store: Store
    now: Callable[[], str] = rfc3339
    foresee: Foresee = lambda _: {}
    _addresses: Addresses = field(init=False)

    def __post_init__(self) -> None:
        self._addresses = Addresses(self.store)

    async def write(self, drafts: Sequence[Draft], *, dry_run: bool = False) -> list[Outcome]:
        """Writes all drafts or none; Rejected with all problems, or the store's refusal."""
        drafts = [_whole(draft) for draft in drafts]
        found = await self.problems(drafts)
        errors = [
            (index, problem)
            for index, problems in enumerate(found)
            for problem in problems
            if problem.severity == "error"
        ]
        if errors:
            raise Rejected(errors)
        foreseen = self.foresee([draft.obj for draft in drafts])
        warnings = [
            tuple(map(str, (*problems, *foreseen.get(draft.obj.key, ()))))
            for draft, problems in zip(drafts, found, strict=True)
        ]
        async with self._addresses.given([draft.obj for draft in drafts]) as admitted:
            seen = await self._write(drafts, admitted, dry_run=dry_run)
        return [_outcome(one, told) for one, told in zip(seen, warnings, strict=True)]

    async def _write(
        self, drafts: Sequence[Draft], admitted: Sequence[Object], *, dry_run: bool
    ) -> list[_Seen]:
        seen = [_Seen() for _ in drafts]
        writes = _guards(drafts)
        for index, (draft, obj) in enumerate(zip(drafts, admitted, strict=True)):
            writes += [_judge(index, obj), *_put(draft, obj, seen[index], self.now())]
        if dry_run:
            writes.append(Mutate(drafts[-1].obj.key, _abort))
        try:
            await self.store.apply(writes)
        except _DryRun:
            pass
        return seen

    async def problems(
        self, drafts: Sequence[Draft], *, promised: Collection[str] = ()
    ) -> list[list[Problem]]:
        """The problems of each draft, warnings too. `promised` are namespaces that count as existing."""
        namespaces = {draft.obj.key.name for draft in drafts if draft.obj.key.kind == "Namespace"}
        namespaces.update(promised)
        found = []
        first: dict[Key, int] = {}
        for index, draft in enumerate(drafts):
            key = draft.obj.key
            problems = [*validate(draft.obj), *untranslated(draft.obj)]
            if key.namespace and key.namespace not in namespaces:
                problems += await self._homeless(key, alone=len(drafts) == 1 and draft.verb != "apply")
            if first.setdefault(key, index) != index:
                problems.append(
                    Problem("metadata.name", f"{key} is given more than once", "keep one of them")
                )
            found.append(problems)
        return found

    async def _homeless(self, key: Key, *, alone: bool) -> list[Problem]:
        if await self.store.get(Key("Namespace", "", key.namespace)) is not None:
            return []
        if alone:
            raise NamespaceMissing(key)
        hint = f"create the Namespace {key.namespace} first, or in the same apply"
        return [Problem("metadata.namespace", f"namespace {key.namespace} does not exist", hint)]


def _whole(draft: Draft) -> Draft:
    obj = defaulted(draft.obj)
    return draft if obj is draft.obj else replace(draft, obj=obj)


def _guards(drafts: Sequence[Draft]) -> list[Write]:
    """Checks, inside the transaction, that no namespace went away since it was looked for."""
    made = {draft.obj.key.name for draft in drafts if draft.obj.key.kind == "Namespace"}
    needed = {
        draft.obj.key.namespace: draft for draft in drafts if draft.obj.key.namespace not in {"", *made}
    }

    def guard(draft: Draft) -> Mutate:
        def check(namespace: Object | None) -> Object:
            if namespace is None:
                raise NamespaceMissing(draft.obj.key)
            if namespace.meta.deletion_timestamp and draft.verb == "create":
                raise NamespaceEnds(draft.obj.key)
            return namespace

        return Mutate(Key("Namespace", "", draft.obj.key.namespace), check)

    return [guard(needed[name]) for name in sorted(needed)]


def _judge(index: int, obj: Object) -> Mutate:
    """Checks, inside the transaction, that nothing is changed that may not be."""

    def check(before: Object | None) -> Object | None:
        if before and (problems := [*changed(before.spec, obj.spec)]):
            raise Rejected([(index, problem) for problem in problems])
        return before

    return Mutate(obj.key, check)


def _put(draft: Draft, obj: Object, seen: _Seen, now: str) -> list[Write]:
    def change(before: Object | None) -> Object:
        seen.before = before
        _expect(draft, before)
        whole = replace(obj, status={**before.status, **obj.status}) if before else born(obj)
        seen.made = draft.finish(with_condition(whole, now), before)
        return seen.made

    def look(after: Object | None) -> Object | None:
        # the object with its metadata as it would be stored, also when the transaction is only tried
        seen.after = after
        return after

    return [Mutate(obj.key, change), Mutate(obj.key, look)]


def _expect(draft: Draft, before: Object | None) -> None:
    key = draft.obj.key
    if before is None:
        if draft.verb == "update":
            raise NotFound(key)
        return
    if draft.verb == "create":
        raise AlreadyExists(key)
    if draft.uid and draft.uid != before.meta.uid:
        raise Conflict(key, f"its uid is {before.meta.uid}, not {draft.uid}: it was deleted and made again")
    if draft.resource_version is not None and draft.resource_version != before.meta.resource_version:
        raise Conflict(key, MODIFIED)
    added = [word for word in draft.obj.meta.finalizers if word not in before.meta.finalizers]
    if added and before.meta.deletion_timestamp:
        raise FinalizersSettled(key, added)


def _abort(_: Object | None) -> Object | None:
    raise _DryRun


def _outcome(seen: _Seen, warnings: tuple[str, ...]) -> Outcome:
    if seen.before is None:
        assert seen.after is not None, "the transaction looked at every draft"
        return Outcome(seen.after, "created", warnings)
    if seen.after is None:
        # its last finalizer was taken away
        assert seen.made is not None, "the transaction made every draft"
        made = seen.made.meta
        meta = replace(seen.before.meta, finalizers=made.finalizers, managed_fields=made.managed_fields)
        return Outcome(replace(seen.made, meta=meta), "configured", warnings)
    same = seen.before.meta.resource_version == seen.after.meta.resource_version
    return Outcome(seen.after, "unchanged" if same else "configured", warnings)
