import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from enrolment_world import World, spec_of, world

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus._pb.istio.v1.auth import ca_pb2 as ca_v1
from isthmus.api.meta import Object
from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.identity.spiffe import SpiffeId
from isthmus.server import agent_api
from isthmus.server.agent_api import MAX_PORTS, PROBE_ALPN, agent_rpc_handlers
from isthmus.store.base import Delete, Mutate, UpdateStatus

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
            return await call(request, timeout=5)


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
        return await self._call(method, request, ca_v1.IstioCertificateResponse)

    async def prove(self, *ports: int) -> list[tuple[int, bool, str]]:
        method, request = "/isthmus.agent.v1.Agent/Prove", agent_v1.ProveRequest(ports=ports)
        answer = await self._call(method, request, agent_v1.ProveResponse)
        return [(proof.port, proof.ok, proof.detail) for proof in answer.ports]

    async def report(self, healthy: bool, message: str = "") -> None:
        method = "/isthmus.agent.v1.Agent/ReportHealth"
        request = agent_v1.HealthReport(healthy=healthy, message=message)
        await self._call(method, request, agent_v1.HealthNoted)

    async def health(self) -> dict[str, str]:
        entry = await self.door.world.store.get(self.entry.key)
        assert entry is not None
        found = [each for each in entry.status["conditions"] if each["type"] == "Healthy"]
        assert len(found) == 1
        return dict(found[0])

    async def leave(self) -> None:
        method, request = "/isthmus.agent.v1.Agent/Leave", agent_v1.LeaveRequest()
        await self._call(method, request, agent_v1.LeaveResponse)

    async def _call(self, method: str, request: Any, answer: Any) -> Any:
        return await self.door.call(method, request, answer, key=self.key, chain=self.chain)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with world(tmp_path) as here:
        declared: dict[int, bool] = {}
        server = grpc.aio.server()
        handlers = agent_rpc_handlers(
            here.store, here.authority, here.serving, lambda namespace, workload: declared
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
    await door.world.group(**group)
    key = keys.new_key()
    application = door.world.application(await door.world.token(), csr=keys.request_pem(key), address=address)
    enrolled = await door.world.registrar.enrol(application)
    return Vm(door, key, enrolled.issued.chain, enrolled.entry)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), str(error.value.details())


# --- CreateCertificate -----------------------------------------------------------------------------------


async def test_a_live_certificate_gets_the_next_one(door: Door) -> None:
    vm = await joined(door, annotations={"isthmus.dev/certificate-ttl": "60s"})
    key = keys.new_key()
    *chain, roots = (await vm.renew(keys.request_pem(key))).cert_chain
    leaf = keys.certificates("".join(chain))[0]
    assert leaf.public_key() == key.public_key()
    assert leaf.subject.rfc4514_string() == "CN=mysql-10.0.0.5"
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert life == timedelta(seconds=60, minutes=2)
    assert roots == door.world.authority.roots
    again = Vm(door, key, "".join(chain), vm.entry)
    assert (await again.renew(keys.request_pem(keys.new_key()))).cert_chain


async def test_a_shorter_life_may_be_asked_for_a_longer_not(door: Door) -> None:
    vm = await joined(door, annotations={"isthmus.dev/certificate-ttl": "1h"})
    for asked, expected in ((60, 60), (10**9, 3600), (2**62, 3600), (-5, 3600)):
        answer = await vm.renew(keys.request_pem(keys.new_key()), asked)
        leaf = keys.certificates(answer.cert_chain[0])[0]
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        assert life == timedelta(seconds=expected, minutes=2)


@pytest.mark.parametrize(
    ("csr", "words"),
    [
        ("x" * 20_000, "at most 16384"),
        ("nonsense", "not a PEM"),
        (keys.request_pem(ec.generate_private_key(ec.SECP384R1())), "expected P-256"),
    ],
)
async def test_a_bad_signing_request_is_refused(door: Door, csr: str, words: str) -> None:
    vm = await joined(door)
    code, text = await refused(vm.renew(csr))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in text


async def test_a_workload_that_left_gets_nothing(door: Door) -> None:
    vm = await joined(door)
    await door.world.store.apply([Delete(vm.entry.key)])
    for call in (vm.renew(keys.request_pem(keys.new_key())), vm.prove(80)):
        code, text = await refused(call)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "vms/mysql-10.0.0.5 is not registered (left?)" in text


async def test_a_changed_service_account_ends_renewal(door: Door) -> None:
    vm = await joined(door)

    def demoted(entry: Object | None) -> Object:
        assert entry is not None
        return replace(entry, spec=spec_of(entry).model_copy(update={"service_account": "other"}))

    await door.world.store.apply([Mutate(vm.entry.key, demoted)])
    for call in (vm.renew(keys.request_pem(keys.new_key())), vm.prove(80), vm.leave()):
        code, text = await refused(call)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "'other' now" in text
    assert await door.world.entries() == ["vms/mysql-10.0.0.5"]


async def test_a_foreign_authoritys_certificate_does_not_get_in(door: Door, tmp_path: Path) -> None:
    await joined(door)
    foreign = Authority.open(tmp_path / "foreign", "cluster.local", door.world.now)
    key = keys.new_key()
    issued = foreign.sign(key.public_key(), MYSQL, common_name="mysql-10.0.0.5", ttl=timedelta(hours=1))
    code, _ = await refused(
        Vm(door, key, issued.chain, await _nobody(door)).renew(keys.request_pem(keys.new_key()))
    )
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_without_a_certificate_nobody_gets_in(door: Door) -> None:
    await joined(door)
    method = "/isthmus.agent.v1.Agent/Leave"
    code, _ = await refused(door.call(method, agent_v1.LeaveRequest(), agent_v1.LeaveResponse))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert await door.world.entries() == ["vms/mysql-10.0.0.5"]


async def test_an_expired_certificate_does_not_get_in(door: Door) -> None:
    vm = await joined(door)
    key = keys.new_key()
    door.world.offset[0] = timedelta(seconds=-90)
    issued = door.world.authority.sign(
        key.public_key(), MYSQL, common_name="mysql-10.0.0.5", ttl=timedelta(seconds=60)
    )
    door.world.offset[0] = timedelta(0)
    code, _ = await refused(Vm(door, key, issued.chain, vm.entry).leave())
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_the_control_plane_is_no_workload(door: Door) -> None:
    serving = door.world.serving
    assert isinstance(serving.key, ec.EllipticCurvePrivateKey)
    vm = Vm(door, serving.key, serving.chain, await _nobody(door))
    code, _ = await refused(vm.renew(keys.request_pem(keys.new_key())))
    assert code is grpc.StatusCode.PERMISSION_DENIED


async def _nobody(door: Door) -> Object:
    return await door.world.group("nobody")


async def test_a_caller_that_hammers_is_slowed_down(door: Door) -> None:
    vm = await joined(door)
    codes = set()
    for _ in range(8):
        calls = [vm.prove() for _ in range(20)]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            codes.add(result.code() if isinstance(result, grpc.aio.AioRpcError) else None)
    assert codes == {None, grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_an_unknown_call_is_unimplemented(door: Door) -> None:
    vm = await joined(door)
    call = vm._call("/isthmus.agent.v1.Agent/Nothing", agent_v1.LeaveRequest(), agent_v1.LeaveResponse)
    assert (await refused(call))[0] is grpc.StatusCode.UNIMPLEMENTED


# --- Leave -----------------------------------------------------------------------------------------------


async def test_leaving_takes_only_the_caller_out(door: Door) -> None:
    vm = await joined(door)
    other = await door.world.token(name="second")
    await door.world.registrar.enrol(door.world.application(other, address="10.0.0.6"))
    await vm.leave()
    await vm.leave()
    assert await door.world.entries() == ["vms/mysql-10.0.0.6"]


# --- ReportHealth ----------------------------------------------------------------------------------------


async def test_health_is_noted_on_the_callers_entry(door: Door) -> None:
    vm = await joined(door)
    await vm.report(healthy=False, message="HTTP status 503\x07" + "x" * 2000)
    told = await vm.health()
    assert (told["status"], told["reason"]) == ("False", "ProbeFailed")
    assert told["message"].startswith("HTTP status 503 xx")
    assert len(told["message"]) == 1000
    await vm.report(healthy=True)
    healthy = await vm.health()
    assert (healthy["status"], healthy["reason"], healthy["message"]) == ("True", "ProbeSucceeded", "")
    await vm.report(healthy=True)
    assert (await vm.health())["lastTransitionTime"] == healthy["lastTransitionTime"]


async def test_health_takes_the_place_of_no_other_condition(door: Door) -> None:
    vm = await joined(door)
    others = [
        {"type": "Programmed", "status": "True"},
        {"type": "Healthy", "status": "Unknown"},
        {"type": "Z"},
    ]
    await door.world.store.apply([UpdateStatus(vm.entry.key, {"conditions": others, "more": 1})])
    await vm.report(healthy=True)
    entry = await door.world.store.get(vm.entry.key)
    assert entry is not None
    assert [each["type"] for each in entry.status["conditions"]] == ["Programmed", "Healthy", "Z"]
    assert entry.status["more"] == 1


async def test_who_has_left_has_no_health(door: Door) -> None:
    vm = await joined(door)
    await vm.leave()
    with pytest.raises(grpc.aio.AioRpcError, match="not registered"):
        await vm.report(healthy=True)
    assert await door.world.entries() == []


# --- Prove -----------------------------------------------------------------------------------------------

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


def http(text: str) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text.encode())
            await writer.drain()
        writer.close()

    return answer


def ok(body: str) -> Answering:
    return http(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}")


