"""Whatever happens on the way, a real Envoy ends with what a fresh engine makes of what is stored.

    writes, deletions, broken streams, restarts ──▶ at rest ──▶ config dump = fresh render

`ISTHMUS_HISTORIES=500` asks for more histories than the few of every run, and for other ones each time.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "envoy"))

from fed_envoy import Envoy, Held, Identities, door, envoy, expected
from real_envoy import can_unshare
from real_plane import Plane, document, read, up

from isthmus.api.meta import Key, Object
from isthmus.envoy.resource import CLUSTER, LISTENER, ROUTES, Manifest, ProxyId
from isthmus.server.admission import Rejected

HISTORIES = int(os.environ.get("ISTHMUS_HISTORIES", "0"))
VM = ProxyId("shop", "vm-1")
REFUSED_BY_ENVOY = "/(abcdefghijklmnopqrstuvwxyz0123456789){1000}"
"""As a program it has more instructions than we let Envoy take; only Envoy can tell."""
HOSTS = ("a", "b", "a.shop.svc.cluster.local", "ext.test", "api.wild.test", "*.wild.test", "gone")
PORTS = ((80, "http"), (3306, "tcp"), (8000, "unnamed"), (443, "tls"), (9090, "grpc"), (81, "http-two"))

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(100 + 10 * HISTORIES),
    pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)"),
]

# objects: few names, so that later writes meet earlier ones

ports: st.SearchStrategy[list[tuple[int, str]]] = st.lists(
    st.sampled_from(PORTS), min_size=1, max_size=3, unique=True
)
hosts = st.sampled_from(HOSTS)
versions = st.sampled_from(("v1", "v2"))


def service_ports(chosen: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    return [{"port": number, "name": name} for number, name in chosen]


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(("a", "b")))
    headless = {"clusterIP": "None"} if draw(st.booleans()) else {}
    return document(
        "Service", name, {**headless, "selector": {"app": name}, "ports": service_ports(draw(ports))}
    )


@st.composite
def service_entries(draw: st.DrawFn) -> dict[str, Any]:
    resolution = draw(st.sampled_from(("STATIC", "STATIC", "NONE", "DNS")))
    host = draw(st.sampled_from(("ext.test", "*.wild.test", "api.wild.test", "a.shop.svc.cluster.local")))
    spec: dict[str, Any] = {
        "hosts": [host],
        "resolution": resolution,
        "location": draw(st.sampled_from(("MESH_EXTERNAL", "MESH_INTERNAL"))),
        "ports": [
            {"number": number, "name": name, "protocol": name.partition("-")[0].upper()}
            for number, name in draw(ports)
            if name != "unnamed"
        ]
        or [{"number": 80, "name": "http", "protocol": "HTTP"}],
    }
    if draw(st.booleans()):
        spec["addresses"] = draw(st.sampled_from((["10.9.0.1"], ["10.9.0.0/16"], ["10.9.0.1", "10.9.0.2"])))
    if resolution == "STATIC":
        if draw(st.booleans()):
            spec["workloadSelector"] = {"labels": {"app": "a"}}
        else:
            address = draw(st.sampled_from(("192.0.2.1", "192.0.2.2")))
            spec["endpoints"] = [{"address": address, "labels": {"version": draw(versions)}}]
    elif resolution == "DNS" and "*" in host:
        spec["endpoints"] = [{"address": "target.test"}]
    return document("ServiceEntry", draw(st.sampled_from(("e1", "e2"))), spec)


@st.composite
def workload_entries(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(("w1", "w2", "w3")))
    labels = {"app": draw(st.sampled_from(("a", "b"))), "version": draw(versions)}
    spec: dict[str, Any] = {"address": f"10.0.1.{name[1]}", "labels": labels, "serviceAccount": "shop"}
    if draw(st.booleans()):
        spec["weight"] = draw(st.integers(1, 5))
    return document("WorkloadEntry", name, spec)


@st.composite
def virtual_services(draw: st.DrawFn) -> dict[str, Any]:
    host = draw(hosts)
    destination: dict[str, Any] = {"host": draw(hosts)}
    if draw(st.booleans()):
        destination["subset"] = draw(versions)
    match draw(st.sampled_from(("http", "http", "regex", "tcp", "tls", "refused"))):
        case "tcp":
            routes: dict[str, Any] = {
                "tcp": [{"match": [{"port": 3306}], "route": [{"destination": destination}]}]
            }
        case "tls":
            sni = host if "." in host else f"{host}.test"
            match = [{"port": 443, "sniHosts": [sni]}]
            routes = {"tls": [{"match": match, "route": [{"destination": destination}]}]}
        case kind:
            uri = {
                "http": {"prefix": "/x"},
                "regex": {"regex": "/x.*"},
                "refused": {"regex": REFUSED_BY_ENVOY},
            }
            first = {"match": [{"uri": uri[kind]}], "route": [{"destination": destination}]}
            rest = {"route": [{"destination": {"host": host}}], "timeout": f"{draw(st.integers(1, 3))}s"}
            routes = {"http": [first, rest]}
    bound = draw(st.sampled_from(([], [], ["door"], ["mesh", "door", "gate"])))
    spec = {"hosts": [host], **({"gateways": bound} if bound else {}), **routes}
    return document("VirtualService", draw(st.sampled_from(("v1", "v2"))), spec)


@st.composite
def destination_rules(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {"host": draw(hosts)}
    if draw(st.booleans()):
        spec["subsets"] = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")]
    if draw(st.booleans()):
        mode = draw(st.sampled_from(("DISABLE", "SIMPLE", "ISTIO_MUTUAL")))
        spec["trafficPolicy"] = {"tls": {"mode": mode}}
    if draw(st.booleans()):
        pool = {"tcp": {"maxConnections": draw(st.integers(1, 3))}}
        spec["trafficPolicy"] = {**spec.get("trafficPolicy", {}), "connectionPool": pool}
    return document("DestinationRule", draw(st.sampled_from(("d1", "d2"))), spec)


@st.composite
def sidecars(draw: st.DrawFn) -> dict[str, Any]:
    seen = draw(st.sampled_from(([], ["./*"], ["*/*"], ["./a.shop.svc.cluster.local", "*/ext.test"])))
    spec: dict[str, Any] = {"egress": [{"hosts": seen}]} if seen else {}
    if draw(st.booleans()):
        spec["outboundTrafficPolicy"] = {"mode": "REGISTRY_ONLY"}
    if draw(st.booleans()):
        port = {"number": 9080, "name": "http", "protocol": "HTTP"}
        spec["ingress"] = [{"port": port, "defaultEndpoint": "127.0.0.1:8080"}]
        spec["workloadSelector"] = {"labels": {"app": "a"}}
    return document("Sidecar", "default", spec)


@st.composite
def gateways(draw: st.DrawFn) -> dict[str, Any]:
    servers = {
        "http": {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [draw(hosts)]},
        "tcp": {"port": {"number": 3306, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
        "tls": {
            "port": {"number": 443, "name": "tls", "protocol": "TLS"},
            "hosts": ["*.wild.test"],
            "tls": {"mode": "PASSTHROUGH"},
        },
    }
    chosen = draw(st.lists(st.sampled_from(sorted(servers)), min_size=1, unique=True))
    spec = {"selector": {"app": "a"}, "servers": [servers[name] for name in chosen]}
    return document("Gateway", draw(st.sampled_from(("door", "gate"))), spec)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    mode = {"mode": draw(st.sampled_from(("STRICT", "PERMISSIVE", "DISABLE")))}
    if draw(st.booleans()):
        return document("PeerAuthentication", "default", {"mtls": mode})
    spec = {"selector": {"matchLabels": {"app": "a"}}, "portLevelMtls": {"3306": mode, "80": mode}}
    return document("PeerAuthentication", "ports", spec)


KINDS = (
    services,
    service_entries,
    workload_entries,
    virtual_services,
    destination_rules,
    sidecars,
    gateways,
    policies,
)
objects = st.one_of(*(kind() for kind in KINDS))
steps = st.one_of(
    st.tuples(st.just("write"), st.lists(objects, min_size=1, max_size=4)),
    st.tuples(st.just("write"), st.lists(objects, min_size=1, max_size=2)),
    st.tuples(st.just("delete"), st.integers(0, 20)),
    st.tuples(st.just("settle"), st.none()),
    st.tuples(st.just("breathe"), st.sampled_from((1, 5, 20))),
    st.tuples(st.just("break_streams"), st.none()),
    st.tuples(st.just("restart"), st.none()),
)


class World:
    """A control plane, and an Envoy that it feeds; both are where the test's steps find them."""

    def __init__(self, directory: Path, identities: Identities, stack: AsyncExitStack) -> None:
        self.directory, self.identities, self._stack = directory, identities, stack
        self.socket = directory / "ads.sock"
        self.written = False
        """Whether something that Envoy refuses was ever written."""

    async def start(self, *first: Object) -> None:
        self._life = await self._stack.enter_async_context(AsyncExitStack())
        self.plane: Plane = await self._life.enter_async_context(up(self.directory / "store.db", VM))
        if first:
            await self.plane.write(*first)
        await self._open()

    async def _open(self) -> None:
        self._door = await self._life.enter_async_context(AsyncExitStack())
        await self._door.enter_async_context(door(self.plane.fleet, self.socket, self.identities))

    async def write(self, documents: Sequence[Mapping[str, Any]]) -> None:
        for made in read(*documents):
            try:
                await self.plane.write(made)
                self.written |= is_refused(made)
            except Rejected as rejected:
                note(f"not admitted: {rejected.errors}")

    async def delete(self, number: int) -> None:
        found = [obj.key for obj in await self.plane.objects() if obj.key not in FOUNDATION]
        if found:
            await self.plane.delete(found[number % len(found)])

    async def settle(self, _: None) -> None:
        await self.plane.settled()

    async def breathe(self, milliseconds: int) -> None:
        await asyncio.sleep(milliseconds / 1000)

    async def break_streams(self, _: None) -> None:
        await self._door.aclose()
        await self._open()

    async def restart(self, _: None) -> None:
        await self._life.aclose()
        await self.start()


