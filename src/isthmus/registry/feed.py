"""Store -> engine: every object once, then every change, in batches.

    start   list all kinds ----------------------------------> one commit
    run     watch --> pending changes --(at once when idle, then every 20 ms,
                                         or as the last one's work allows)---> commits

What an object is to the engine, `registry.inputs` says. Of an object that is set aside the engine has what it
was before its latest change, until it changes again.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from isthmus.api.codec import facts
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Fact, Key, Object
from isthmus.clock import backoff, rest_s
from isthmus.engine import Engine, Reader
from isthmus.registry.inputs import Members, in_force, inputs_of, is_noise
from isthmus.store.base import Event, Expired, Store, StoreError

T = TypeVar("T")

SPACING_S = 0.02
"""From one commit to the next under load: changes in between are merged."""
SHARE = 0.25
"""Of the time, at most, for what one commit after the other makes the engine compute."""

_FOR_PEOPLE = frozenset({"Event"})
"""Kinds that configure nothing: what happens to them is nothing to the engine."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Committed:
    """An object as the engine has it: which generation, since which of its revisions."""

    uid: str
    generation: int
    revision: int


class Feed:
    """Keeps one engine equal to one store. `programmed`: the objects that proxies are configured from."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        *,
        on_commit: Callable[[Collection[Key]], None] = lambda _: None,
        spent_s: Callable[[], float] = lambda: 0.0,
        constants: Mapping[tuple[Hashable, ...], Any] | None = None,
        separable: Collection[str] = (),
    ) -> None:
        """`on_commit` hears which objects that proxies are configured from came, changed or went.

        `spent_s` tells how long, so far, what was committed has kept the engine busy. Of the `separable`
        kinds it is known what an object was before it changed.
        """
        self.programmed: dict[Key, Committed] = {}
        self._store = store
        self._engine = engine
        self._on_commit = on_commit
        self._spent_s = spent_s
        self._constants = dict(constants or {})
        self._separable = separable
        self._facts: dict[Key, Fact] = {}
        self._before: dict[Key, Fact] = {}
        """What an object was before its latest change, or before it was set aside."""
        self._aside: set[Key] = set()
        self._members = Members()
        self._listed: dict[str, int] = {}
        self._pending: dict[Key, Object | None] = {}
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Brings in everything there is, in one commit. Call it once, before `run`."""
        await self._list_all()
        self._commit()

    async def run(self) -> None:
        """Brings in every change, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._commit_batches())

    def foresee(self, objects: Sequence[Object], ask: Callable[[Reader], T]) -> T:
        """What `ask` would find if these objects stood, too; afterwards the engine is as it was.

        It costs the queries that read them, twice. No stream hears of it.
        """
        new = [obj.key for obj in objects if obj.key not in self._members]
        for key in new:
            self._members.add(key)
        inputs = dict(pair for obj in objects for pair in inputs_of(obj.key, obj))
        inputs.update(self._members.changes())
        try:
            return self._as_if(inputs, ask)
        finally:
            for key in new:
                self._members.remove(key)
            tuple(self._members.changes())  # nobody is to hear of these

    def without(self, keys: Collection[Key], ask: Callable[[Reader], T], *, bare: bool) -> T:
        """What `ask` would find without the latest change of these objects, or (`bare`) without them."""
        gone = [key for key in keys if bare or key not in self._before]
        for key in gone:
            self._members.remove(key)
        inputs: dict[tuple[Hashable, ...], Any] = {
            ("fact", *_where(key)): None if bare else self._before.get(key) for key in keys
        }
        inputs.update(self._members.changes())
        try:
            return self._as_if(inputs, ask)
        finally:
            for key in gone:
                self._members.add(key)
            tuple(self._members.changes())

    def set_aside(self, keys: Collection[Key], *, bare: bool) -> Mapping[Key, Fact | None]:
        """Does without the latest change of these objects until they change again, or (`bare`) without them.

        Gives what each was before, which stands in for it.
        """
        self._aside.update(keys)
        inputs: dict[tuple[Hashable, ...], Any] = {}
        for key in keys:
            if bare:
                self._before.pop(key, None)
            before = inputs["fact", *_where(key)] = self._before.get(key)
            if before is None:
                self._members.remove(key)
        inputs.update(self._members.changes())
        self._engine.commit(inputs)
        self._on_commit(tuple(keys))
        return {key: self._before.get(key) for key in keys}

    def newest_first(self, keys: Iterable[Key]) -> Sequence[Key]:
        """Those of the objects that are not set aside, by when they last changed, if at all."""
        standing = [key for key in keys if key in self.programmed and key not in self._aside]
        return sorted(
            standing, key=lambda key: (self.programmed[key].revision, key in self._before), reverse=True
        )

    def _as_if(self, inputs: Mapping[tuple[Hashable, ...], Any], ask: Callable[[Reader], T]) -> T:
        before = {args: self._engine.input(*args) for args in inputs}
        self._engine.commit(inputs)
        try:
            return ask(self._engine)
        finally:
            self._engine.commit(before)

    async def _watch(self) -> None:
        waits = backoff(0.1, 5.0)
        whole = True
        while True:
            try:
                if not whole:
                    await self._list_all()
                    self._wake.set()
                async for event in self._store.watch(None, min(self._listed.values(), default=0)):
                    self._take(event)
                    waits = backoff(0.1, 5.0)
            except Expired as error:
                _log.warning("watch expired, listing again: %s", error)
            except StoreError as error:
                _log.warning("watch ended, trying again: %s", error)
            whole = False
            await asyncio.sleep(next(waits))

    async def _commit_batches(self) -> None:
        time = asyncio.get_running_loop().time
        while True:
            await self._wake.wait()
            self._wake.clear()
            began, spent = time(), self._spent_s()
            if not self._commit():
                continue  # noise (our own status writes) must not make the next change wait
            rest = SPACING_S
            while rest > 0:
                await asyncio.sleep(rest)
                took = self._spent_s() - spent
                rest = took + rest_s(took, SHARE) - (time() - began)

    async def _list_all(self) -> None:
        present: set[Key] = set()
        for kind in KINDS:
            objects, revision = await self._store.list(kind)
            self._listed[kind] = revision
            if kind in _FOR_PEOPLE:
                continue
            self._pending.update({obj.key: obj for obj in objects})
            present.update(obj.key for obj in objects)
        self._pending.update(dict.fromkeys(self._facts.keys() - present))

    def _take(self, event: Event) -> None:
        key = event.object.key
        if event.revision <= self._listed.get(key.kind, 0):
            return  # already in what was listed, perhaps in a newer state
        self._listed[key.kind] = event.revision
        if key.kind in _FOR_PEOPLE:
            return
        if event.type == "MODIFIED" and event.before is not None and is_noise(event.before, event.object):
            return
        self._pending[key] = None if event.type == "DELETED" else event.object
        self._wake.set()

    def _commit(self) -> bool:
        """Commits what is pending, in one revision; nothing when it is only noise (our own status)."""
        pending, self._pending = self._pending, {}
        inputs: dict[tuple[Hashable, ...], Any] = dict(self._constants)
        self._constants.clear()
        changed: dict[Key, Object] = {}
        gone: list[Key] = []
        for key, obj in pending.items():
            if obj is None:
                inputs.update(inputs_of(key, None))
                if self._forget(key):
                    gone.append(key)
                continue
            known, fact = self.programmed.get(key), facts(obj)
            told = known is not None and (known.uid, known.generation) == (obj.meta.uid, obj.meta.generation)
            same = told and fact == self._facts.get(key)
            if same and key in self._aside:
                continue
            inputs.update(inputs_of(key, obj))
            self._members.add(key)
            if KINDS[key.kind].programmed and not same:
                changed[key] = obj
                self._remember(key, obj)
            self._facts[key] = fact
        inputs.update(self._members.changes())
        news = {args: value for args, value in inputs.items() if self._engine.input(*args) != value}
        if not news and not changed and not gone:
            return False
        revision = self._engine.commit(news)
        for key, obj in changed.items():
            self.programmed[key] = Committed(obj.meta.uid, obj.meta.generation, revision)
        self._on_commit((*changed, *gone))
        return True

    def _remember(self, key: Key, changed: Object) -> None:
        """Keeps what an object was until now, should its change have to be set aside."""
        known = self.programmed.get(key)
        if known is None or known.uid != changed.meta.uid:
            self._before.pop(key, None)
            stood = in_force(changed) if key.kind in self._separable else None
            if stood is not None:
                self._before[key] = stood
        elif key.kind in self._separable and key not in self._aside:
            self._before[key] = self._facts[key]
        self._aside.discard(key)

    def _forget(self, key: Key) -> bool:
        """Whether proxies were configured from what is gone."""
        self._before.pop(key, None)
        self._aside.discard(key)
        if self._facts.pop(key, None) is None:
            return False
        self._members.remove(key)
        return self.programmed.pop(key, None) is not None


def _where(key: Key) -> tuple[str, str, str]:
    return key.kind, key.namespace, key.name
