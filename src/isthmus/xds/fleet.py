"""All streams: engine commits -> what each must be sent; its answers -> verdicts on objects.

    committed()      wakes every stream, notes which objects have to be judged
    advance(stream)  asks the engine for the manifests of its workload, offers its session what differs, and
                     returns the responses that may be written now
    receive(stream)  takes a request; an answer may complete or refuse what an object asked for
    judge()          the verdicts that changed since the last call

All of it is synchronous and runs on one event loop: the engine has one owner and needs no lock.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from isthmus.api.meta import Key
from isthmus.engine import Engine, Reader
from isthmus.envoy.resource import Manifest, ProxyId, Resource
from isthmus.xds.analysis import Analysis, ProblemsQuery, Rehearsal
from isthmus.xds.culprits import Culprits, ManifestQuery, Stage
from isthmus.xds.delta import Memory
from isthmus.xds.judgement import Judgement
from isthmus.xds.node import Node
from isthmus.xds.returning import Returning
from isthmus.xds.session import AGENT_TYPES, PROXY_TYPES, Session, TooMuch
from isthmus.xds.standing import Client, Shown, Stream, StreamState, outstanding, state
from isthmus.xds.verdicts import Answers, Committed, Verdict
from isthmus.xds.vetting import Clearance, Judge, Vetting, Withheld, all_pass
from isthmus.xds.wire import Frames, Request, response

_log = logging.getLogger(__name__)

UnsoundQuery = Callable[[Reader, ProxyId], Mapping[tuple[str, str], str]]
"""What must not be sent to a proxy, and why, by type and name."""
Registered = Callable[[ProxyId], str | None]
"""The service account under which a workload is registered; None when it is not."""
Outdated = Callable[[ProxyId, datetime], bool]
"""Whether a workload was enrolled anew since a certificate was signed: that one is another VM's."""


MAX_STREAMS = 4
"""Of one client: the living one, and those that broke without a word and are not found out yet."""


class Unregistered(Exception):
    """The stream's workload has no WorkloadEntry, or one of another service account or enrolment."""


