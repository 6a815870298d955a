"""A dialogue with one session: what the client says, in; what it is sent, out. Time passes only by `wait`."""

from collections.abc import Mapping

from isthmus.api.meta import Key
from isthmus.envoy.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    HOST,
    LISTENER,
    ROUTES,
    SECRET,
    Manifest,
    Resource,
)
from isthmus.xds.delta import Memory, Push
from isthmus.xds.session import PROXY_TYPES, Session
from isthmus.xds.vetting import Judge, all_pass
from isthmus.xds.wire import Request

SHORT = {
    CLUSTER: "CDS",
    ENDPOINTS: "EDS",
    SECRET: "SDS",
    LISTENER: "LDS",
    ROUTES: "RDS",
    EXTENSION: "ECDS",
    HOST: "HOST",
}
LONG = {short: type_url for type_url, short in SHORT.items()}


def resource(type_url: str, name: str, version: str, *sources: Key) -> Resource:
    return Resource(type_url, name, version, f"{name}@{version}".encode(), sources)


class Play:
    """Says things to a session as an Envoy would, and writes down what comes back."""

    def __init__(self, memories: Mapping[str, Memory] | None = None) -> None:
        self.now = 1000.0
        self.revision = 0
        self.judge: Judge = all_pass
        self.session = Session(PROXY_TYPES, memories=memories)
        self.unanswered: dict[str, list[Push]] = {}
        self._manifests: dict[str, Manifest] = {type_url: {} for type_url in PROXY_TYPES}

    def want(self, **manifests: str) -> None:
        """A commit: `want(CDS="a@1 b@1")` says what the proxy should hold; types left out stay."""
        self.revision += 1
        for short, text in manifests.items():
            type_url = LONG[short]
            pairs = [entry.split("@") for entry in text.split()]
            self._manifests[type_url] = {name: resource(type_url, name, version) for name, version in pairs}
        for type_url, manifest in self._manifests.items():
            old = self.session.watches[type_url].want
            differing = [name for name in {**old, **manifest} if old.get(name) != manifest.get(name)]
            self.session.offer(type_url, manifest, differing, self.revision, self.now)
        self.session.revision = self.revision

    def ask(self, short: str, *names: str, has: str = "", drop: str = "") -> None:
        """A subscription; `has` are the initial versions of a reconnecting client."""
        held = dict(entry.split("@") for entry in has.split())
        request = Request(LONG[short], names, tuple(drop.split()), held)
        self.session.receive(request, self.now)

    def ack(self, short: str) -> None:
        """Takes the oldest response of the type that is not answered."""
        push = self.unanswered[short].pop(0)
        self.session.receive(Request(push.type_url, nonce=push.nonce), self.now)

    def nack(self, short: str, text: str = "no") -> None:
        """Refuses the oldest response of the type that is not answered."""
        push = self.unanswered[short].pop(0)
        self.session.receive(Request(push.type_url, nonce=push.nonce, error=text), self.now)

    def sent(self) -> list[str]:
        """What is written now: `CDS a@1 b@1 -c`."""
        told = []
        for push in self.session.step(self.now, self.judge):
            short = SHORT[push.type_url]
            self.unanswered.setdefault(short, []).append(push)
            words = [f"{resource.name}@{resource.version}" for resource in push.resources]
            told.append(" ".join([short, *words, *(f"-{name}" for name in push.removed)]))
        return told

    def wait(self, seconds: float) -> None:
        self.now += seconds

    @property
    def answered(self) -> int:
        return self.session.watermark(self.now)

    def refusals(self) -> list[str]:
        return [f"{SHORT[r.type_url]} {r.name}@{r.version}: {r.text}" for r in self.session.refusals()]


def started(**manifests: str) -> Play:
    """A play in which an Envoy has taken everything and is quiet."""
    play = Play()
    play.want(**manifests)
    names = {short: [entry.split("@")[0] for entry in text.split()] for short, text in manifests.items()}
    for short in ("CDS", "EDS", "LDS", "RDS"):
        if short in {"CDS", "LDS"} or names.get(short):
            play.ask(short, *([] if short in {"CDS", "LDS"} else names[short]))
            while play.sent():
                while play.unanswered.get(short):
                    play.ack(short)
    play.wait(10)
    assert play.sent() == []
    assert play.answered == play.revision
    return play
