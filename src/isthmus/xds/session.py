"""All types of one stream, in the order in which a running Envoy can take them: make before break.

    additions   clusters -> endpoints -> listeners -> routes    each waits until the earlier are answered
                filters of listeners (extensions)               whenever a listener asks for them
    removals    listeners -> routes -> clusters -> endpoints    when every addition is answered

- Envoy answers a cluster response only when its clusters are warm, and warming needs their endpoints, so
  endpoints do not wait for that answer. Only those of a cluster that is itself not sent yet do: a changed
  cluster warms with what comes *after* it, and takes `initial_fetch_timeout` long otherwise.
- Every wait ends after `patience_s`: a cluster that never warms must not hold back the routes of the others.
- While a listener or route is refused, the proxy serves its last good version, which may name clusters that
  are wanted no more: clusters and endpoints are not taken away until the refusal is settled.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, EXTENSION, HOST, LISTENER, ROUTES, SECRET, Manifest
from isthmus.xds.delta import Memory, Push, Refusal, Watch
from isthmus.xds.vetting import Judge, all_pass
from isthmus.xds.wire import Request

PROXY_TYPES = (CLUSTER, ENDPOINTS, SECRET, LISTENER, ROUTES, EXTENSION)
AGENT_TYPES = (HOST,)

_ADDED_AFTER: Mapping[str, tuple[str, ...]] = {LISTENER: (CLUSTER, ENDPOINTS), ROUTES: (CLUSTER, ENDPOINTS)}
_REMOVAL_ORDER = (LISTENER, ROUTES, EXTENSION, CLUSTER, ENDPOINTS, SECRET)
_KEPT_BY_REFUSALS = frozenset({CLUSTER, ENDPOINTS})


MAX_UNKNOWN_TYPES = 16


class TooMuch(Exception):
    """A client asks for more than any honest one needs; its stream ends."""


class Session:
    """The protocol state of one stream. Times are monotonic seconds, revisions the engine's."""

    def __init__(
        self,
        types: Sequence[str],
        *,
        memories: Mapping[str, Memory] | None = None,
        patience_s: float = 5.0,
        pace_s: float = 0.25,
        grace_s: float = 0.5,
    ) -> None:
        known = memories or {}
        self.watches = {type_url: Watch(type_url, known.get(type_url)) for type_url in types}
        self._served = len(self.watches)
        self.revision = 0
        """The engine revision that the last offers came from."""
        self._patience_s = patience_s
        self._pace_s = pace_s
        """How long a type waits for its own last answer: it merges changes, order does not need it."""
        self._grace_s = grace_s
        """How long after a type was first asked for nothing is taken away: a reconnecting client asks for its
        types one after the other, and until all are known the order cannot be kept."""
        self.pending = False
        """Whether something due waits for the judge of the last step."""
        self._steady_at = 0.0
        self._waiting: dict[tuple[str, str], float] = {}

    def offer(
        self, type_url: str, want: Manifest, differing: Iterable[str], revision: int, now: float
    ) -> None:
        """Takes what the proxy should hold of a type from `revision` on."""
        self.watches[type_url].offer(want, differing, revision, now)

    def receive(self, request: Request, now: float) -> None:
        """Takes one request of the client. Types that we do not serve are answered as empty."""
        watch = self.watches.get(request.type_url)
        if watch is None:
            if len(self.watches) >= self._served + MAX_UNKNOWN_TYPES:
                raise TooMuch(f"more than {MAX_UNKNOWN_TYPES} types that are not served were asked for")
            watch = self.watches[request.type_url] = Watch(request.type_url)
            watch.offer({}, (), self.revision, now)
        if not watch.asked:
            self._steady_at = now + self._grace_s
        watch.receive(request, self.revision, now)

    def step(self, now: float, judge: Judge = all_pass) -> list[Push]:
        """Everything that may be written now, in the order in which it must be written."""
        pushes: list[Push] = []
        # all are asked about at once, also those whose turn has not come
        self.pending = True in [watch.pending(judge) for watch in self.watches.values()]
        for watch in self.watches.values():
            if watch.missing:
                pushes.append(watch.send_missing(now))
            if not watch.offered or not (watch.fresh or watch.greeting_due):
                self._waiting.pop(("add", watch.type_url), None)
            elif self._may_add(watch, now):
                pushes += watch.send_fresh(now, self._held_back(watch), judge)
        for watch in sorted(self.watches.values(), key=lambda watch: _removal_rank(watch.type_url)):
            if not watch.gone:
                self._waiting.pop(("remove", watch.type_url), None)
            elif self._may_remove(watch, now):
                pushes.append(watch.send_gone(now))
        return pushes

    def wake_at(self, now: float) -> float | None:
        """When the passing of time alone may change what `step` or `watermark` say; None if it cannot."""
        times = [self._steady_at, *(since + self._patience_s for since in self._waiting.values())]
        for watch in self.watches.values():
            if watch.fresh:
                times += [flight.sent_at + self._pace_s for flight in watch.flights.values()]
            times += [flight.sent_at + self._patience_s for flight in watch.flights.values()]
            times += [appeared + self._patience_s for _, appeared in watch.expected.values()]
        return min((time for time in times if time > now), default=None)

    def watermark(self, now: float) -> int:
        """The last revision of which the client took or refused everything; -1 before the first offer."""
        revisions = [self.revision + 1]
        for watch in self.watches.values():
            if not watch.offered:
                return -1
            revisions += watch.fresh.values()
            revisions += [flight.since for flight in watch.flights.values()]
            if not self._kept(watch):
                revisions += watch.gone.values()
            revisions += [since for since, seen in watch.expected.values() if now < seen + self._patience_s]
        return min(revisions) - 1

    def refusals(self) -> Iterator[Refusal]:
        """Every refusal that stands."""
        for watch in self.watches.values():
            yield from watch.refused.values()

    def memories(self) -> dict[str, Memory]:
        """What the next stream of the same client should know."""
        return {type_url: watch.memory() for type_url, watch in self.watches.items()}

    def _may_add(self, watch: Watch, now: float) -> bool:
        if watch.busy(now, self._pace_s):
            return False
        earlier = [self.watches.get(type_url) for type_url in _ADDED_AFTER.get(watch.type_url, ())]
        settled = not any(before and self._unsettled(before, watch.fresh_at, now) for before in earlier)
        return self._patient(("add", watch.type_url), settled, now)

    def _held_back(self, watch: Watch) -> Mapping[str, int] | None:
        clusters = self.watches.get(CLUSTER)
        return clusters.fresh if clusters and watch.type_url == ENDPOINTS else None

    def _may_remove(self, watch: Watch, now: float) -> bool:
        what = ("remove", watch.type_url)
        if now < self._steady_at or self._kept(watch):
            self._waiting.pop(what, None)
            return False
        rank = _removal_rank(watch.type_url)
        due = max(watch.gone.values())
        settled = not any(self._unsettled(other, due, now) for other in self.watches.values()) and not any(
            other.gone
            for other in self.watches.values()
            if _removal_rank(other.type_url) < rank and not self._kept(other)
        )
        return self._patient(what, settled, now)

    def _patient(self, what: tuple[str, str], settled: bool, now: float) -> bool:
        """Whether to go ahead: when the wait is over, or has lasted longer than the patience."""
        if not settled and now < self._waiting.setdefault(what, now) + self._patience_s:
            return False
        self._waiting.pop(what, None)
        return True

    def _unsettled(self, watch: Watch, due: int, now: float) -> bool:
        """Whether something is unsent or unanswered that is not younger than revision `due`.

        What became due later cannot be needed, and would, changing all the time, be waited for in vain.
        """
        return any(since <= due for since in watch.fresh.values()) or any(
            flight.since <= due and now < flight.sent_at + self._patience_s
            for flight in watch.flights.values()
        )

    def _kept(self, watch: Watch) -> bool:
        if watch.type_url not in _KEPT_BY_REFUSALS:
            return False
        return any(
            user.refused
            for type_url in (LISTENER, ROUTES)
            if (user := self.watches.get(type_url)) is not None
        )


def _removal_rank(type_url: str) -> int:
    return _REMOVAL_ORDER.index(type_url) if type_url in _REMOVAL_ORDER else len(_REMOVAL_ORDER)
