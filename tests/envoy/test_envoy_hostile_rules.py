"""Rules that cannot work, or are far too many: the object that loses says so, and everything else goes on.

Through the product's store, engine and streams into a real Envoy, with no canary before it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from fed_envoy import Envoy, Identities, door, envoy, expected
from real_envoy import can_unshare
from real_plane import Plane, document, read, up

from isthmus.api.meta import Key
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, ProxyId
from isthmus.server.admission import Rejected
from isthmus.store.base import Create

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(200),
    pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)"),
]
VM = ProxyId("shop", "vm-1")
ONLY_ENVOY_KNOWS = "(abcdefghijklmnopqrstuvwxyz0123456789){1000}"
"""A program of 38,004 instructions."""
UNUSABLE = r"(?=a)"


def service(name: str, *ports: int) -> dict[str, Any]:
    listed = [{"port": port, "name": f"http-{port}"} for port in ports]
    return document("Service", name, {"selector": {"app": name}, "ports": listed})


def rule(name: str, host: str, *http: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    return document("VirtualService", name, {"hosts": [host], "http": [*http]}, **metadata)


def to(host: str, **rest: Any) -> dict[str, Any]:
    return {"route": [{"destination": {"host": host}}], **rest}


BASE = (
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    document(
        "WorkloadEntry", "vm-1", {"address": "10.0.0.1", "labels": {"app": "a"}, "serviceAccount": "shop"}
    ),
    service("a", 80),
    service("b", 80),
    service("c", 81),
)


@dataclass
class Mesh:
    """A plane and its Envoy; what a test writes is gone after it."""

    plane: Plane
    envoy: Envoy

    async def write(self, *documents: Mapping[str, Any]) -> None:
        await self.plane.write(*read(*documents))

    async def force(self, *documents: Mapping[str, Any]) -> None:
        """Stores what admission would refuse, as an older control plane may have."""
        await self.plane.store.apply([Create(obj) for obj in read(*documents)])

    async def told(self, kind: str, name: str, type_: str, status: str) -> str:
        """The message of a condition, when it has this status."""
        key = Key(kind, "shop", name)
        async with asyncio.timeout(60):
            while (found := await self.plane.condition(key, type_)).get("status") != status:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return str(found["message"])

    async def holds_all(self, *, but: str = "") -> None:
        """Everything has arrived, but for one route table."""
        wanted = expected(await self.plane.settled(60))
        held = (await self.envoy.held()).resources
        for type_url, content in wanted.items():
            good = {name: each for name, each in content.items() if (type_url, name) != (ROUTES, but)}
            assert {name: held[type_url].get(name) for name in good} == good

    async def holds_no_more(self) -> None:
        """What nobody wants is gone: Envoy keeps route tables for as long as a listener drains."""
        wanted = await self.plane.settled(60)
        async with asyncio.timeout(60):
            while any(  # noqa: ASYNC110
                held.keys() - wanted[type_url].keys()
                for type_url, held in (await self.envoy.held()).resources.items()
                if type_url in (CLUSTER, LISTENER, ROUTES)
            ):
                await asyncio.sleep(0.02)

    async def paths(self, table: str, host: str) -> list[str]:
        """The matches of a host's routes, as its Envoy has them."""
        return matches((await self.envoy.held()).resources, table, host)