class Fleet:
    """All streams. `sent` counts resources by type, and `responses` messages, since the process started."""

    def __init__(
        self,
        engine: Engine,
        *,
        manifest: ManifestQuery,
        problems: ProblemsQuery,
        objects: Mapping[Key, Committed],
        registered: Registered,
        outdated: Outdated,
        now: Callable[[], float],
        vetting: Vetting | None = None,
        stage: Stage | None = None,
        unsound: UnsoundQuery = lambda q, proxy: {},
        rehearsal: Rehearsal = lambda q, keys: iter(()),
    ) -> None:
        self.sent: Counter[str] = Counter()
        self.responses: Counter[str] = Counter()
        self.failures = 0
        """Queries that raised: bugs of ours, contained."""
        self._spent_s = 0.0
        self._engine = engine
        self._manifest = manifest
        self._problems = problems
        self._unsound = unsound
        self._registered = registered
        self._outdated = outdated
        self._now = now
        self.vetting = vetting or Vetting(now)
        self.vetting.on_verdict(self._vetted)
        self._culprits = Culprits(self.vetting, stage, manifest, self._holders, now) if stage else None
        self._frames = Frames()
        self._streams: dict[Stream, None] = {}
        self._memories: dict[Client, tuple[int, dict[str, Memory]]] = {}
        """What clients refused when their streams closed, and the numbers of these."""
        self._opened = 0
        self._returning = Returning()
        self._differences: dict[tuple[int, int], tuple[Manifest, Manifest, Collection[str]]] = {}
        self._judgement = Judgement(objects)
        self._analysis = Analysis(engine, problems, rehearsal, now=now, failed=self._failed)
        self._listeners: list[Callable[[], None]] = []
        self._collect_at = 2000

    def on_answer(self, listener: Callable[[], None]) -> None:
        """Calls the listener whenever `judge` may have something new to say."""
        self._listeners.append(listener)

    def expect(self, proxies: Iterable[ProxyId], within_s: float) -> None:
        """These were configured by an earlier process: they are waited for, but not longer than that."""
        self._returning = Returning(proxies, self._now() + within_s)

    def open(self, node: Node, shown: Shown, wake: Callable[[], None]) -> Stream:
        """Adds a stream; Unregistered when its workload may not have one, TooMuch when it has enough."""
        self._check(node, shown)
        client = node.role, node.proxy
        others = [stream for stream in self._streams if stream.client == client]
        if len(others) >= MAX_STREAMS:
            raise TooMuch(f"node {node.id!r} has {len(others)} streams open already: try again in a minute")
        _, known = self._memories.get(client, (0, {}))
        if others:  # a superseded stream, whose end nobody has noticed yet, knows more
            known = others[-1].session.memories()
        types = AGENT_TYPES if node.role == "agent" else PROXY_TYPES
        session = Session(types, memories=known)
        stream = Stream(node, shown, session, wake, self._now(), answers=Answers(node.id, -1))
        self._opened += 1
        stream.number = self._opened
        self._streams[stream] = None
        self._changed()
        return stream

    def close(self, stream: Stream) -> None:
        """Takes a stream out; what its client refused is remembered for the next one."""
        self._streams.pop(stream, None)
        remembered, _ = self._memories.get(stream.client, (0, {}))
        if remembered < stream.number:  # a superseded stream closes late, and knows less than its successor
            self._memories[stream.client] = stream.number, stream.session.memories()
        self._changed()

    @property
    def spent_s(self) -> float:
        """Time spent in queries, since the process started."""
        return self._spent_s + self._analysis.spent_s

    @property
    def judged(self) -> int:
        """How often an object was judged, since the process started."""
        return self._judgement.judged

    def committed(self, touched: Collection[Key] = ()) -> None:
        """Tells every stream of a new revision, in which the `touched` objects came, changed or went."""
        if self._culprits is not None:
            self._culprits.touched(touched)
        self._judgement.touch(touched)
        self._analysis.touch(touched)
        self._differences.clear()
        for stream in self._streams:
            stream.wake()
        for client in [known for known in self._memories if self._registered(known[1]) is None]:
            del self._memories[client]
        if len(self._engine) > self._collect_at:
            self._collect()
        self._changed()

    def receive(self, stream: Stream, request: Request) -> None:
        """Takes a request of the stream's client."""
        self._evaluate(stream)  # the first request is compared with what the client should hold
        for name, version in request.initial_versions.items():
            held = stream.manifests.get(request.type_url, {}).get(name)
            if held is not None and held.version == version:
                self.vetting.trust(held)
        before = set(stream.session.refusals())
        stream.session.receive(request, self._now())
        for refusal in stream.session.refusals():
            if refusal not in before:
                kind = refusal.type_url.rpartition(".")[2]
                _log.warning("refused node=%s %s=%s: %s", stream.node.id, kind, refusal.name, refusal.text)
        stream.wake()

    def advance(self, stream: Stream) -> list[bytes]:
        """The responses to write now, in order; Unregistered when the workload has left."""
        if self._culprits is not None:
            self._culprits.go_on()
        self._evaluate(stream)
        now = stream.looked_at = self._now()
        messages = []
        for push in stream.session.step(now, self._judge(stream)):
            stream.sent[push.type_url] += len(push.resources)
            self.sent[push.type_url] += len(push.resources)
            self.responses[push.type_url] += 1
            frames = map(self._frames, push.resources)
            messages.append(response(push.type_url, frames, push.removed, push.nonce))
        self._heard(stream)
        return messages

    def wait_s(self, stream: Stream) -> float | None:
        """How long `advance` may be left alone unless the stream is woken; None for ever.

        What fell due since it was called, while its messages were written, is due at once.
        """
        since = stream.looked_at
        times = [
            stream.session.wake_at(since),
            self.vetting.wake_at(since) if stream.session.pending else None,
        ]
        if self._culprits is not None:
            times.append(self._culprits.wake_at())
        now = self._now()
        return min((max(0.0, at - now) for at in times if at is not None), default=None)

    def judge(self) -> dict[Key, Verdict]:
        """The verdicts that changed since the last call; analysis goes on for a turn."""
        analysis = self._analysis
        analysis.turn()
        aside = self._culprits.aside if self._culprits is not None else {}
        return self._judgement.judge(self._answers(), analysis.problems, analysis.revision, aside)

    def overdue(self) -> None:
        """Waiting has lasted: the next judgement tells for whom, and the log what for when nothing moves."""
        now, revision = self._now(), self._engine.revision
        for stream in self._streams:
            if stream.stall.is_news(stream.session.watermark(now), revision, now):
                _log.warning("late node=%s: %s", stream.node.id, outstanding(stream.session.watches, now))
        self._judgement.overdue(self._answers())

    def judge_in_s(self) -> float | None:
        """How long until analysis goes on with what was committed; None when it has seen everything."""
        return self._analysis.next_in_s()

    def connected(self) -> list[StreamState]:
        """How every open stream stands, by node."""
        now = self._now()
        states = [state(stream, self._engine.revision, now) for stream in self._streams]
        return sorted(states, key=lambda state: (state.namespace, state.workload, state.role))

    def has(self, proxy: ProxyId) -> bool:
        """Whether the workload has a stream open, of its proxy or of its agent."""
        return any(stream.node.proxy == proxy for stream in self._streams)

    def _check(self, node: Node, shown: Shown) -> None:
        registered = self._registered(node.proxy)
        where = f"workload {node.proxy.namespace}/{node.proxy.workload}"
        if registered is None:
            raise Unregistered(f"{where} is not registered (left?): join again with a new token")
        if registered != shown.service_account:
            raise Unregistered(
                f"{where} is registered with another service account than this certificate's,"
                f" {shown.service_account!r}: join again with a new token"
            )
        if self._outdated(node.proxy, shown.signed_at):
            raise Unregistered(f"{where} was enrolled after this certificate: join again with a new token")

    def _evaluate(self, stream: Stream) -> None:
        self._check(stream.node, stream.shown)
        revision, now = self._engine.revision, self._now()
        if stream.evaluated == revision:
            return
        self._query(stream, revision, now)
        self._spent_s += self._now() - now

    def _query(self, stream: Stream, revision: int, now: float) -> None:
        whole = True
        for type_url in AGENT_TYPES if stream.node.role == "agent" else PROXY_TYPES:
            old = stream.manifests.get(type_url)
            try:
                want = self._engine(self._manifest, type_url, stream.node.proxy)
            except Exception:  # a bug of ours: the proxy keeps the last good, and the objects stay unanswered
                self._failed(f"manifest type={type_url} node={stream.node.id}")
                whole = False
                continue
            if want is not old:
                stream.manifests[type_url] = want
                differing = self._difference(old, want) if old is not None else ()
                stream.session.offer(type_url, want, differing, revision, now)
        if stream.node.role == "proxy":
            whole &= self._check_soundness(stream, revision, now)
        stream.evaluated = revision
        if whole:
            stream.session.revision = revision

    def _check_soundness(self, stream: Stream, revision: int, now: float) -> bool:
        try:
            unsound = self._engine(self._unsound, stream.node.proxy)
        except Exception:  # a bug of ours: what was found last still counts
            self._failed(f"soundness node={stream.node.id}")
            return False
        for type_url, name in stream.unsound.keys() - unsound.keys():
            stream.session.watches[type_url].pardon(name, revision, now)
        stream.unsound = unsound
        return True

    def _judge(self, stream: Stream) -> Judge:
        if stream.node.role == "grpc":
            return all_pass  # an Envoy cannot say what a program would say
        if not stream.unsound:
            return self.vetting.judge

        def judge(resource: Resource) -> Clearance | Withheld:
            text = stream.unsound.get((resource.type_url, resource.name))
            return self.vetting.judge(resource) if text is None else self.vetting.unsound(resource, text)

        return judge

    def _difference(self, old: Manifest, new: Manifest) -> Collection[str]:
        """Names whose version differs; computed once for all streams that go from the one to the other."""
        known = self._differences.get((id(old), id(new)))
        if known is None:
            names = [
                name
                for name, resource in new.items()
                if (before := old.get(name)) is not resource
                and (before is None or before.version != resource.version)
            ]
            for name in names:
                if name in old:
                    self.vetting.follows(new[name], old[name])
            names += [name for name in old if name not in new]
            # the manifests are held along with the answer, so that their ids cannot be reused meanwhile
            known = self._differences[id(old), id(new)] = (old, new, names)
        return known[2]

    def _heard(self, stream: Stream) -> None:
        now = self._now()
        session = stream.session
        answers = Answers(stream.node.id, session.watermark(now), tuple(session.refusals()))
        if answers != stream.answers:
            stream.answers = answers
            self._changed()

    def _holders(self, resource: Resource) -> list[ProxyId]:
        found = []
        for stream in self._streams:
            held = stream.manifests.get(resource.type_url, {}).get(resource.name)
            if stream.node.role == "proxy" and held is not None and held.version == resource.version:
                found.append(stream.node.proxy)
        return found

    def _answers(self) -> list[Answers]:
        """Of every proxy, its newest stream: an older one is a connection that nobody has hung up yet.

        Who is expected back has answered nothing.
        """
        newest = {stream.client: stream for stream in self._streams if stream.node.role == "proxy"}
        absent = self._returning.answers((proxy for _, proxy in newest), self._registered, self._now())
        return [*(stream.answers for stream in newest.values()), *absent]

    def _collect(self) -> None:
        roots: list[tuple[Callable[..., object], tuple[str | ProxyId, ...]]] = [(self._problems, ())]
        roots += [
            (self._manifest, (type_url, stream.node.proxy))
            for stream in self._streams
            for type_url in stream.manifests
        ]
        roots += [(self._unsound, (s.node.proxy,)) for s in self._streams if s.node.role == "proxy"]
        self._engine.collect(roots)
        self._frames.age()
        self.vetting.age()
        self._collect_at = 2 * len(self._engine) + 2000

    def _vetted(self) -> None:
        for stream in self._streams:
            if stream.session.pending:
                stream.wake()
        self._changed()

    def _failed(self, what: str) -> None:
        self.failures += 1
        _log.exception("query failed: %s", what)

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()
