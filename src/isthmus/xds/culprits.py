"""A resource that the canary refuses -> which of the objects in it are to blame, and only they are set aside.

    refused, made of many objects ─▶ made again without some ─▶ shown to the canary ─▶ taken, or not ─┐
                                          ▲───────────────────────────────────────────────────────────┘
    found ─▶ the stage does without what is new in them ─▶ their neighbours' news go out

A route table holds the rules of everybody on a port. One rule that only Envoy can refuse (a regex whose
program is too large) must cost its author that rule, and nobody else anything. What was refused waits until
it is known.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from isthmus.api.meta import Fact, Key
from isthmus.engine import Reader
from isthmus.envoy.resource import Manifest, ProxyId, Resource
from isthmus.xds.delta import Refusal
from isthmus.xds.verdicts import Aside
from isthmus.xds.vetting import CANARY, Vetting

T = TypeVar("T")

SEPARABLE = frozenset({"VirtualService"})
"""Kinds of which one may be set aside: what calls do without it is what they did before it came. Without a
rule on access or TLS they would do what is forbidden: the last good version of everything stays then."""

SILENCE_S = 10.0
"""For so long a search waits for a word: nothing gets worse meanwhile, what was refused is not sent."""

_log = logging.getLogger(__name__)

ManifestQuery = Callable[[Reader, str, ProxyId], Manifest]
Search = Generator[frozenset[Key], bool, tuple[Key, ...]]


class Stage(Protocol):
    """What can do without the latest change of some objects, for a moment or until they change again."""

    def without(self, keys: Collection[Key], ask: Callable[[Reader], T], *, bare: bool) -> T:
        """What `ask` finds then. `bare`: without the objects at all."""

    def set_aside(self, keys: Collection[Key], *, bare: bool) -> Mapping[Key, Fact | None]:
        """Does without; what each was before, and is again."""

    def newest_first(self, keys: Iterable[Key]) -> Sequence[Key]:
        """Those of them that are not set aside, the one that changed last before the others."""


Holders = Callable[[Resource], Iterable[ProxyId]]
"""The proxies that should hold a resource, as far as was known when they were last looked at."""
Made = Callable[[Reader, ProxyId], Resource | None]
"""What a proxy should hold of a certain type and name; None: nothing."""


def guilty(suspects: Sequence[Key]) -> Search:
    """Yields which suspects to leave out, is sent whether the rest is taken; returns those to do without.

    None of them when leaving out all of them does not help.

    One that is to blame alone, and changed last, is found in one step; k of n in about k·log2(n).
    """
    count = 1
    while not (yield frozenset(suspects[:count])):
        if count >= len(suspects):
            return ()
        count *= 2
    among = tuple(suspects[:count])
    found: list[Key] = []
    groups = [among]
    while groups:
        group = groups.pop()
        if len(group) == 1:
            found.append(group[0])
            continue
        middle = len(group) // 2
        for half in (group[middle:], group[:middle]):
            if not (yield frozenset(among) - frozenset(half)):
                groups.append(half)
    if found and len(found) < len(among) and not (yield frozenset(found)):
        found = []
    return tuple(found) or among  # only together are they too much


@dataclass(slots=True)
class _Case:
    resource: Resource
    text: str
    proxy: ProxyId
    suspects: Sequence[Key]
    made: Made
    search: Search
    bare: bool = False
    out: frozenset[Key] = frozenset()
    trial: Resource | None = None
    """What the canary is asked about."""
    asked_at: float = 0.0


class Culprits:
    """One search at a time. `aside` are the objects that everybody does without now."""

    def __init__(
        self,
        vetting: Vetting,
        stage: Stage,
        manifest: ManifestQuery,
        holders: Holders,
        now: Callable[[], float],
    ) -> None:
        self.aside: dict[Key, Aside] = {}
        self._vetting = vetting
        self._stage = stage
        self._manifest = manifest
        self._holders = holders
        self._now = now
        self._waiting: deque[tuple[Resource, str]] = deque()
        self._case: _Case | None = None
        self._busy = False
        vetting.on_refusal(self._doubt)
        vetting.on_verdict(self.go_on)

    def touched(self, keys: Collection[Key]) -> None:
        """These objects changed or went: they stand again."""
        for key in self.aside.keys() & set(keys):
            del self.aside[key]

    def go_on(self) -> None:
        """Goes on as far as the canary has spoken; gives up what it has not spoken of in time."""
        if self._busy:
            return  # what we do ourselves makes verdicts known
        self._busy = True
        try:
            while self._case is not None or self._waiting:
                if self._case is None:
                    self._case = self._begin(*self._waiting.popleft())
                elif not self._goes_on(self._case):
                    return
        finally:
            self._busy = False

    def wake_at(self) -> float | None:
        """When the canary will have been silent for too long."""
        return None if self._case is None else self._case.asked_at + SILENCE_S

    def _doubt(self, resource: Resource, text: str) -> bool:
        """Whether it waits until it is known who is to blame."""
        if self._case is not None and self._case.trial is not None and _alike(self._case.trial, resource):
            return False
        if not any(key.kind in SEPARABLE for key in resource.sources):
            return False
        self._waiting.append((resource, text))
        return True

    def _begin(self, resource: Resource, text: str) -> _Case | None:
        def made(q: Reader, proxy: ProxyId) -> Resource | None:
            found: Manifest = q(self._manifest, resource.type_url, proxy)
            return found.get(resource.name)

        suspects = self._stage.newest_first(key for key in resource.sources if key.kind in SEPARABLE)
        proxy = next(iter(self._holders(resource)), None)
        if proxy is None or not suspects:
            self._vetting.settle(resource, text)
            return None
        case = _Case(resource, text, proxy, suspects, made, guilty(suspects))
        case.out = next(case.search)
        return case

    def _stands(self, case: _Case) -> bool:
        """Whether what was refused is still what the proxy should hold."""
        now = self._stage.without((), lambda q: case.made(q, case.proxy), bare=False)
        return now is not None and _alike(now, case.resource)

    def _goes_on(self, case: _Case) -> bool:
        try:
            return self._step(case)
        except Exception:  # a bug of ours: the refusal counts as it is
            _log.exception("search failed: %s", case.resource.name)
            self._close(case, ())
            return True

    def _step(self, case: _Case) -> bool:
        """Whether the search came a step further, or to its end."""
        if case.trial is None:
            if not self._stands(case):
                self._close(case, ())
                return True
            trial = self._stage.without(case.out, lambda q: case.made(q, case.proxy), bare=case.bare)
            case.asked_at = self._now()
            case.trial = trial or _NOTHING
        taken = case.trial is _NOTHING or self._vetting.takes(case.trial)
        if taken is None:
            if self._now() < case.asked_at + SILENCE_S and self._vetting.is_open:
                return False
            self._close(case, ())
            return True
        case.trial = None
        try:
            case.out = case.search.send(taken)
        except StopIteration as end:
            found: tuple[Key, ...] = end.value
            if found or case.bare:
                self._close(case, found if self._stands(case) else ())
            else:  # what stood before is no better: two bad changes in a row
                case.bare, case.search = True, guilty(case.suspects)
                case.out = next(case.search)
        return True

    def _close(self, case: _Case, found: tuple[Key, ...]) -> None:
        self._case = None
        for key, before in (self._stage.set_aside(found, bare=case.bare) if found else {}).items():
            _log.warning("set aside %s: %s", key, case.text)
            refused, kept = case.resource, before is not None
            refusal = Refusal(
                refused.type_url,
                refused.name,
                refused.version,
                case.text,
                sources=(key,),
                kept=kept,
                by=CANARY,
                alone=True,
            )
            self.aside[key] = Aside(refusal, before)
        self._vetting.settle(case.resource, case.text)


def _alike(one: Resource, other: Resource) -> bool:
    return (one.type_url, one.name, one.version) == (other.type_url, other.name, other.version)


_NOTHING = Resource("", "", "", b"")
"""What is not there is not refused."""
