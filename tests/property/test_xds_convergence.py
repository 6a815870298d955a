"""Whatever happens on the way, a client that answers ends with what is wanted, minus what it refuses."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "xds"))

from xds_play import LONG, resource

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Manifest
from isthmus.xds.delta import Memory, Push
from isthmus.xds.session import PROXY_TYPES, Session
from isthmus.xds.wire import Request

WHOLE = (CLUSTER, LISTENER)


@dataclass
class Client:
    """A model of Envoy's side: takes the good of a response, refuses the bad, and tells of neither."""

    has: dict[str, dict[str, str]] = field(default_factory=lambda: {type_url: {} for type_url in PROXY_TYPES})
    """What it serves."""
    tells: dict[str, dict[str, str]] = field(default_factory=lambda: {t: {} for t in PROXY_TYPES})
    """What it would say in `initial_resource_versions`."""
    names: dict[str, set[str]] = field(default_factory=lambda: {t: set() for t in PROXY_TYPES})
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def take(self, push: Push) -> Request:
        bad = [resource.name for resource in push.resources if resource.version.startswith("bad")]
        for taken in push.resources:
            self.seen.append((taken.type_url, taken.name, taken.version))
            if push.type_url not in WHOLE and taken.name not in self.names[push.type_url]:
                continue  # Envoy drops what it does not watch (any more)
            if taken.name not in bad:
                self.has[push.type_url][taken.name] = taken.version
            if not bad:
                self.tells[push.type_url][taken.name] = taken.version
        for name in push.removed:
            self.has[push.type_url].pop(name, None)
            self.tells[push.type_url].pop(name, None)
        return Request(push.type_url, nonce=push.nonce, error=", ".join(bad) or None)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.revision = 0
        self.want: dict[str, Manifest] = {type_url: {} for type_url in PROXY_TYPES}
        self.client = Client()
        self.wire: list[Push] = []
        self.memories: dict[str, Memory] = {}
        self.connect()

    def connect(self) -> None:
        self.session = Session(PROXY_TYPES, memories=self.memories)
        self.wire.clear()
        self.offer()
        for type_url in PROXY_TYPES:
            names = self.client.names[type_url]
            if type_url in WHOLE or names:
                told = {
                    name: version
                    for name, version in self.client.tells[type_url].items()
                    if type_url in WHOLE or name in names
                }
                self.session.receive(Request(type_url, tuple(sorted(names)), initial_versions=told), self.now)

    def offer(self) -> None:
        self.revision += 1
        for type_url, want in self.want.items():
            old = self.session.watches[type_url].want
            differing = [name for name in {**old, **want} if old.get(name) != want.get(name)]
            self.session.offer(type_url, want, differing, self.revision, self.now)
        self.session.revision = self.revision

    def commit(self, type_url: str, names: dict[str, str]) -> None:
        self.want[type_url] = {name: resource(type_url, name, version) for name, version in names.items()}
        self.offer()

    def write(self) -> None:
        self.wire += self.session.step(self.now)

    def answer(self) -> None:
        if self.wire:
            self.session.receive(self.client.take(self.wire.pop(0)), self.now)

    def subscribe(self, type_url: str, name: str) -> None:
        if name in self.client.names[type_url]:
            self.client.names[type_url].discard(name)
            self.client.has[type_url].pop(name, None)
            self.client.tells[type_url].pop(name, None)
            self.session.receive(Request(type_url, unsubscribe=(name,)), self.now)
        else:
            self.client.names[type_url].add(name)
            self.session.receive(Request(type_url, (name,)), self.now)

    def reconnect(self, restart: bool) -> None:
        if restart:  # with a refused response open, nobody would know any more what the client took of it
            self.settle()
        self.memories = {} if restart else self.session.memories()
        self.connect()

    def settle(self) -> None:
        for _ in range(200):
            self.write()
            if self.wire:
                self.answer()
                continue
            at = self.session.wake_at(self.now)
            if at is None:
                return
            self.now = at
        raise AssertionError("it never comes to rest")


versions = st.sampled_from(("1", "2", "3", "bad4", "bad5"))
names = st.sampled_from(("a", "b", "c"))
steps = st.one_of(
    st.tuples(st.just("commit"), st.sampled_from(PROXY_TYPES), st.dictionaries(names, versions)),
    st.tuples(st.just("subscribe"), st.sampled_from((ENDPOINTS, ROUTES)), names),
    st.tuples(st.just("write")),
    st.tuples(st.just("answer")),
    st.tuples(st.just("wait"), st.sampled_from((0.1, 0.6, 6.0))),
    st.tuples(st.just("reconnect"), st.booleans()),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=30))
def test_client_ends_with_what_is_wanted(script: list[tuple[str, *tuple[object, ...]]]) -> None:
    world = World()
    for action, *args in script:
        if action == "wait":
            world.now += args[0]  # type: ignore[operator]
        else:
            getattr(world, action)(*args)
    world.settle()

    refused = {(refusal.type_url, refusal.name) for refusal in world.session.refusals()}
    kept = any(type_url in {LISTENER, ROUTES} for type_url, _ in refused)
    for type_url in PROXY_TYPES:
        covered = set(world.want[type_url]) if type_url in WHOLE else world.client.names[type_url]
        for name in covered & set(world.want[type_url]):
            wanted = world.want[type_url][name].version
            if wanted.startswith("bad"):
                assert (type_url, name) in refused
            else:
                assert (type_url, name) not in refused
                assert world.client.has[type_url].get(name) == wanted
        if type_url in (LISTENER, ROUTES) or not kept:
            left = set(world.client.has[type_url]) - set(world.want[type_url])
            assert left & (left if type_url in WHOLE else world.client.names[type_url]) == set()
    assert world.session.watermark(world.now) == world.revision

    # the state is at rest: a client that comes back with all it has is sent nothing
    world.client.seen.clear()
    world.reconnect(restart=False)
    world.settle()
    # (one that has nothing of a type may be a new process, and is sent again what was refused)
    assert [seen for seen in world.client.seen if world.client.tells[seen[0]]] == []


def test_play_knows_every_type() -> None:
    assert set(PROXY_TYPES) < set(LONG.values())