def base(role: str) -> list[Object]:
    """A machine of a role, and a service."""
    spec = {"address": "10.0.0.1", "labels": {"app": "a"}, "serviceAccount": "shop"}
    annotations = {"isthmus.dev/proxy": "gateway"} if role == "gateway" else {}
    return read(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        document("WorkloadEntry", "vm-1", spec, annotations=annotations),
        document("Service", "c", {"selector": {"app": "a"}, "ports": service_ports(((82, "http"),))}),
    )


FOUNDATION = {obj.key for obj in base("sidecar")}


def is_refused(obj: Object) -> bool:
    return REFUSED_BY_ENVOY in obj.spec.model_dump_json()


async def converged(world: World, envoy: Envoy) -> None:
    """The Envoy holds what it should, but for what it refused: that was wrong, and its authors are told."""
    wanted = await world.plane.settled()
    refused = world.plane.refused
    authors = {obj.key for obj in await world.plane.objects() if is_refused(obj)}
    for type_url, name in refused:
        made_from = set(wanted[type_url][name].sources)
        assert made_from & authors, f"{name} was refused, though nothing is wrong with {sorted(made_from)}"
        for key in made_from & authors:
            condition = await told(world.plane, key)
            assert "RE2 program size" in condition["message"], condition
    assert {type_url for type_url, _ in refused} <= {ROUTES}
    held = await ready(envoy, wanted, refused)
    for type_url, content in expected(wanted).items():
        good = {name: each for name, each in content.items() if (type_url, name) not in refused}
        seen = held.resources[type_url]
        assert {name: seen.get(name) for name in good} == good
    for type_url in (CLUSTER, ROUTES):  # a listener of which only chains change keeps its old version's name
        versions = {n: r.version for n, r in wanted[type_url].items() if (type_url, n) not in refused}
        assert {name: held.versions[type_url].get(name) for name in versions} == versions
    counted = await envoy.refusals()
    assert bool(counted) <= world.written, counted
    assert all(".rds." in name and name.endswith("update_rejected") for name in counted), counted


