"""Verdicts of the fleet -> conditions in the store.

Runs beside the streams: an answer of a proxy wakes it, it takes the verdicts that changed and writes them,
each against the latest state of its object. While it writes, further verdicts gather and are merged.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from isthmus.api.meta import Key, Object
from isthmus.clock import backoff, rfc3339
from isthmus.store.base import Mutate, Store, StoreError
from isthmus.xds.fleet import Fleet
from isthmus.xds.verdicts import Condition, Verdict, outweighs

RECHECK_S = 1.0
"""How often waiting is told anew (which proxies are late) though nobody answered."""

_log = logging.getLogger(__name__)


class StatusWriter:
    """Writes what the fleet has to say about objects into their status."""

    def __init__(self, store: Store, fleet: Fleet, *, now: Callable[[], str] = rfc3339) -> None:
        self._store = store
        self._fleet = fleet
        self._now = now
        self._unwritten: dict[Key, Verdict] = {}
        self._wake = asyncio.Event()
        fleet.on_answer(self._wake.set)

    async def run(self) -> None:
        """Writes for ever. A store that refuses is tried again, with what is true by then."""
        waits, failing = backoff(0.2, 10.0), False
        while True:
            self._wake.clear()
            self._unwritten.update(self._fleet.judge())
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
            try:
                async with asyncio.timeout(RECHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _write(self) -> None:
        if not self._unwritten:
            return
        verdicts = dict(self._unwritten)
        now = self._now()
        await self._store.apply(
            [Mutate(key, partial(judged, verdict=verdict, now=now)) for key, verdict in verdicts.items()]
        )
        for key, verdict in verdicts.items():
            if self._unwritten.get(key) is verdict:
                del self._unwritten[key]


def judged(obj: Object | None, verdict: Verdict, now: str) -> Object | None:
    """The object with the verdict in its conditions; unchanged when the verdict is not (any more) on it."""
    if obj is None or obj.meta.uid != verdict.uid or obj.meta.generation < verdict.generation:
        return obj
    old: list[Mapping[str, Any]] = list(obj.status.get("conditions", ()))
    by_type = {str(condition.get("type")): condition for condition in old}
    verdicts = [verdict.resolved]
    known = by_type.get(verdict.programmed.type, {})
    if outweighs(verdict, known.get("reason", ""), known.get("observedGeneration", 0)):
        verdicts.insert(0, verdict.programmed)
    fresh = {c.type: _condition(c, verdict.generation, by_type.get(c.type, {}), now) for c in verdicts}
    conditions = [fresh.pop(str(c.get("type")), c) for c in old] + list(fresh.values())
    return obj if conditions == old else replace(obj, status={**obj.status, "conditions": conditions})


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
