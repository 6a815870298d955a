"""A real Envoy in a network of its own, fed over mTLS by the product's own door; what it says it holds.

fleet ── door, mTLS on a unix socket ──▶ Envoy ◀── SDS on a unix socket ── the workload's certificate
                                          │
                                          └── admin ──▶ Held (what it serves), counters
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpoint_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from real_envoy import CONTROL_PLANE, binary, served

from isthmus.envoy import canary, naming
from isthmus.envoy.bootstrap import bootstrap
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Manifest, ProxyId
from isthmus.identity.ca import Authority
from isthmus.identity.keys import key_pem, new_key
from isthmus.identity.spiffe import SpiffeId
from isthmus.xds.fleet import Fleet
from isthmus.xds.stream import SERVER_OPTIONS, AdsDoor

TRUST_DOMAIN = "cluster.local"
_MESSAGES: Mapping[str, type[Message]] = {
    CLUSTER: cluster_v3.Cluster,
    ENDPOINTS: endpoint_v3.ClusterLoadAssignment,
    LISTENER: listener_v3.Listener,
    ROUTES: route_v3.RouteConfiguration,
}
_NETWORK = """
ip link set lo up
for family in -4 -6; do
    ip $family route add local default dev lo
done
exec "$@"
"""
"""A network in which every address is this machine's own, so that any can be listened on."""
_REFUSED = ("update_rejected", "listener_create_failure", "init_fetch_timeout")
_WARMING = (r"cluster_manager\.warming_clusters", r"listener_manager\.total_listeners_warming")


@dataclass(frozen=True, slots=True)
class Held:
    """What an Envoy serves: readable content by type and name, and what is not ready yet."""

    resources: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, Mapping[str, str]]
    """Of clusters, listeners and routes: Envoy does not tell those of endpoints."""
    warming: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Envoy:
    """A running Envoy, asked at its admin socket."""

    admin: Path
    log: Path

    async def get(self, path: str) -> str:
        """What the admin interface answers."""
        reader, writer = await asyncio.open_unix_connection(self.admin)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await _body(reader, chunked=b"chunked" in head.lower())
        writer.close()
        await writer.wait_closed()
        return body.decode()

    async def refusals(self) -> dict[str, int]:
        """The counters of what it refused, or gave up waiting for, that are not 0."""
        return await self._statistics(_REFUSED)

    async def warming(self) -> dict[str, int]:
        """How many clusters and listeners are not ready yet; empty when all are."""
        return await self._statistics(_WARMING)

    async def _statistics(self, endings: Sequence[str]) -> dict[str, int]:
        text = await self.get(f"/stats?filter={quote('(' + '|'.join(endings) + ')$')}")
        named = dict(line.rsplit(": ", 1) for line in text.splitlines() if ": " in line)
        return {name: int(value) for name, value in named.items() if int(value)}

    async def held(self) -> Held:
        """What it serves at this moment."""
        dump = json.loads(await self.get("/config_dump?include_eds"))
        resources: dict[str, dict[str, Any]] = {type_url: {} for type_url in _MESSAGES}
        versions: dict[str, dict[str, str]] = {type_url: {} for type_url in _MESSAGES}
        warming = []

        def take(type_url: str, said: dict[str, Any], version: str) -> None:
            said.pop("@type")
            message = ParseDict(said, _MESSAGES[type_url]())
            name = getattr(message, "cluster_name" if type_url == ENDPOINTS else "name")
            resources[type_url][name] = readable(type_url, message)
            versions[type_url][name] = version

        for part in dump["configs"]:
            for found in part.get("dynamic_active_clusters", ()):
                take(CLUSTER, found["cluster"], found["version_info"])
            for found in part.get("dynamic_listeners", ()):
                if "active_state" in found:
                    state = found["active_state"]
                    take(LISTENER, state["listener"], state["version_info"])
                if "warming_state" in found:
                    warming.append(f"listener {found['name']}")
            for found in part.get("dynamic_route_configs", ()):
                take(ROUTES, found["route_config"], found["version_info"])
            for found in part.get("dynamic_endpoint_configs", ()):
                take(ENDPOINTS, found["endpoint_config"], "")
            warming += [f"cluster {c['cluster']['name']}" for c in part.get("dynamic_warming_clusters", ())]
        return Held(resources, versions, tuple(warming))


async def _body(reader: asyncio.StreamReader, *, chunked: bool) -> bytes:
    if not chunked:
        return await reader.read()
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    return b"".join(parts)


def expected(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, Any]]:
    """The readable content of what a proxy should hold, by type and name."""
    return {
        type_url: {
            name: readable(type_url, model.FromString(r.body)) for name, r in manifests[type_url].items()
        }
        for type_url, model in _MESSAGES.items()
    }


