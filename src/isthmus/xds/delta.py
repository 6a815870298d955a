"""One resource type on one stream: what the client asks and answers, in; what to send it next, out.

    offer(manifest)  what the proxy should hold            ->  fresh  names to send, each with the revision
    receive(request) subscriptions, ACK, NACK              ->         since which it is due
    send_fresh(), send_gone() -> Push                      ->  gone   names to take away

Nothing here touches the network or a clock. Which type may send when is decided by `session`.

Rules that are easy to lose:
- The first request of a stream tells what the client holds, and is believed: nothing is sent again.
  A name subscribed later is always answered, even when the client has it: Envoy waits for the answer.
- What the canary refuses is never sent. The client keeps what it has; one that has nothing gets the last good
  version, and the refusal stands as if the client had spoken.
- A NACK of several resources says nothing about each, and Envoy forgets the versions of all of them. They
  are sent again one by one, so that the good ones are ACKed; of a lone resource it is final for its version.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from isthmus.api.meta import Key
from isthmus.envoy.resource import CLUSTER, HOST, LISTENER, Manifest, Resource
from isthmus.xds.vetting import OURSELVES, Clearance, Judge, Withheld, all_pass
from isthmus.xds.wire import Request

WILDCARD = "*"
WHOLE_TYPES = frozenset({CLUSTER, LISTENER, HOST})
"""Types of which a first request without names means "everything"."""


@dataclass(frozen=True, slots=True)
class Push:
    """One response to write."""

    type_url: str
    nonce: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A client's word that it does not take this version of a resource; or the canary's, on its behalf."""

    type_url: str
    name: str
    version: str
    text: str
    sources: tuple[Key, ...] = ()
    kept: bool = False
    """Whether the client serves an earlier version of it."""
    since: int = 0
    """The revision since which the client does not have what it should."""
    by: str = ""
    """Who refused it, when it was not the client."""
    alone: bool = False
    """Whether the one source is known to be to blame, and does not stand in the resource as it was sent."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What outlives a stream: refusals, and the suspects, names that the client may hold unknown to us."""

    refused: Mapping[str, Refusal] = field(default_factory=dict)
    suspects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Flight:
    """A response that was sent and is not answered. `before` holds what the client had of each name."""

    nonce: str
    sent_at: float
    since: int
    versions: Mapping[str, str]
    before: dict[str, str | None]


