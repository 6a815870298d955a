"""Resources that no proxy has taken yet -> what the canary says of them, before any proxy sees them.

    streams  judge(resource) ──▶ asked ──▶ show() ── accept, refuse, give_back ──▶ settled  ──▶ streams
                                   └── after PATIENCE_S, or without a canary: it goes out unseen, counted

A verdict is about content: type, name and version. Endpoints are not vetted: they change all the time, Envoy
finds fault with none that we can make, and a change of theirs must not wait.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from isthmus.envoy.resource import CLUSTER, EXTENSION, LISTENER, ROUTES, Resource

VETTED = (CLUSTER, LISTENER, ROUTES, EXTENSION)
PATIENCE_S = 2.0
CANARY, OURSELVES = "the canary", "isthmus itself"
"""Who may refuse a resource before it is sent."""

_Content = tuple[str, str, str]


class Clearance(Enum):
    """Whether a resource may be sent now."""

    PASSED = "passed"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Withheld:
    """It must not be sent: why, and the last good version to send instead, if one is known."""

    text: str
    instead: Resource | None = None
    by: str = CANARY


Judge = Callable[[Resource], Clearance | Withheld]
Doubt = Callable[[Resource, str], bool]
"""Told of a refusal, and Envoy's words; whether the resource waits until `settle` is called."""


def all_pass(_: Resource) -> Clearance | Withheld:
    """The judge where there is nobody to ask."""
    return Clearance.PASSED


@dataclass(slots=True)
class _Asked:
    resource: Resource
    asked_at: float
    shown: bool = False
    late: bool = False
    doubted: str | None = None
    """Envoy's words, while somebody looks for what is to blame for them."""


