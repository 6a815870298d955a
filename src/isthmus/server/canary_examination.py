"""The canary Envoy's requests + what is to be vetted -> what to show it next; its answers -> verdicts.

    lane of clusters    ┐ one response in flight each: several resources under fresh names, the last ones
    lane of listeners   ┘ taken away. Yes: all are good. No: each half alone, down to the one that is bad
    lane of routes        the same, into places that the canary's own listener asks for

Whatever else it asks for (endpoints, secrets, routes of a listener) it gets at once, empty or thrown away
after use, so that nothing of it warms for longer than a round trip.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from isthmus.envoy.canary import PLACES, renamed, secret, stand_in
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, SECRET, Resource
from isthmus.envoy.soundness import summary
from isthmus.xds.vetting import PATIENCE_S, VETTED, Vetting
from isthmus.xds.wire import Request, frame, response

_MOST_AT_ONCE = 128
_MOST_STAND_INS = 2000
_ITS_OWN_MACHINE = re.compile(
    r"cannot bind|unable to (open|read) file|No such file|file \S+ does not exist|filesystem watch"
    r"|[Ss]etting socket option|address family|already in use|duplicate address",
)
"""What it says of files and addresses is true of the control plane's machine, and not of the VM."""


@dataclass(frozen=True, slots=True)
class ThrowAway:
    """A certificate and key that nobody believes; PEM."""

    certificate: bytes
    key: bytes


@dataclass(slots=True)
class _Flight:
    nonce: str
    shown: dict[str, Resource]
    sent_at: float


@dataclass(slots=True)
class _Lane:
    flight: _Flight | None = None
    halves: deque[list[Resource]] = field(default_factory=deque)
    present: tuple[str, ...] = ()


class Examination:
    """One stream of the canary. Times are monotonic seconds."""

    def __init__(self, vetting: Vetting, throw_away: ThrowAway, now: Callable[[], float]) -> None:
        self.live = False
        """Whether it has taken the first answer of every type that is vetted."""
        self.waiting_since: float | None = None
        """When the first response was sent since it last answered one; None: it owes no answer."""
        self._vetting = vetting
        self._throw_away = throw_away
        self._now = now
        self._lanes = {type_url: _Lane() for type_url in VETTED}
        self._greeted: set[str] = set()
        self._ready: set[str] = set()
        self._stand_ins: set[str] = set()
        self._nonces = 0
        self._names = 0
        self._due: list[bytes] = []

    def receive(self, request: Request) -> None:
        """Takes a request."""
        kind = request.type_url
        if request.nonce:
            self.waiting_since = None
            self._ready.add(kind)
            self.live = self._ready.issuperset(VETTED)
            lane = self._lanes.get(kind)
            if lane is not None and lane.flight is not None and lane.flight.nonce == request.nonce:
                self._judged(lane, lane.flight, request.error)
        if request.subscribe or kind not in self._greeted:
            self._greeted.add(kind)
            wanted = [name for name in request.subscribe if name != "*"]
            found = [one for name in wanted if (one := self._given(kind, name)) is not None]
            missing = sorted({*wanted} - {one.name for one in found})
            self._say(kind, found, missing)

    def step(self) -> list[bytes]:
        """The responses to write now."""
        if self.live:
            for kind, lane in self._lanes.items():
                if lane.flight is None or self._now() >= lane.flight.sent_at + PATIENCE_S:
                    self._show(kind, lane)
        due, self._due = self._due, []
        if due and self.waiting_since is None:
            self.waiting_since = self._now()
        return due

    def wake_at(self) -> float | None:
        """When a response will have been unanswered for too long."""
        times = [lane.flight.sent_at + PATIENCE_S for lane in self._lanes.values() if lane.flight]
        return min((at for at in times if at > self._now()), default=None)

    def end(self, cause: str = "") -> None:
        """The stream is over. `cause` is told of a crash: what was shown alone then is refused for it."""
        for lane in self._lanes.values():
            in_flight = list(lane.flight.shown.values()) if lane.flight else []
            if cause and len(in_flight) == 1:
                self._vetting.refuse(in_flight[0], cause)
                in_flight = []
            self._vetting.give_back([*in_flight, *(one for half in lane.halves for one in half)])
            lane.flight = None
            lane.halves.clear()

    def _given(self, kind: str, name: str) -> Resource | None:
        if kind == SECRET:
            return secret(kind, name, self._throw_away.certificate, self._throw_away.key)
        return stand_in(kind, name) if kind in {ENDPOINTS, *PLACES} else None

    def _show(self, kind: str, lane: _Lane) -> None:
        lane.flight = None
        places = PLACES.get(kind, ())
        most = len(places) or _MOST_AT_ONCE
        group = lane.halves.popleft() if lane.halves else self._vetting.show(kind, most, _places)
        if not group:
            return
        names = places[: len(group)] if places else self._fresh_names(len(group))
        shown = dict(zip(names, group, strict=True))
        if kind == LISTENER:
            self._lead_somewhere(group)
        gone, lane.present = lane.present, () if places else tuple(names)
        nonce = self._say(kind, [renamed(one, name) for name, one in shown.items()], gone)
        lane.flight = _Flight(nonce, shown, self._now())

    def _lead_somewhere(self, listeners: Sequence[Resource]) -> None:
        """Envoy refuses a listener that holds a route to a cluster it does not know."""
        wanted = {name for listener in listeners for name in summary(listener).clusters}
        gone = self._stand_ins - wanted if len(self._stand_ins) > _MOST_STAND_INS else set()
        fresh = sorted(wanted - self._stand_ins)
        if fresh or gone:
            self._say(CLUSTER, [one for name in fresh if (one := stand_in(CLUSTER, name))], sorted(gone))
        self._stand_ins = (self._stand_ins | wanted) - gone

    def _judged(self, lane: _Lane, flight: _Flight, error: str | None) -> None:
        lane.flight = None
        group = list(flight.shown.values())
        if error is None:
            self._vetting.accept(group)
        elif len(group) > 1:
            middle = len(group) // 2
            lane.halves.extendleft([group[middle:], group[:middle]])
        elif _ITS_OWN_MACHINE.search(error):
            self._vetting.accept(group, "unjudged")
        else:
            (name,) = flight.shown
            self._vetting.refuse(group[0], error.replace(name, group[0].name))

    def _fresh_names(self, count: int) -> list[str]:
        self._names += count
        return [f"canary-{number}." for number in range(self._names - count, self._names)]

    def _say(self, kind: str, resources: Iterable[Resource], removed: Iterable[str] = ()) -> str:
        self._nonces += 1
        nonce = f"{self._nonces:x}"
        self._due.append(response(kind, map(frame, resources), removed, nonce))
        return nonce


def _places(resource: Resource) -> Sequence[str]:
    """The addresses of a listener: no two listeners may have the same at once."""
    return summary(resource).addresses if resource.type_url == LISTENER else ()
