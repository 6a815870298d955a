"""Commits, answers and problems -> the verdicts that changed; what none of them touched is not judged again.

    an object came, changed or went                        it
    a proxy refuses what it did not, or no longer          what the refused resource was made from
    all proxies have answered a revision                   what waited for that
    analysis found something else than before              what it was found at

Under load thousands of objects change in a second and every answer of a proxy may complete some of them: the
cost of a judgement must not grow with the number of objects that there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from isthmus.api.meta import Key, Problem
from isthmus.xds.delta import Refusal
from isthmus.xds.verdicts import (
    Answers,
    Aside,
    Committed,
    Verdict,
    outweighs,
    refused_by_source,
    verdict_on,
    waiting,
)


class Judgement:
    """The verdicts on objects. `judged` counts how often one was judged, since the beginning."""

    def __init__(self, objects: Mapping[Key, Committed]) -> None:
        self.judged = 0
        self._objects = objects
        self._due = set(objects)
        self._ahead: set[Key] = set()
        """Those that analysis has not seen yet."""
        self._analysed = -1
        self._published: dict[Key, Verdict] = {}
        self._problems: Mapping[Key, tuple[Problem, ...]] = {}
        self._refused: Mapping[Key, Sequence[tuple[str, Refusal]]] = {}
        self._aside: Mapping[Key, Aside] = {}
        self._answered: tuple[bool, int] = (False, 0)
        """Whether there are proxies, and what all of them have answered."""
        self._waits: dict[int, dict[Key, None]] = {}
        """The objects that not all proxies have answered, by the revision that they came with."""
        self._came: dict[Key, int] = {}
        """That revision, by object."""
        self._told: dict[int, str] = {}
        """For whom the objects of a revision wait, as it was last told."""

    def touch(self, keys: Iterable[Key]) -> None:
        """These objects came, changed or went."""
        self._due.update(keys)

    def judge(
        self,
        proxies: Sequence[Answers],
        problems: Mapping[Key, tuple[Problem, ...]],
        analysed: int,
        aside: Mapping[Key, Aside] = MappingProxyType({}),
    ) -> dict[Key, Verdict]:
        """The verdicts that changed. `problems` are of revision `analysed`: what came later has none yet.

        Objects that are set `aside` are judged for that.
        """
        refused = refused_by_source(proxies)
        floor = min((proxy.watermark for proxy in proxies), default=0)
        due, self._due = self._due, set()
        if analysed != self._analysed:
            self._analysed = analysed
            due |= self._ahead
            self._ahead = set()
        due |= _differing(refused, self._refused) | _differing(aside, self._aside)
        if problems is not self._problems:
            due |= _differing(problems, self._problems)
        self._refused, self._problems, self._aside = refused, problems, dict(aside)
        if self._answered != (bool(proxies), floor):
            self._answered = bool(proxies), floor
            answered = [revision for revision in self._waits if not proxies or revision <= floor]
            due.update(key for revision in answered for key in self._waits[revision])
        changed: dict[Key, Verdict] = {}
        for key in due:
            committed = self._objects.get(key)
            settled = committed is None or bool(proxies and committed.revision <= floor)
            self._settle(key, None if settled else committed)
            if committed is None:
                self._published.pop(key, None)
                continue
            self.judged += 1
            found: tuple[Problem, ...] | None = problems.get(key, ())
            if committed.revision > analysed:
                self._ahead.add(key)
                found = None
            verdict = verdict_on(
                committed, proxies, refused.get(key, ()), found, floor=floor, aside=aside.get(key)
            )
            if (new := self._news(key, verdict)) is not None:
                self._published[key] = changed[key] = new
        return changed

    def overdue(self, proxies: Sequence[Answers]) -> None:
        """Judges anew, the next time, what waits for others than was told."""
        for revision, keys in self._waits.items():
            if proxies and (text := waiting(revision, proxies)) != self._told.get(revision):
                self._told[revision] = text
                self._due.update(keys)

    def _news(self, key: Key, verdict: Verdict) -> Verdict | None:
        old = self._published.get(key)
        if old is None or old.uid != verdict.uid:
            return verdict
        if not outweighs(verdict, old.programmed.reason, old.generation):
            verdict = replace(verdict, programmed=old.programmed, strength=old.strength)
        return None if verdict == old else verdict

    def _settle(self, key: Key, waits: Committed | None) -> None:
        """Notes whether, and since when, proxies have still to answer for the object."""
        came = self._came.get(key)
        if waits is not None and came == waits.revision:
            return
        if came is not None:
            del self._came[key]
            del self._waits[came][key]
            if not self._waits[came]:
                del self._waits[came]
                self._told.pop(came, None)
        if waits is not None:
            self._came[key] = waits.revision
            self._waits.setdefault(waits.revision, {})[key] = None


def _differing(new: Mapping[Key, object], old: Mapping[Key, object]) -> set[Key]:
    if not new and not old:
        return set()
    return {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