class Vetting:
    """What was asked of the canary and what it said. Owned by the fleet's loop; times are monotonic."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        """Resources: accepted, refused, late (no verdict in time), unseen (no canary), unjudged (what it
        said was about its own machine)."""
        self._now = now
        self._on = False
        self._asked: dict[_Content, _Asked] = {}
        self._settled: dict[_Content, str | None] = {}
        """Why it is withheld; None when it passes."""
        self._older: dict[_Content, str | None] = {}
        self._unseen: set[_Content] = set()
        self._before: dict[_Content, Resource] = {}
        """The last good version of what is not known to be good itself."""
        self._on_ask: list[Callable[[], None]] = []
        self._on_verdict: list[Callable[[], None]] = []
        self._doubt: Doubt = lambda resource, text: False

    @property
    def is_open(self) -> bool:
        """Whether there is a canary."""
        return self._on

    def on_refusal(self, doubt: Doubt) -> None:
        """Asks before a refusal counts."""
        self._doubt = doubt

    def on_ask(self, listener: Callable[[], None]) -> None:
        """Calls the listener when there is something to show."""
        self._on_ask.append(listener)

    def on_verdict(self, listener: Callable[[], None]) -> None:
        """Calls the listener when something that was pending is pending no more."""
        self._on_verdict.append(listener)

    def open(self) -> None:
        """A canary is live, or will be in a moment: resources wait for its word."""
        self._on = True
        self._unseen.clear()

    def close(self) -> None:
        """There is no canary: whatever waits goes out, save what it has refused, and so does what comes."""
        self._on = False
        for asked in [each for each in self._asked.values() if each.doubted is not None]:
            self._refused(asked.resource, asked.doubted or "")
        self.counts["unseen"] += len(self._asked)
        self._unseen.update(self._asked)
        self._asked.clear()
        self._tell(self._on_verdict)

    def judge(self, resource: Resource) -> Clearance | Withheld:
        """Whether a resource may be sent. Asks the canary about what is new; the same question is free."""
        if resource.type_url not in VETTED:
            return Clearance.PASSED
        content = _content(resource)
        if self._knows(content):
            text = self._settled[content]
            return Clearance.PASSED if text is None else Withheld(text, self._before.get(content))
        if content in self._unseen:
            return Clearance.PASSED
        if not self._on:
            self.counts["unseen"] += 1
            self._unseen.add(content)
            return Clearance.PASSED
        asked = self._asked.get(content)
        if asked is None:
            self._asked[content] = _Asked(resource, self._now())
            self._tell(self._on_ask)
            return Clearance.PENDING
        if asked.doubted is not None or self._now() < asked.asked_at + PATIENCE_S:
            return Clearance.PENDING
        if not asked.late:
            asked.late = True
            self.counts["late"] += 1
        return Clearance.PASSED

    def takes(self, resource: Resource) -> bool | None:
        """Whether the canary takes what is made up to find that out; None until it has spoken."""
        content = _content(resource)
        if self._knows(content):
            return self._settled[content] is None
        if self._on and content not in self._asked:
            self._asked[content] = _Asked(resource, self._now())
            self._tell(self._on_ask)
        return None

    def wake_at(self, since: float) -> float | None:
        """When a pending resource will have waited long enough, if that is later than `since`."""
        times = (each.asked_at for each in self._asked.values() if not each.late and each.doubted is None)
        return next((at + PATIENCE_S for at in times if at + PATIENCE_S > since), None)

    def trust(self, resource: Resource) -> None:
        """A proxy has this content, from before this control plane started."""
        content = _content(resource)
        if resource.type_url in VETTED and content not in self._asked and not self._knows(content):
            self._settled[content] = None

    def unsound(self, resource: Resource, text: str) -> Withheld:
        """The word of our own checks: it holds for one proxy, among what that proxy has."""
        return Withheld(text, self._before.get(_content(resource)), OURSELVES)

    def follows(self, new: Resource, old: Resource) -> None:
        """`new` takes the place of `old`, which stays in use should `new` be refused."""
        content = _content(new)
        if new.type_url not in VETTED or (self._knows(content) and self._settled[content] is None):
            return
        before = _content(old)
        if before in self._asked or (self._knows(before) and self._settled[before] is not None):
            if before in self._before:
                self._before[content] = self._before[before]
        else:
            self._before[content] = old

    def show(self, type_url: str, most: int, places: Callable[[Resource], Collection[str]]) -> list[Resource]:
        """What the canary is to be shown next; no two of them have the same place."""
        shown, taken = [], set[str]()
        for asked in self._asked.values():
            if asked.shown or asked.resource.type_url != type_url:
                continue
            wanted = places(asked.resource)
            if taken.isdisjoint(wanted):
                taken.update(wanted)
                asked.shown = True
                shown.append(asked.resource)
            if len(shown) == most:
                break
        return shown

    def accept(self, resources: Collection[Resource], how: str = "accepted") -> None:
        """The canary has taken these."""
        for resource in resources:
            content = _content(resource)
            self._asked.pop(content, None)
            self._settled[content] = None
            self._before.pop(content, None)
            self.counts[how] += 1
        self._tell(self._on_verdict)

    def refuse(self, resource: Resource, text: str) -> None:
        """The canary does not take this, in these words."""
        asked = self._asked.get(_content(resource))
        if asked is not None and self._doubt(resource, text):
            asked.doubted = text
        else:
            self._refused(resource, text)
        self._tell(self._on_verdict)

    def settle(self, resource: Resource, text: str) -> None:
        """Nobody looks any longer for what is to blame: the refusal counts."""
        self._refused(resource, text)
        self._tell(self._on_verdict)

    def _refused(self, resource: Resource, text: str) -> None:
        content = _content(resource)
        self._asked.pop(content, None)
        self._settled[content] = text
        self.counts["refused"] += 1

    def give_back(self, resources: Collection[Resource]) -> None:
        """The canary ended before it spoke of these: they are to be shown again."""
        for resource in resources:
            if asked := self._asked.get(_content(resource)):
                asked.shown = False

    def age(self) -> None:
        """Forgets what nobody asked about since the last call."""
        self._older, self._settled = self._settled, {}
        self._unseen.clear()
        self._before = {
            content: resource
            for content, resource in self._before.items()
            if content in self._asked or content in self._older
        }

    def _knows(self, content: _Content) -> bool:
        if content in self._settled:
            return True
        if content not in self._older:
            return False
        self._settled[content] = self._older[content]
        return True

    def _tell(self, listeners: list[Callable[[], None]]) -> None:
        for listener in listeners:
            listener()


def _content(resource: Resource) -> _Content:
    return resource.type_url, resource.name, resource.version
