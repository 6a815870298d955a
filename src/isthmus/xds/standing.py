"""One open stream, and how it stands, for people."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from isthmus.envoy.resource import Manifest, ProxyId
from isthmus.xds.delta import Watch
from isthmus.xds.node import Node
from isthmus.xds.session import Session
from isthmus.xds.verdicts import Answers

Client = tuple[str, ProxyId]
"""Role and workload: whose streams follow one another."""

STALLED_S = 10.0
"""After so long without an answer that is still to come, it is told what is waited for."""
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """What a client's certificate says besides its workload's name."""

    service_account: str
    signed_at: datetime


@dataclass(eq=False, slots=True)
class Stream:
    """One open stream. Owned by the fleet; the transport holds it only to hand it back."""

    node: Node
    shown: Shown
    session: Session
    wake: Callable[[], None]
    opened_at: float
    looked_at: float = 0.0
    """When it was last found out what may be sent: what falls due later has not been seen."""
    sent: Counter[str] = field(default_factory=Counter)
    """Resources sent, by type."""
    manifests: dict[str, Manifest] = field(default_factory=dict)
    number: int = 0
    """Counts the fleet's streams: of two of one client the higher is the later."""
    evaluated: int = -1
    unsound: Mapping[tuple[str, str], str] = field(default_factory=dict)
    answers: Answers = field(default_factory=lambda: Answers("", -1))
    stall: "Stall" = field(default_factory=lambda: Stall())

    @property
    def client(self) -> Client:
        """Whose stream it is."""
        return self.node.role, self.node.proxy


@dataclass(frozen=True, slots=True)
class TypeState:
    """How one type stands on one stream."""

    subscribed: bool
    wanted: int
    held: int
    in_flight: int
    pending: int
    refused: Mapping[str, str]
    """The client's words by resource name."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """How one stream stands, for people."""

    node: str
    role: str
    namespace: str
    workload: str
    connected_s: float
    synced: bool
    sent: Mapping[str, int]
    types: Mapping[str, TypeState]


def type_state(watch: Watch) -> TypeState:
    """How a type stands."""
    return TypeState(
        subscribed=watch.asked,
        wanted=len(watch.want),
        held=len(watch.held),
        in_flight=len(watch.flights),
        pending=len(watch.fresh) + len(watch.gone),
        refused={name: refusal.text for name, refusal in watch.refused.items()},
    )


@dataclass(slots=True)
class Stall:
    """Since when a stream has not come on, though there is something that its client has not answered."""

    watermark: int = -1
    since: float = 0.0
    told: bool = False

    def is_news(self, watermark: int, revision: int, now: float) -> bool:
        """Whether it has stood still for so long that it is to be told: once, until it comes on."""
        if watermark != self.watermark or watermark >= revision:
            self.watermark, self.since, self.told = watermark, now, False
            return False
        news = not self.told and now >= self.since + STALLED_S
        self.told |= news
        return news


def state(stream: Stream, revision: int, now: float) -> StreamState:
    """How a stream stands, at a revision of the engine."""
    return StreamState(
        node=stream.node.id,
        role=stream.node.role,
        namespace=stream.node.proxy.namespace,
        workload=stream.node.proxy.workload,
        connected_s=now - stream.opened_at,
        synced=stream.answers.watermark >= revision,
        sent=dict(stream.sent),
        types={url: type_state(watch) for url, watch in stream.session.watches.items()},
    )


def outstanding(watches: Mapping[str, Watch], now: float) -> str:
    """What a stream waits for, by type: what was sent and is not answered, and what is not sent yet."""
    found = []
    for url, watch in watches.items():
        kind = url.rpartition(".")[2]
        for flight in watch.flights.values():
            names = _some(flight.versions) or "a removal"
            found.append(f"{kind} {names} unanswered for {now - flight.sent_at:.0f} s")
        for what, names_due in (
            ("not sent", watch.fresh),
            ("not taken away", watch.gone),
            ("not asked for", watch.expected),
        ):
            if names_due:
                found.append(f"{kind} {_some(names_due)} {what}")
        if not watch.offered:
            found.append(f"{kind} not known")
    return "; ".join(found) or "nothing"


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_MOST_NAMED])
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown
