"""A control plane in small: a real engine, fleet and mTLS door, with manifests that a test writes by hand.

Inputs of the engine: ("manifest", type url) -> resources for every proxy; ("unsound",) -> why not to send.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import Message

from isthmus.api.meta import Key, Problem
from isthmus.engine import Engine, Reader
from isthmus.envoy.resource import PREFIX, TYPES, Manifest, ProxyId, Resource, content_version
from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.identity.spiffe import SpiffeId
from isthmus.xds.fleet import Fleet
from isthmus.xds.stream import METHOD, SERVER_OPTIONS, AdsDoor
from isthmus.xds.verdicts import Verdict
from isthmus.xds.vetting import Vetting

TRUST_DOMAIN = "cluster.local"
VM = ProxyId("shop", "vm-10.0.0.1")
NODE = "sidecar~10.0.0.1~vm-10.0.0.1.shop~shop.svc.cluster.local"


def manifest(q: Reader, type_url: str, proxy: ProxyId) -> Manifest:
    return q(shared_manifest, type_url)


def shared_manifest(q: Reader, type_url: str) -> Manifest:
    if q.input("broken"):
        raise RuntimeError("a bug")
    return {resource.name: resource for resource in q.input("manifest", type_url) or ()}


def unsound(q: Reader, proxy: ProxyId) -> dict[tuple[str, str], str]:
    return dict(q.input("unsound") or {})


def problems(q: Reader) -> dict[Key, tuple[Problem, ...]]:
    return dict(q.input("problems") or {})


def packed(name: str, message: Message, *sources: Key, salt: bytes = b"") -> Resource:
    """A resource as translation makes it."""
    body = message.SerializeToString(deterministic=True)
    type_url = PREFIX + message.DESCRIPTOR.full_name
    return Resource(type_url, name, content_version(body, salt), body, sources)


def plain(type_url: str, name: str, version: str, *sources: Key) -> Resource:
    """A resource of which only name and version matter."""
    return Resource(type_url, name, version, b"", sources)


@dataclass
class Committed:
    uid: str
    generation: int
    revision: int


@dataclass
class Mesh:
    """What the tests turn: `commit` says what proxies should hold, and which objects that comes from."""

    engine: Engine = field(default_factory=Engine)
    objects: dict[Key, Committed] = field(default_factory=dict)
    accounts: dict[ProxyId, str] = field(default_factory=lambda: {VM: "shop-sa"})
    enrolled: datetime = field(default_factory=lambda: datetime.min.replace(tzinfo=UTC))
    """Since when every workload stands: certificates from before are another VM's."""
    verdicts: dict[Key, Verdict] = field(default_factory=dict)
    vetting: Vetting = field(default_factory=lambda: Vetting(monotonic))
    now: Callable[[], float] = monotonic

    def __post_init__(self) -> None:
        self.fleet = Fleet(
            self.engine,
            manifest=manifest,
            problems=problems,
            objects=self.objects,
            registered=self.accounts.get,
            outdated=lambda proxy, signed_at: signed_at < self.enrolled,
            now=self.now,
            vetting=self.vetting,
            unsound=unsound,
        )

    def commit(self, *resources: Resource, touched: tuple[Key, ...] = ()) -> None:
        """The whole configuration; `touched` objects are of a new generation in it."""
        by_type: dict[str, list[Resource]] = {type_url: [] for type_url in TYPES}
        for resource in resources:
            by_type[resource.type_url].append(resource)
        revision = self.engine.commit({("manifest", t): tuple(found) for t, found in by_type.items()})
        for key in touched:
            old = self.objects.get(key)
            self.objects[key] = Committed("uid", old.generation + 1 if old else 1, revision)
        self.fleet.committed(touched)

    def programmed(self, key: Key) -> str:
        """`Reason: message` of the object's condition."""
        self.verdicts.update(self.fleet.judge())
        condition = self.verdicts[key].programmed
        return f"{condition.status} {condition.reason}: {condition.message}"