def matches(held: Mapping[str, Mapping[str, Any]], table: str, host: str) -> list[str]:
    """The matches of a host's routes."""
    found = next(each for each in held[ROUTES][table]["virtual_hosts"] if host in each["domains"])
    return [next(iter(route["match"].values())) for route in found["routes"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    directory = tmp_path_factory.mktemp("hostile")
    identities, socket = Identities.in_directory(directory), directory / "ads.sock"
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(up(directory / "store.db", VM))
        await plane.write(*read(*BASE))
        await stack.enter_async_context(door(plane.fleet, socket, identities))
        proxy = await stack.enter_async_context(envoy(directory, socket, identities, VM))
        made = Mesh(plane, proxy)
        await made.holds_all()
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(standing: Mesh) -> AsyncIterator[Mesh]:
    before = {obj.key for obj in await standing.plane.objects()}
    yield standing
    for obj in await standing.plane.objects():
        if obj.key not in before:
            await standing.plane.delete(obj.key)
    await standing.holds_all()
    await standing.holds_no_more()
    assert standing.plane.refused == {}


def expressions(pattern: str) -> dict[str, dict[str, Any]]:
    """A rule for each place where an expression may stand."""
    matches = {
        "uri": {"uri": {"regex": pattern}},
        "headers": {"headers": {"x": {"regex": pattern}}},
        "withoutHeaders": {"withoutHeaders": {"x": {"regex": pattern}}},
        "queryParams": {"queryParams": {"x": {"regex": pattern}}},
        "method": {"method": {"regex": pattern}},
        "authority": {"authority": {"regex": pattern}},
        "scheme": {"scheme": {"regex": pattern}},
    }
    found = {name: to("a", match=[match]) for name, match in matches.items()}
    found["rewrite"] = to("a", rewrite={"uriRegexRewrite": {"match": pattern, "rewrite": "/x"}})
    found["corsPolicy"] = to("a", corsPolicy={"allowOrigins": [{"regex": pattern}]})
    found["redirect"] = {"match": [{"uri": {"regex": pattern}}], "redirect": {"uri": "/x"}}
    return found


@pytest.mark.parametrize("place", expressions(""))
async def test_an_expression_that_cannot_work_loses_its_rule_alone(mesh: Mesh, place: str) -> None:
    bad = rule("bad", "a", expressions(UNUSABLE)[place], to("a", match=[{"uri": {"prefix": "/good"}}]))
    with pytest.raises(Rejected) as refused:
        await mesh.write(bad)
    ((_, problem),) = refused.value.errors
    assert problem.field.startswith("spec.http[0].")
    assert "look-around" in problem.text
    await mesh.force(bad)
    await mesh.write(rule("good", "b", to("b", match=[{"uri": {"prefix": "/good"}}])))
    text = await mesh.told("VirtualService", "bad", "Resolved", "False")
    assert "spec.http[0]" in text
    assert "look-around" in text
    await mesh.told("VirtualService", "bad", "Programmed", "True")
    await mesh.told("VirtualService", "good", "Resolved", "True")
    await mesh.holds_all()
    assert await mesh.paths("80", "b.shop.svc.cluster.local") == ["/good"]
    assert await mesh.paths("80", "a.shop.svc.cluster.local") == ["/good"]


@pytest.mark.parametrize("place", expressions(""))
async def test_an_expression_that_only_envoy_can_refuse_is_told_in_its_words(mesh: Mesh, place: str) -> None:
    await mesh.write(rule("good", "b", to("b", match=[{"uri": {"prefix": "/before"}}])))
    await mesh.told("VirtualService", "good", "Programmed", "True")
    await mesh.write(rule("bad", "a", expressions(ONLY_ENVOY_KNOWS)[place]))
    text = await mesh.told("VirtualService", "bad", "Programmed", "False")
    assert "RE2 program size of 38004 > max program size of 32768" in text
    assert "the last good version stays" in text
    await mesh.told("VirtualService", "good", "Programmed", "True")
    # what is on other ports, and everything that is no route, goes on
    await mesh.write(
        service("d", 82),
        document("DestinationRule", "d", {"host": "d", "subsets": [{"name": "v1", "labels": {"v": "1"}}]}),
        rule("other", "c", to("c", match=[{"uri": {"prefix": "/other"}}])),
    )
    await mesh.told("Service", "d", "Programmed", "True")
    await mesh.told("DestinationRule", "d", "Programmed", "True")
    await mesh.holds_all(but="80")
    assert await mesh.paths("81", "c.shop.svc.cluster.local") == ["/other"]
    assert await mesh.paths("80", "b.shop.svc.cluster.local") == ["/before"]


async def test_ten_thousand_routes_and_a_thousand_subsets(mesh: Mesh) -> None:
    subsets = [{"name": f"s{number}", "labels": {"version": str(number)}} for number in range(1000)]
    routes = [
        {"match": [{"uri": {"prefix": f"/p{number}"}}], "route": [{"destination": {"host": "a"}}]}
        for number in range(10_000)
    ]
    await mesh.write(
        rule("many", "a", *routes),
        document("DestinationRule", "many", {"host": "b", "subsets": subsets}),
        rule("small", "c", to("c", match=[{"uri": {"prefix": "/small"}}])),
    )
    for name in ("many", "small"):
        await mesh.told("VirtualService", name, "Programmed", "True")
    held = (await mesh.envoy.held()).resources
    assert sum(name.startswith("outbound|80|s") for name in held[CLUSTER]) == 1000
    assert len(matches(held, "80", "a.shop.svc.cluster.local")) == 10_000
    assert matches(held, "81", "c.shop.svc.cluster.local") == ["/small"]


async def test_rules_that_lead_to_each_other_in_a_circle(mesh: Mesh) -> None:
    def leads(name: str, target: str, **spec: Any) -> dict[str, Any]:
        http = [{"match": [{"uri": {"prefix": "/x"}}], "delegate": {"name": target}}, to("a")]
        return document("VirtualService", name, {**spec, "http": http})

    circle = leads("root", "one", hosts=["a"]), leads("one", "two"), leads("two", "one")
    with pytest.raises(Rejected, match="delegate"):
        await mesh.write(*circle)
    await mesh.force(*circle)
    for name in ("one", "two"):
        assert "delegate" in await mesh.told("VirtualService", name, "Resolved", "False")
    await mesh.told("VirtualService", "root", "Programmed", "True")
    await mesh.holds_all()


async def test_a_service_entry_that_takes_a_services_host(mesh: Mesh) -> None:
    host = "b.shop.svc.cluster.local"
    spec = {
        "hosts": [host],
        "addresses": ["198.51.100.1"],
        "resolution": "STATIC",
        "ports": [
            {"number": 80, "name": "http-80", "protocol": "HTTP"},
            {"number": 8888, "name": "http-8888", "protocol": "HTTP"},
            {"number": 9999, "name": "tcp-9999", "protocol": "TCP"},
        ],
        "endpoints": [{"address": "192.0.2.1"}],
    }
    before = (await mesh.envoy.held()).resources
    assert f"outbound|80||{host}" in before[CLUSTER]
    await mesh.write(document("ServiceEntry", "thief", spec))
    await mesh.told("ServiceEntry", "thief", "Programmed", "True")
    await mesh.told("Service", "b", "Programmed", "True")
    assert "already declared by Service/shop/b" in await mesh.told(
        "ServiceEntry", "thief", "Resolved", "False"
    )
    await mesh.holds_all()
    # not a name, not an address, not a port of the loser's
    held = (await mesh.envoy.held()).resources
    assert {kind: content.keys() for kind, content in held.items()} == {
        kind: content.keys() for kind, content in before.items()
    }
    assert held == before
    assert not any(word in str(held) for word in ("198.51.100.1", "192.0.2.1", "8888", "9999"))


async def test_of_two_entries_for_one_host_nothing_of_the_loser_arrives(mesh: Mesh) -> None:
    def entry(name: str, octet: int, resolution: str, *ports: tuple[int, str]) -> dict[str, Any]:
        listed = [{"number": number, "name": f"p{number}", "protocol": word} for number, word in ports]
        spec = {"hosts": ["db.mesh"], "addresses": [f"198.51.100.{octet}"], "resolution": resolution}
        return document(
            "ServiceEntry", name, {**spec, "ports": listed, "endpoints": [{"address": f"192.0.2.{octet}"}]}
        )

    await mesh.write(entry("one", 1, "STATIC", (9000, "TCP")))
    await mesh.told("ServiceEntry", "one", "Programmed", "True")
    await mesh.holds_all()
    before = (await mesh.envoy.held()).resources
    await mesh.write(entry("two", 2, "DNS", (9000, "TCP"), (9001, "HTTP")))
    text = await mesh.told("ServiceEntry", "two", "Resolved", "False")
    assert "spec.resolution: db.mesh is already declared by ServiceEntry/shop/one" in text
    assert "keep one of the two" in text
    await mesh.told("ServiceEntry", "one", "Resolved", "True")
    await mesh.write(entry("zwei", 3, "STATIC", (9000, "HTTP"), (9002, "TCP")))
    text = await mesh.told("ServiceEntry", "zwei", "Resolved", "False")
    assert "spec.ports[0]: port 9000 of db.mesh is TCP" in text
    await mesh.holds_all()
    held = (await mesh.envoy.held()).resources
    assert {
        (kind, name) for kind, content in held.items() for name in content if name not in before[kind]
    } == {(LISTENER, "198.51.100.3_9002"), (CLUSTER, "outbound|9002||db.mesh"),
          (ENDPOINTS, "outbound|9002||db.mesh")}  # fmt: skip
    assert all(held[kind][name] == each for kind, content in before.items() for name, each in content.items())
    # the older one goes: the next has the host
    await mesh.plane.delete(Key("ServiceEntry", "shop", "one"))
    await mesh.told("ServiceEntry", "two", "Resolved", "True")
    await mesh.holds_all()
    held = (await mesh.envoy.held()).resources
    assert {name for name in held[CLUSTER] if name.endswith("db.mesh")} == {
        "outbound|9000||db.mesh",
        "outbound|9001||db.mesh",
    }


async def test_of_rules_that_contradict_the_older_counts(mesh: Mesh) -> None:
    for number, mode in enumerate(("DISABLE", "SIMPLE")):
        await mesh.write(
            rule(f"r{number}", "a", to("a", match=[{"uri": {"prefix": f"/r{number}"}}])),
            document(
                "DestinationRule", f"d{number}", {"host": "a", "trafficPolicy": {"tls": {"mode": mode}}}
            ),
        )
    assert "r0" in await mesh.told("VirtualService", "r1", "Resolved", "False")
    await mesh.told("VirtualService", "r0", "Resolved", "True")
    assert "DestinationRule/shop/d0 is older" in await mesh.told("DestinationRule", "d1", "Resolved", "False")
    await mesh.told("DestinationRule", "d0", "Resolved", "True")
    await mesh.holds_all()
    assert await mesh.paths("80", "a.shop.svc.cluster.local") == ["/r0"]
    assert "tls" not in str(
        (await mesh.envoy.held()).resources[CLUSTER]["outbound|80||a.shop.svc.cluster.local"]
    )
    # and when the older one goes, the other counts
    await mesh.plane.delete(Key("DestinationRule", "shop", "d0"))
    await mesh.told("DestinationRule", "d1", "Resolved", "True")
    await mesh.holds_all()
    assert "UpstreamTlsContext" in str(
        (await mesh.envoy.held()).resources[CLUSTER]["outbound|80||a.shop.svc.cluster.local"]
    )


async def test_nothing_was_refused_but_what_was_meant_to_be(standing: Mesh) -> None:
    counted = await standing.envoy.refusals()
    # Envoy counts a refusal for every table that it watches
    assert all(".rds." in name and name.endswith(".update_rejected") for name in counted), counted
