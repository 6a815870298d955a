"""Verdicts of the fleet -> conditions in the store.

    a commit, an answer ─▶ the verdicts that changed ─▶ a transaction, each against its object's latest state
                               └── incomplete (answers or analysis outstanding): only after a second
    others' writes of a status ─▶ what was said, in the same way                               (said)

Both mostly come within milliseconds, and then one write tells it. While one transaction is written, and
as long again, further verdicts gather: however many there are, clients' writes have half of the store.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from isthmus.api.codec import encode_spec
from isthmus.api.meta import Key, Object
from isthmus.clock import backoff, rfc3339
from isthmus.server.said import Memory, Said
from isthmus.store.base import Mutate, Store, StoreError
from isthmus.xds.fleet import Fleet
from isthmus.xds.verdicts import Condition, Verdict, outweighs

RECHECK_S = 1.0
"""How long something may be outstanding before that is told, and how often it is told anew (who is late)."""
_AT_ONCE = 1000
"""Most objects of one transaction: clients' writes wait for it."""

_log = logging.getLogger(__name__)


class StatusWriter:
    """Writes what the fleet has to say about objects into their status."""

    def __init__(self, store: Store, fleet: Fleet, *, now: Callable[[], str] = rfc3339) -> None:
        self._store = store
        self._fleet = fleet
        self._now = now
        self._memory = Memory(store)
        self._unwritten: dict[Key, Verdict] = {}
        self._waiting: dict[Key, Verdict] = {}
        """Verdicts of which something is outstanding: most are outdated soon."""
        self._waited: dict[Key, Verdict] = {}
        """Those of them that were there at the last recheck."""
        self._altered: dict[Key, None] = {}
        """Objects that others made say something else."""
        self._wake = asyncio.Event()
        fleet.on_answer(self._wake.set)

    async def run(self) -> None:
        """Writes for ever. A store that refuses is tried again, with what is true by then."""
        since = await self._memory.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._memory.watch(since, self._wake.set))
            tasks.create_task(self._tell())

    async def _tell(self) -> None:
        waits, failing = backoff(0.2, 10.0), False
        time = asyncio.get_running_loop().time
        recheck_at = time() + RECHECK_S
        while True:
            self._wake.clear()
            self._take(self._fleet.judge())
            if time() >= recheck_at:
                recheck_at = time() + RECHECK_S
                self._recheck()
            self._altered |= dict.fromkeys(await self._memory.altered())
            began, wanted = time(), bool(self._unwritten or self._altered)
            try:
                await self._write()
            except StoreError as error:
                if not failing:
                    _log.warning("status not written, trying again: %s", error)
                failing = True
                await asyncio.sleep(next(waits))
                continue
            if failing:
                _log.info("status written again")
            waits, failing = backoff(0.2, 10.0), False
            if wanted:
                await asyncio.sleep(time() - began)
            if not self._unwritten and not self._altered:
                await self._woken(recheck_at - time())

    def _take(self, verdicts: Mapping[Key, Verdict]) -> None:
        for key, verdict in verdicts.items():
            if verdict.complete:
                self._unwritten[key] = verdict
                self._waiting.pop(key, None)
            else:
                self._waiting[key] = verdict

    def _recheck(self) -> None:
        """What was waiting a second ago and still is has to be told."""
        late = {key: verdict for key, verdict in self._waiting.items() if self._waited.get(key) is verdict}
        self._unwritten.update(late)
        self._waiting = {key: verdict for key, verdict in self._waiting.items() if key not in late}
        self._waited = dict(self._waiting)
        self._fleet.overdue()
        self._take(self._fleet.judge())

    async def _woken(self, most_s: float) -> None:
        rest = self._fleet.judge_in_s()
        try:
            async with asyncio.timeout(max(0.0, most_s) if rest is None else min(rest, max(0.0, most_s))):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write(self) -> None:
        if not self._unwritten and not self._altered:
            return
        verdicts = {
            key: self._unwritten.get(key) for key in islice({**self._unwritten, **self._altered}, _AT_ONCE)
        }
        now = self._now()
        written = await self._store.apply(
            [
                Mutate(key, partial(told, said=self._memory.of(key), verdict=verdict, now=now))
                for key, verdict in verdicts.items()
            ]
        )
        self._memory.note(written)
        for key, verdict in verdicts.items():
            self._altered.pop(key, None)
            if self._unwritten.get(key) is verdict:
                self._unwritten.pop(key, None)


def told(obj: Object | None, *, said: Said, verdict: Verdict | None, now: str) -> Object | None:
    """The object with what was said of it, whatever others made of that, and with a newer verdict."""
    whole = obj and said.back_on(obj)
    return judged(whole, verdict, now) if verdict else whole


def judged(obj: Object | None, verdict: Verdict, now: str) -> Object | None:
    """The object with the verdict in its conditions, and with what is in force while it is set aside.

    Unchanged when the verdict is not (any more) on it.
    """
    if obj is None or obj.meta.uid != verdict.uid or obj.meta.generation < verdict.generation:
        return obj
    old: list[Mapping[str, Any]] = list(obj.status.get("conditions", ()))
    by_type = {str(condition.get("type")): condition for condition in old}
    verdicts = [verdict.resolved] if verdict.resolved else []
    known = by_type.get(verdict.programmed.type, {})
    if outweighs(verdict, known.get("reason", ""), known.get("observedGeneration", 0)):
        verdicts.insert(0, verdict.programmed)
    fresh = {c.type: _condition(c, verdict.generation, by_type.get(c.type, {}), now) for c in verdicts}
    status = {
        **obj.status,
        "conditions": [fresh.pop(str(c.get("type")), c) for c in old] + list(fresh.values()),
    }
    if verdict.programmed in verdicts:
        status.pop("inForce", None)
        if verdict.aside is not None and verdict.aside.in_force is not None:
            status["inForce"] = {"spec": encode_spec(verdict.aside.in_force.spec)}
    return obj if status == obj.status else replace(obj, status=status)


def _condition(condition: Condition, generation: int, old: Mapping[str, Any], now: str) -> dict[str, Any]:
    same = old.get("status") == condition.status
    return {
        "type": condition.type,
        "status": condition.status,
        "observedGeneration": generation,
        "lastTransitionTime": old.get("lastTransitionTime", now) if same else now,
        "reason": condition.reason,
        "message": condition.message,
    }