async def ready(envoy: Envoy, wanted: Mapping[str, Manifest], refused: Mapping[tuple[str, str], str]) -> Held:
    """What the Envoy holds when nothing warms, and nothing is left that it should not have."""
    deadline = monotonic() + 15
    while True:
        held = await envoy.held()
        left = {
            (t, name)
            for t in (CLUSTER, LISTENER, ROUTES)
            for name in held.resources[t].keys() - wanted[t].keys()
        }
        if refused:
            # what the last good routes lead to stays with them, and new listeners wait for good ones
            left = {(t, name) for t, name in left if t == LISTENER}
        if not left and (refused or not held.warming):
            return held
        assert monotonic() < deadline, f"left: {left}, warming: {held.warming}"
        await asyncio.sleep(0.01)


async def told(plane: Plane, key: Key) -> Mapping[str, Any]:
    async with asyncio.timeout(10):
        while (condition := await plane.condition(key)).get("reason") != "Rejected":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return condition


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return Identities.in_directory(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("role", ["sidecar", "gateway"])
@settings(
    max_examples=HISTORIES or 10,
    derandomize=not HISTORIES,
    database=None,
    # to make a failing history shorter takes minutes: ask for more histories, and it is done
    phases=(Phase.generate, Phase.shrink) if HISTORIES else (Phase.generate,),
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.large_base_example,
    ],
)
@given(history=st.lists(steps, min_size=3, max_size=12))
async def test_envoy_ends_with_what_is_stored(
    identities: Identities, role: str, history: list[tuple[str, Any]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with AsyncExitStack() as stack:
            world = World(directory, identities, stack)
            await world.start(*base(role))
            proxy = await stack.enter_async_context(envoy(directory, world.socket, identities, VM))
            for action, what in history:
                await getattr(world, action)(what)
            await converged(world, proxy)

            for key in [obj.key for obj in await world.plane.objects() if is_refused(obj)]:
                await world.plane.delete(key)
            await converged(world, proxy)
            assert world.plane.refused == {}
