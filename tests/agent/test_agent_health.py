"""Looks at a workload by every method, results in a row, and whom a command runs as."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from hanging_up import hang_up
from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus.agent import unprivileged
from isthmus.agent.checks import Exec, Grpc, HttpGet, Probe, TcpSocket, look
from isthmus.agent.health import Judgement
from isthmus.agent.paths import ENVOY_UID

LOCAL = "127.0.0.1"
root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's rights need root to be given")


def probe(method: HttpGet | TcpSocket | Exec | Grpc, **changes: int) -> Probe:
    made = Probe(0, timeout_s=5, period_s=1, success_threshold=1, failure_threshold=1, method=method)
    return replace(made, **changes)  # type: ignore[arg-type]  # times and counts are numbers


def get(port: int, path: str = "/", **headers: str) -> HttpGet:
    return HttpGet("", port, path, tls=False, headers=tuple(headers.items()))


@pytest.fixture
async def served() -> AsyncIterator[tuple[int, list[str]]]:
    """An HTTP server that answers with the status that the path names, and the heads it got."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        status = head.split()[1].strip("/") or "200"
        if status == "silence":
            await reader.read()
        else:
            writer.write(f"{'HTTP/1.1 ' if status.isdigit() else ''}{status} X\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(answer, LOCAL, 0) as server:
        yield server.sockets[0].getsockname()[1], heads
    await hang_up()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/", ""),
        ("/204", ""),
        ("/302", ""),
        ("/404", "HTTP status 404"),
        ("/503", "HTTP status 503"),
        ("/SSH-2.0", "is not HTTP"),
    ],
)
async def test_http(served: tuple[int, list[str]], path: str, why: str) -> None:
    found = await look(probe(get(served[0], path)), LOCAL)
    assert why in found
    assert bool(found) is bool(why)


async def test_http_headers_are_sent_and_the_host_may_be_given(served: tuple[int, list[str]]) -> None:
    port, heads = served
    await look(probe(get(port, "200", Host="shop.example", X_Probe="1")), LOCAL)
    assert heads[0].splitlines()[0] == "GET /200 HTTP/1.1"
    assert "Host: shop.example\r\n" in heads[0]
    assert heads[0].lower().count("host:") == 1
    assert "X_Probe: 1\r\n" in heads[0]
    await look(probe(get(port)), LOCAL)
    assert f"host: {LOCAL}:{port}\r\n" in heads[1]


async def test_no_answer_in_time(served: tuple[int, list[str]]) -> None:
    assert await look(probe(get(served[0], "/silence"), timeout_s=1), LOCAL) == "no answer in 1 s"


async def test_tcp(served: tuple[int, list[str]]) -> None:
    assert await look(probe(TcpSocket("", served[0])), LOCAL) == ""
    assert await look(probe(TcpSocket(LOCAL, served[0])), "192.0.2.1") == ""
    with_nobody = await look(probe(TcpSocket("", 1)), LOCAL)
    assert "refused" in with_nobody.lower() or "failed" in with_nobody.lower()


@pytest.mark.parametrize(
    ("status", "why"), [(b"\x08\x01", ""), (b"\x08\x02", "not serving"), (b"", "not serving")]
)
async def test_grpc(status: bytes, why: str) -> None:
    asked: list[bytes] = []

    async def check(request: bytes, context: object) -> bytes:
        asked.append(request)
        return status

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(check, request_deserializer=bytes, response_serializer=bytes)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),)
    )
    port = server.add_insecure_port(f"{LOCAL}:0")
    await server.start()
    try:
        assert await look(probe(Grpc(port, "shop.v1.Shop")), LOCAL) == why
        assert asked == [b"\x0a\x0cshop.v1.Shop"]
    finally:
        await server.stop(0)
    assert "UNAVAILABLE" in await look(probe(Grpc(port, "")), LOCAL)


@root
async def test_a_command_runs_without_rights(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert await look(probe(Exec(("true",))), LOCAL) == ""
    assert await look(probe(Exec(("false",))), LOCAL) == "false ended with exit status 1"
    assert "does not start" in await look(probe(Exec(("/no/such/thing",))), LOCAL)
    assert "exit status" in await look(probe(Exec(("cat", str(secret)))), LOCAL)
    script = (
        "test $(id -u) = 65534 && test $(id -G) = 65534 && grep -q 'NoNewPrivs:.1' /proc/self/status"
        " && grep -q 'CapEff:.0*$' /proc/self/status && test -z \"$NOTIFY_SOCKET\""
    )
    os.environ["NOTIFY_SOCKET"] = "/somewhere"
    try:
        assert await look(probe(Exec(("sh", "-c", script))), LOCAL) == ""
    finally:
        del os.environ["NOTIFY_SOCKET"]


@root
async def test_a_command_and_its_children_are_killed_when_its_time_is_over() -> None:
    began = time.monotonic()
    mark = "86399.25"
    assert (
        await look(probe(Exec(("sh", "-c", f"sleep {mark} & sleep {mark}")), timeout_s=1), LOCAL)
        == "no answer in 1 s"
    )
    assert time.monotonic() - began < 60
    # also those of a command that has ended
    assert await look(probe(Exec(("sh", "-c", f"sleep {mark} &"))), LOCAL) == ""
    assert _awake(mark)


def _awake(mark: str) -> bool:
    """Whether nobody sleeps for so long any more: who was killed is gone a moment later."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        look = subprocess.run(["pgrep", "-f", f"^sleep {mark}"], capture_output=True, check=False)
        if look.returncode == 1:
            return True
        time.sleep(0.05)
    return False


def test_a_command_never_runs_as_root_nor_as_envoy(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    assert unprivileged.user({}).uid != 0
    with pytest.raises(ValueError, match="neither as root"):
        unprivileged.user({unprivileged.USER: "root"})
    with pytest.raises(ValueError, match="does not have"):
        unprivileged.user({unprivileged.USER: "no-such-user"})
    envoys = pwd.struct_passwd(("proxy", "x", ENVOY_UID, ENVOY_UID, "", "/", ""))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: envoys)
    with pytest.raises(ValueError, match="Envoy's user"):
        unprivileged.user({unprivileged.USER: "proxy"})


def test_results_in_a_row_make_a_verdict() -> None:
    judgement = Judgement(probe(TcpSocket("", 1), success_threshold=2, failure_threshold=3))
    assert [judgement.take(why) for why in ("", "x", "", "")] == [False, False, False, True]
    assert judgement.healthy
    assert [judgement.take(why) for why in ("x", "x", "", "x", "x", "down")] == [False] * 5 + [True]
    assert (judgement.healthy, judgement.why) == (False, "down")
    assert [judgement.take(why) for why in ("y", "", "")] == [False, False, True]
    assert (judgement.healthy, judgement.why) == (True, "")


def test_a_probe_that_makes_no_sense_is_refused() -> None:
    good = agent_v1.Probe(timeout_s=1, period_s=1, success_threshold=1, failure_threshold=1)
    with pytest.raises(ValueError, match="no method"):
        Probe.of(good)
    good.tcp_socket.port = 80
    assert Probe.of(good).method == TcpSocket("", 80)
    no_period = agent_v1.Probe()
    no_period.CopyFrom(good)
    no_period.period_s = 0
    with pytest.raises(ValueError, match="begin at 1"):
        Probe.of(no_period)
    good.http_get.path = "/\r\nx: y"
    with pytest.raises(ValueError, match="control character"):
        Probe.of(good)