class Watch:
    """The state of one type on one stream. `held` is what the client has, or was sent and has not refused."""

    def __init__(self, type_url: str, memory: Memory | None = None) -> None:
        self.type_url = type_url
        self.asked = False
        self.offered = False
        self.wildcard = False
        self.names: set[str] = set()
        self.want: Manifest = {}
        self.held: dict[str, str] = {}
        self.fresh: dict[str, int] = {}
        self.fresh_at = 0
        """The newest revision that put something into `fresh`, or changed what is in it."""
        self.gone: dict[str, int] = {}
        self.missing: dict[str, int] = {}
        """Names the client asks for, does not hold, and that do not exist: it waits to be told."""
        self.expected: dict[str, tuple[int, float]] = {}
        """Wanted names that the client has not asked for yet: due since which revision, seen when."""
        self.greeting_due = False
        """The client waits for a response, be it an empty one."""
        self.refused: dict[str, Refusal] = {}
        self.flights: dict[str, Flight] = {}
        self._owed: set[str] = set()
        self._alone: set[str] = set()
        self._memory = memory or Memory()
        self._suspects: set[str] = set(self._memory.suspects)
        self._nonces = 0

    def offer(self, want: Manifest, differing: Iterable[str], revision: int, now: float) -> None:
        """Takes what the proxy should hold from `revision` on; `differing` are the names that changed."""
        self.want = want
        if self.offered:
            names: Iterable[str] = differing
        else:
            self.offered = True
            names = [*want, *(name for name in (*self.held, *self._owed) if name not in want)]
        for name in names:
            self._examine(name, revision, now)

    def receive(self, request: Request, revision: int, now: float) -> None:
        """Takes a request: the stream's first of this type, or later subscriptions and an answer."""
        if not self.asked:
            self._begin(request, revision, now)
            return
        if request.nonce:
            self._answer(request.nonce, request.error, revision, now)
        for name in request.subscribe:
            self._subscribe(name, revision, now)
        for name in request.unsubscribe:
            self._unsubscribe(name, revision, now)

    def pardon(self, name: str, revision: int, now: float) -> None:
        """What we ourselves refused for its surroundings may be sent after all."""
        refusal = self.refused.get(name)
        if refusal is not None and refusal.by == OURSELVES:
            del self.refused[name]
            self._examine(name, revision, now)

    def pending(self, judge: Judge) -> bool:
        """Whether something due waits for its judge; asks about all of it."""
        return Clearance.PENDING in [judge(self.want[name]) for name in self.fresh]

    def send_fresh(
        self, now: float, held_back: Mapping[str, int] | None = None, judge: Judge = all_pass
    ) -> list[Push]:
        """The responses that bring everything due, except the names in `held_back` and what waits."""
        if self.greeting_due and self.pending(judge):
            return []  # a client that starts gets all of a type at once
        chosen: dict[str, Resource] = {}
        for name in sorted(self.fresh):
            if held_back and name in held_back:
                continue
            said = judge(self.want[name])
            if isinstance(said, Withheld):
                last_good = self._withhold(name, said)
                if last_good is not None:
                    chosen[name] = last_good
            elif said is Clearance.PASSED:
                chosen[name] = self.want[name]
        together = [one for name, one in chosen.items() if name not in self._alone]
        groups = [[one] for name, one in chosen.items() if name in self._alone]
        if together or (self.greeting_due and not groups):
            groups.insert(0, together)
        return [self._send(group, now) for group in groups]

    def _withhold(self, name: str, said: Withheld) -> Resource | None:
        """Notes that the wanted version is not sent; the last good one where the client needs it."""
        wanted, owed = self.want[name], name in self._owed
        needed = owed or name not in self.held
        self.refused[name] = Refusal(
            self.type_url,
            name,
            wanted.version,
            said.text,
            sources=wanted.sources,
            kept=name in self.held or said.instead is not None,
            since=self.fresh[name],
            by=said.by,
        )
        if needed and said.instead is not None:
            return said.instead
        since = self.fresh.pop(name)
        if owed and name not in self.held:
            self.missing[name] = since
        self._owed.discard(name)
        return None

    def send_gone(self, now: float) -> Push:
        """The response that takes away everything that should not be there."""
        return self._take_away(self.gone, now)

    def send_missing(self, now: float) -> Push:
        """The response that says which of the names asked for do not exist."""
        return self._take_away(self.missing, now)

    def _take_away(self, names: dict[str, int], now: float) -> Push:
        removed = tuple(sorted(names))
        since = min(names.values())
        names.clear()
        for name in removed:
            self.held.pop(name, None)
            self._owed.discard(name)
            self._suspects.discard(name)
        return self._fly(Push(self.type_url, self._next_nonce(), removed=removed), since, {}, now)

    def busy(self, now: float, patience_s: float) -> bool:
        """Whether a response is unanswered that is not older than the patience."""
        return any(now < flight.sent_at + patience_s for flight in self.flights.values())

    def memory(self) -> Memory:
        """What the next stream of the same client should know. A type not asked for keeps what was known."""
        if not self.asked:
            return self._memory
        return Memory(dict(self.refused), frozenset(self._suspects))

    def _begin(self, request: Request, revision: int, now: float) -> None:
        self.asked = True
        self.names = {name for name in request.subscribe if name != WILDCARD}
        self.wildcard = WILDCARD in request.subscribe or (not self.names and self.type_url in WHOLE_TYPES)
        for name, version in request.initial_versions.items():
            if self._covers(name):
                wanted = self.want.get(name)  # share the string: a thousand streams hold the same versions
                self.held[name] = wanted.version if wanted and wanted.version == version else version
        if request.initial_versions:  # a client that holds nothing has restarted: its judgement may differ
            self.refused = {
                name: refusal
                for name, refusal in self._memory.refused.items()
                if self._covers(name)
                and (wanted := self.want.get(name))
                and wanted.version == refusal.version
            }
        for name in self._suspects - self.want.keys():
            if self._covers(name):
                self._owed.add(name)
        self._owed |= self.names - request.initial_versions.keys() - self.refused.keys()
        self.greeting_due = self.wildcard and not request.initial_versions
        if self.offered:
            for name in {**self.want, **self.held, **dict.fromkeys(self._owed)}:
                self._examine(name, revision, now)

    def _subscribe(self, name: str, revision: int, now: float) -> None:
        if name == WILDCARD:
            self.wildcard = self.greeting_due = True
            for wanted in self.want:
                self._examine(wanted, revision, now)
            return
        self.names.add(name)
        self._owed.add(name)
        self._examine(name, revision, now)

    def _unsubscribe(self, name: str, revision: int, now: float) -> None:
        if name == WILDCARD:
            self.wildcard = False
            left = [held for held in {**self.held, **self.want} if not self._covers(held)]
        else:
            self.names.discard(name)
            left = [name]
        for dropped in left:
            if self._covers(dropped):  # still wanted through the wildcard, which the client needs to be told
                self._owed.add(dropped)
            else:
                self.held.pop(dropped, None)
                self.refused.pop(dropped, None)
                self._owed.discard(dropped)
                self._alone.discard(dropped)
                self._suspects.discard(dropped)
            self._examine(dropped, revision, now)

    def _answer(self, nonce: str, error: str | None, revision: int, now: float) -> None:
        flight = self.flights.pop(nonce, None)
        if flight is None:
            return
        if error is None:
            self._alone.difference_update(flight.versions)
            self._suspects.difference_update(flight.versions)
            return
        lone = len(flight.versions) == 1
        for name, version in flight.versions.items():
            before = flight.before[name]
            for later in self.flights.values():
                if later.before.get(name) == version:
                    later.before[name] = before
            if self.held.get(name) == version:
                if before is None:
                    del self.held[name]
                else:
                    self.held[name] = before
            wanted = self.want.get(name)
            if lone:
                self._alone.discard(name)
                if wanted is not None and wanted.version == version and self._covers(name):
                    self.refused[name] = Refusal(
                        self.type_url,
                        name,
                        version,
                        error,
                        sources=wanted.sources,
                        kept=before is not None,
                        since=flight.since,
                    )
            elif self._covers(name):
                self._alone.add(name)
                self._suspects.add(name)
                if wanted is None:  # the client may have taken it all the same: take it away
                    self._owed.add(name)
            self._examine(name, min(revision, flight.since), now)

    def _examine(self, name: str, since: int, now: float) -> None:
        """Sorts one name into fresh, gone, expected or none of them."""
        wanted = self.want.get(name)
        refusal = self.refused.get(name)
        appeared = since
        if refusal is not None and (wanted is None or wanted.version != refusal.version):
            appeared = min(appeared, self.refused.pop(name).since)
            refusal = None
        if not self._covers(name):
            self._forget(name)
            if wanted is None:
                self.expected.pop(name, None)
            else:
                self.expected.setdefault(name, (since, now))
            return
        appeared = min(appeared, self.expected.pop(name, (since, now))[0])
        owed = name in self._owed
        if wanted is None:
            due = self.gone if name in self.held or name in self._suspects else self.missing if owed else None
        elif owed or (refusal is None and self.held.get(name) != wanted.version):
            due = self.fresh
        else:
            due = None
        if due is self.fresh:
            self.fresh_at = max(self.fresh_at, since)
        if due is not None:
            since = min(appeared, due.get(name, since))
        self._forget(name)
        if due is not None:
            due[name] = since

    def _forget(self, name: str) -> None:
        for due in (self.fresh, self.gone, self.missing):
            due.pop(name, None)

    def _covers(self, name: str) -> bool:
        return self.asked and (self.wildcard or name in self.names)

    def _send(self, resources: list[Resource], now: float) -> Push:
        names = [resource.name for resource in resources]
        since = min((self.fresh.pop(name) for name in names), default=0)
        before = {name: self.held.get(name) for name in names}
        for resource in resources:
            self.held[resource.name] = resource.version
            if resource.version == self.want[resource.name].version:
                self.refused.pop(resource.name, None)
        self._owed.difference_update(names)
        self.greeting_due = False
        push = Push(self.type_url, self._next_nonce(), resources=tuple(resources))
        return self._fly(push, since, before, now)

    def _fly(self, push: Push, since: int, before: dict[str, str | None], now: float) -> Push:
        versions = {resource.name: resource.version for resource in push.resources}
        self.flights[push.nonce] = Flight(push.nonce, now, since, versions, before)
        return push

    def _next_nonce(self) -> str:
        self._nonces += 1
        return f"{self._nonces:x}"
