"""What a MeshConfig says of itself: it is programmed when every proxy has taken what it changes."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from real_plane import Plane, document, read, up

from isthmus.api.meta import Key
from isthmus.envoy.resource import CLUSTER, LISTENER, ProxyId
from isthmus.xds.node import parse_node
from isthmus.xds.standing import Shown, Stream
from isthmus.xds.wire import Request

VM = ProxyId("shop", "vm-1")
SETTINGS = Key("MeshConfig", "isthmus-system", "default")
BASE = (
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "isthmus-system"}},
    document(
        "WorkloadEntry", "vm-1", {"address": "10.0.0.1", "labels": {"app": "a"}, "serviceAccount": "shop"}
    ),
    document("Service", "a", {"selector": {"app": "a"}, "ports": [{"port": 80, "name": "http"}]}),
)


def settings(mode: str, namespace: str = "isthmus-system") -> dict[str, Any]:
    return document("MeshConfig", "default", {"outboundTrafficPolicy": {"mode": mode}}, namespace)


class Client:
    """A proxy by hand: it answers when the test says so."""

    def __init__(self, plane: Plane) -> None:
        self.fleet = plane.fleet
        node = parse_node("sidecar~10.0.0.1~vm-1.shop~shop.svc.cluster.local")
        self.stream: Stream = plane.fleet.open(node, Shown("shop", datetime.now(UTC)), lambda: None)
        for type_url in (CLUSTER, LISTENER):
            self.fleet.receive(self.stream, Request(type_url))

    def answer(self, error_by_type: Mapping[str, str] | None = None) -> None:
        """Takes or refuses all that there is."""
        while self.fleet.advance(self.stream) or any(
            watch.flights for watch in self.stream.session.watches.values()
        ):
            for type_url, watch in self.stream.session.watches.items():
                for nonce in list(watch.flights):
                    error = (error_by_type or {}).get(type_url)
                    self.fleet.receive(self.stream, Request(type_url, nonce=nonce, error=error))


async def told(
    plane: Plane, key: Key, generation: int, *statuses: str, client: Client | None = None
) -> Mapping[str, Any]:
    """The condition about this generation, when it has one of these statuses; the client takes what comes."""
    async with asyncio.timeout(20):
        while True:
            if client is not None:
                client.answer()
            found = await plane.condition(key)
            if found.get("observedGeneration") == generation and found["status"] in statuses:
                return found
            await asyncio.sleep(0.01)


async def test_it_is_programmed_when_proxies_have_taken_what_it_changes(tmp_path: Path) -> None:
    async with up(tmp_path / "store.db", VM) as plane:
        await plane.write(*read(*BASE))
        client = Client(plane)
        client.answer()
        await plane.write(*read(settings("REGISTRY_ONLY")))
        waits = await told(plane, SETTINGS, 1, "True", "False", "Unknown")
        assert (waits["status"], waits["reason"]) == ("Unknown", "Pending")
        assert "vm-1" in waits["message"]
        assert (await told(plane, SETTINGS, 1, "True", client=client))["reason"] == "Programmed"
        await plane.write(*read(settings("ALLOW_ANY")))
        assert (await told(plane, SETTINGS, 2, "True", "Unknown"))["status"] == "Unknown"
        await told(plane, SETTINGS, 2, "True", client=client)


async def test_it_is_not_when_one_refuses(tmp_path: Path) -> None:
    async with up(tmp_path / "store.db", VM) as plane:
        await plane.write(*read(*BASE))
        client = Client(plane)
        client.answer()
        await plane.write(*read(settings("REGISTRY_ONLY")))
        await told(plane, SETTINGS, 1, "Unknown")
        client.answer({LISTENER: "I do not like it"})
        refused = await told(plane, SETTINGS, 1, "False")
        assert refused["reason"] == "Rejected"
        assert "I do not like it" in refused["message"]
        assert str(SETTINGS) in refused["message"]


async def test_one_that_does_not_count_says_so(tmp_path: Path) -> None:
    async with up(tmp_path / "store.db", VM) as plane:
        await plane.write(*read(*BASE, settings("REGISTRY_ONLY", "shop")))
        key = Key("MeshConfig", "shop", "default")
        await told(plane, key, 1, "True")
        resolved = await plane.condition(key, "Resolved")
        assert resolved["status"] == "False"
        assert "only the MeshConfig default of namespace isthmus-system counts" in resolved["message"]