def readable(type_url: str, message: Any) -> Any:
    """A message as plain values; of endpoints what Envoy keeps of them."""
    if type_url != ENDPOINTS:
        return MessageToDict(message, preserving_proto_field_name=True)
    members: dict[tuple[int, str], Any] = {}
    for place in message.endpoints:
        for member in place.lb_endpoints:
            # of two at one address Envoy takes the first
            members.setdefault(
                (place.priority, str(member.endpoint.address)),
                (
                    str(place.locality),
                    member.load_balancing_weight.value or 1,
                    member.health_status,
                    MessageToDict(member.metadata),
                ),
            )
    return sorted(members.items())


@dataclass(frozen=True, slots=True)
class Identities:
    """An authority, and what it issues to the control plane and to one workload."""

    authority: Authority

    @classmethod
    def in_directory(cls, directory: Path) -> "Identities":
        """A new authority."""
        return cls(Authority.open(directory / "ca", TRUST_DOMAIN, lambda: datetime.now(UTC)))

    def issued(self, identity: SpiffeId, name: str) -> tuple[bytes, bytes]:
        """A new key and its chain; PEM."""
        key = new_key()
        chain = self.authority.sign(
            key.public_key(), identity, common_name=name, ttl=timedelta(hours=1)
        ).chain
        return key_pem(key), chain.encode()


@asynccontextmanager
async def door(fleet: Fleet, socket: Path, identities: Identities) -> AsyncIterator[None]:
    """The fleet's door, while the block runs."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((AdsDoor(fleet, TRUST_DOMAIN),))
    pair = identities.issued(CONTROL_PLANE, "isthmus")
    roots = identities.authority.roots.encode()
    server.add_secure_port(
        f"unix:{socket}", grpc.ssl_server_credentials([pair], roots, require_client_auth=True)
    )
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


@asynccontextmanager
async def envoy(
    directory: Path, socket: Path, identities: Identities, proxy: ProxyId, *, api_type: str = "DELTA_GRPC"
) -> AsyncIterator[Envoy]:
    """The Envoy of a workload, whose service account has the name of its namespace.

    `api_type`: how it speaks with the control plane; `GRPC` is the state of the world.
    """
    sds = directory / "sds.sock"
    async with served(sds) as discovery:
        key, chain = identities.issued(
            SpiffeId(TRUST_DOMAIN, proxy.namespace, proxy.namespace), proxy.workload
        )
        discovery.secret = _Secrets(key, chain, identities.authority.roots.encode())
        config = directory / "bootstrap.json"
        started = start_file(directory, socket, sds, proxy)
        started["dynamic_resources"]["ads_config"]["api_type"] = api_type
        config.write_text(json.dumps(started), encoding="utf-8")
        log = directory / "envoy.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *("unshare", "--user", "--map-root-user", "--net", "sh", "-ec", _NETWORK, "sh"),
                *(str(binary()), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1"),
                *("--log-level", "warning", "--drain-time-s", "1", "--drain-strategy", "immediate"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield Envoy(directory / "admin.sock", log)
        except BaseException as error:
            error.add_note(log.read_text(encoding="utf-8")[-4000:])
            raise
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def start_file(directory: Path, ads: Path, sds: Path, proxy: ProxyId) -> dict[str, Any]:
    """The product's own bootstrap, with both servers at unix sockets and every counter there is."""
    made = bootstrap(
        node_id=f"sidecar~10.0.0.1~{proxy.workload}.{proxy.namespace}~{proxy.namespace}.svc.cluster.local",
        cluster=f"{proxy.workload}.{proxy.namespace}",
        metadata={"NAMESPACE": proxy.namespace},
        ads_addresses=[("192.0.2.1", 15012)],
        control_plane_id=CONTROL_PLANE,
    )
    made["admin"]["address"]["pipe"]["path"] = str(directory / "admin.sock")
    del made["stats_config"], made["deferred_stat_options"]
    sockets = {naming.ADS_CLUSTER: ads, naming.SDS_CLUSTER: sds}
    for cluster in made["static_resources"]["clusters"]:
        path = {"pipe": {"path": str(sockets[cluster["name"]])}}
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": path}}]}]
    return made


@dataclass(frozen=True, slots=True)
class _Secrets:
    """The workload's own secrets, and for every file that a rule names one that serves."""

    key: bytes
    chain: bytes
    roots: bytes

    def __call__(self, name: str) -> bytes:
        believed = self.roots if name == naming.ROOTS_SECRET else self.chain
        return canary.secret(SECRET, name, believed, self.key).body