@contextlib.asynccontextmanager
async def envoy(
    vm: Vm, tmp_path: Path, answer: Answering, *, key: Any = None, chain: str = ""
) -> AsyncIterator[int]:
    """Something on the VM's port that speaks mTLS as its Envoy does (or as an impostor does)."""
    (tmp_path / "k.pem").write_bytes(keys.key_pem(key or vm.key))
    (tmp_path / "c.pem").write_text(chain or vm.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    context.load_verify_locations(cadata=vm.door.world.authority.roots)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([PROBE_ALPN])
    async with listening(answer, context) as port:
        vm.door.declared[port] = True
        yield port


@contextlib.asynccontextmanager
async def listening(answer: Answering, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def vm(door: Door, monkeypatch: pytest.MonkeyPatch) -> Vm:
    """A workload whose address is loopback: no VM may enrol with that, so its entry is edited."""
    vm = await joined(door)

    def moved(entry: Object | None) -> Object:
        assert entry is not None
        return replace(entry, spec=spec_of(entry).model_copy(update={"address": "127.0.0.1"}))

    await door.world.store.apply([Mutate(vm.entry.key, moved)])
    monkeypatch.setattr(agent_api, "PROBE_TIMEOUT_S", 0.5)
    return vm


async def test_its_own_envoy_is_proof(vm: Vm, tmp_path: Path) -> None:
    async with envoy(vm, tmp_path, ok("isthmus-probe vms/mysql-10.0.0.5\n")) as port:
        assert await vm.prove(port) == [(port, True, "Envoy answered with this workload's identity")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ok("isthmus-probe vms/mysql-10.0.0.6"), "past Envoy"),
        (ok("hello"), "past Envoy"),
        (ok("isthmus-probe vms/mysql-10.0.0.5 and more"), "past Envoy"),
        (http("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "answered 'HTTP/1.1 503"),
        (http(""), "answered ''"),
        (http("x" * 100_000), "answered 'xxx"),
    ],
)
async def test_other_answers_are_no_proof(vm: Vm, tmp_path: Path, answer: Answering, words: str) -> None:
    async with envoy(vm, tmp_path, answer) as port:
        ((_, good, detail),) = await vm.prove(port)
    assert not good
    assert words in detail


@pytest.mark.parametrize(
    ("spiffe", "common_name", "words"),
    [
        (SpiffeId("cluster.local", "vms", "other"), "mysql-10.0.0.5", "another workload answered"),
        (SpiffeId("cluster.local", "shop", "mysql"), "mysql-10.0.0.5", "another workload answered"),
        (MYSQL, "mysql-10.0.0.6", "another workload answered"),
    ],
)
async def test_another_workloads_envoy_is_no_proof(
    vm: Vm, tmp_path: Path, spiffe: SpiffeId, common_name: str, words: str
) -> None:
    key = keys.new_key()
    issued = vm.door.world.authority.sign(
        key.public_key(), spiffe, common_name=common_name, ttl=timedelta(hours=1)
    )
    answer = ok("isthmus-probe vms/mysql-10.0.0.5")
    async with envoy(vm, tmp_path, answer, key=key, chain=issued.chain) as port:
        ((_, good, detail),) = await vm.prove(port)
    assert not good
    assert words in detail
    assert spiffe.namespace not in detail


async def test_a_foreign_certificate_is_no_proof(vm: Vm, tmp_path: Path) -> None:
    foreign = Authority.open(tmp_path / "foreign", "cluster.local", vm.door.world.now)
    key = keys.new_key()
    issued = foreign.sign(key.public_key(), MYSQL, common_name="mysql-10.0.0.5", ttl=timedelta(hours=1))
    answer = ok("isthmus-probe vms/mysql-10.0.0.5")
    async with envoy(vm, tmp_path, answer, key=key, chain=issued.chain) as port:
        ((_, good, detail),) = await vm.prove(port)
    assert not good
    assert "no certificate of this mesh" in detail


async def test_what_is_no_envoy_is_told_apart(vm: Vm) -> None:
    async def greets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"J\x00\x00\x00\x0a11.8.3-MariaDB\x00")
        writer.close()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with listening(greets) as mysql, listening(silent) as mute, listening(hangs_up) as rude:
        async with listening(silent) as closed:
            pass
        vm.door.declared |= dict.fromkeys((mysql, mute, rude, closed), True)
        proofs = {port: (good, detail) for port, good, detail in await vm.prove(mysql, mute, rude, closed, 1)}
    assert not any(good for good, _ in proofs.values())
    assert "speaks no TLS" in proofs[mysql][1]
    assert "no answer in" in proofs[mute][1]
    assert "the connection broke" in proofs[rude][1]
    assert "connection refused" in proofs[closed][1]
    assert "not declared" in proofs[1][1]


async def test_a_port_that_takes_plaintext_only_is_not_dialled(vm: Vm) -> None:
    vm.door.declared[1] = False
    assert await vm.prove(1) == [(1, False, "plaintext only, not proven")]


async def test_too_many_ports_are_refused(vm: Vm) -> None:
    code, _ = await refused(vm.prove(*range(1, MAX_PORTS + 2)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
