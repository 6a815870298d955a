"""A VM is proven from outside: only its own Envoy, behind its own ports, is proof."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from agent_door import MYSQL, Door, Vm, joined, open_door, refused
from enrolment_world import spec_of

from isthmus.api.meta import Object
from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.identity.spiffe import SpiffeId
from isthmus.server import agent_api
from isthmus.server.agent_api import MAX_PORTS, PROBE_ALPN
from isthmus.store.base import Mutate

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path) as made:
        yield made


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
