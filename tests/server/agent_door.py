"""The mTLS door over real gRPC on loopback, and enrolled VMs that call it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from enrolment_world import World, world

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus._pb.istio.v1.auth import ca_pb2 as ca_v1
from isthmus.api.meta import Object
from isthmus.identity import keys
from isthmus.identity.spiffe import SpiffeId
from isthmus.server.agent_api import agent_rpc_handlers

MYSQL = SpiffeId("cluster.local", "vms", "mysql")


@dataclass
class Door:
    """The mTLS door over real gRPC on loopback, with the ports that every workload declares."""

    world: World
    port: int
    declared: dict[int, bool]

    async def call(self, method: str, request: Any, answer: Any, *, key: Any = None, chain: str = "") -> Any:
        """One call with a client certificate."""
        credentials = grpc.ssl_channel_credentials(
            self.world.authority.roots.encode(),
            keys.key_pem(key) if key else None,
            chain.encode() if key else None,
        )
        options = [("grpc.ssl_target_name_override", "isthmus.isthmus-system.svc")]
        target = f"127.0.0.1:{self.port}"
        async with grpc.aio.secure_channel(target, credentials, options) as channel:
            call = channel.unary_unary(method, type(request).SerializeToString, answer.FromString)
            return await call(request, timeout=60)


@dataclass
class Vm:
    """An enrolled workload and what it calls the door with."""

    door: Door
    key: ec.EllipticCurvePrivateKey
    chain: str
    entry: Object

    async def renew(self, csr: str, seconds: int = 0) -> Any:
        request = ca_v1.IstioCertificateRequest(csr=csr, validity_duration=seconds)
        method = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
        return await self.call(method, request, ca_v1.IstioCertificateResponse)

    async def prove(self, *ports: int) -> list[tuple[int, bool, str]]:
        method, request = "/isthmus.agent.v1.Agent/Prove", agent_v1.ProveRequest(ports=ports)
        answer = await self.call(method, request, agent_v1.ProveResponse)
        return [(proof.port, proof.ok, proof.detail) for proof in answer.ports]

    async def report(self, healthy: bool, message: str = "") -> None:
        method = "/isthmus.agent.v1.Agent/ReportHealth"
        request = agent_v1.HealthReport(healthy=healthy, message=message)
        await self.call(method, request, agent_v1.HealthNoted)

    async def health(self) -> dict[str, str]:
        entry = await self.door.world.store.get(self.entry.key)
        assert entry is not None
        found = [each for each in entry.status["conditions"] if each["type"] == "Healthy"]
        assert len(found) == 1
        return dict(found[0])

    async def leave(self, unused_token: str = "") -> agent_v1.LeaveResponse:
        method, request = "/isthmus.agent.v1.Agent/Leave", agent_v1.LeaveRequest(unused_token=unused_token)
        answer: agent_v1.LeaveResponse = await self.call(method, request, agent_v1.LeaveResponse)
        return answer

    async def call(self, method: str, request: Any, answer: Any) -> Any:
        return await self.door.call(method, request, answer, key=self.key, chain=self.chain)


@contextlib.asynccontextmanager
async def open_door(tmp_path: Path) -> AsyncIterator[Door]:
    """The door of an empty control plane."""
    async with world(tmp_path) as here:
        declared: dict[int, bool] = {}
        server = grpc.aio.server()
        handlers = agent_rpc_handlers(
            here.store, here.authority, here.serving, lambda namespace, workload: declared, now=here.now
        )
        server.add_generic_rpc_handlers((handlers,))
        pair = (here.serving.key_path.read_bytes(), here.serving.chain.encode())
        credentials = grpc.ssl_server_credentials(
            [pair], here.authority.roots.encode(), require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield Door(here, port, declared)
        finally:
            await server.stop(0)


async def joined(door: Door, address: str = "10.0.0.5", **group: Any) -> Vm:
    """A VM that has enrolled with a token of its own."""
    await door.world.group(**group)
    key = keys.new_key()
    application = door.world.application(await door.world.token(), csr=keys.request_pem(key), address=address)
    enrolled = await door.world.registrar.enrol(application)
    return Vm(door, key, enrolled.issued.chain, enrolled.entry)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    """Code and words of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), str(error.value.details())