@dataclass(frozen=True)
class Credentials:
    """PEM files in a directory."""

    directory: Path
    authority: Authority

    def issue(
        self, name: str, spiffe: SpiffeId, common_name: str, names: tuple[str, ...] = ()
    ) -> tuple[Path, Path]:
        """Files of a new key and its chain."""
        key = keys.new_key()
        issued = self.authority.sign(
            key.public_key(), spiffe, common_name=common_name, ttl=timedelta(hours=1), names=names
        )
        key_path, chain_path = self.directory / f"{name}-key.pem", self.directory / f"{name}-chain.pem"
        key_path.write_bytes(keys.key_pem(key))
        chain_path.write_text(issued.chain)
        return key_path, chain_path

    @property
    def roots(self) -> Path:
        path = self.directory / "roots.pem"
        path.write_text(self.authority.roots)
        return path


def credentials(directory: Path) -> Credentials:
    """A new authority, with room for what it issues."""
    return Credentials(directory, Authority.open(directory / "ca", TRUST_DOMAIN, lambda: datetime.now(UTC)))


@asynccontextmanager
async def serving(mesh: Mesh, files: Credentials, port: int = 0) -> AsyncIterator[int]:
    """The mesh's door on loopback; gives its port."""
    key, chain = files.issue(
        "server", SpiffeId(TRUST_DOMAIN, "isthmus-system", "isthmus"), "isthmus", ("127.0.0.1", "localhost")
    )
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((AdsDoor(mesh.fleet, TRUST_DOMAIN),))
    doors = grpc.ssl_server_credentials(
        [(key.read_bytes(), chain.read_bytes())], files.roots.read_bytes(), require_client_auth=True
    )
    bound = server.add_secure_port(f"127.0.0.1:{port}", doors)
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)


class Client:
    """A delta ADS client with a vocabulary for tests."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def ask(self, type_url: str, *names: str, node: str = "", **more: Any) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url, resource_names_subscribe=names, **more
        )
        request.node.id = node
        await self._call.write(request.SerializeToString())

    async def send(self, data: bytes) -> None:
        await self._call.write(data)

    async def read(self) -> Any:
        async with asyncio.timeout(60):
            data = await self._call.read()
        assert isinstance(data, bytes), "the stream ended"
        return discovery_pb2.DeltaDiscoveryResponse.FromString(data)

    async def ack(self, response: Any, error: str = "") -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=response.nonce
        )
        if error:
            request.error_detail.message = error
        await self._call.write(request.SerializeToString())

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """How the server ended the stream."""
        async with asyncio.timeout(60):
            with suppress(grpc.aio.AioRpcError):
                while isinstance(await self._call.read(), bytes):
                    pass
            return await self._call.code(), await self._call.details()


@asynccontextmanager
async def connected(
    port: int,
    files: Credentials,
    *,
    spiffe: SpiffeId | None = None,
    workload: str = VM.workload,
) -> AsyncIterator[Client]:
    """A client with a workload's certificate."""
    key, chain = files.issue("client", spiffe or SpiffeId(TRUST_DOMAIN, "shop", "shop-sa"), workload)
    trusted = grpc.ssl_channel_credentials(files.roots.read_bytes(), key.read_bytes(), chain.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
        call = channel.stream_stream(METHOD)()  # type: ignore[call-arg]  # the stub is stricter than gRPC
        try:
            yield Client(call)
        finally:
            call.cancel()


async def until(condition: Any, *, seconds: float = 10.0) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for lies in another process or in the server
            await asyncio.sleep(0.01)


@contextmanager
def broken(mesh: Mesh) -> Iterator[None]:
    """Translation raises meanwhile."""
    mesh.engine.commit({("broken",): True})
    mesh.fleet.committed()
    yield
    mesh.engine.commit({("broken",): None})
    mesh.fleet.committed()
