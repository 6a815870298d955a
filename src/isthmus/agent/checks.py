"""A WorkloadGroup's probe -> one look at the workload: nothing when it can take traffic, else why not.

    httpGet     a GET is answered with 200 to 399; redirects are not followed, HTTPS is not verified
    tcpSocket   a connection opens
    exec        a command ends with 0, as a user without rights (`unprivileged`), killed when its time is over
    grpc        grpc.health.v1.Health/Check says SERVING

Whoever writes the WorkloadGroup decides what is dialled and which command runs, so neither a body nor a line
of output goes back: only how it ended.
"""

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus.agent import unprivileged

_MOST_HEAD = 16 * 1024
_SERVING = b"\x08\x01"
"""HealthCheckResponse of grpc.health.v1 with status SERVING."""


@dataclass(frozen=True, slots=True)
class HttpGet:
    """An HTTP request; `host` is empty for the VM's own address."""

    host: str
    port: int
    path: str
    tls: bool
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """A TCP connection; `host` is empty for the VM's own address."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Exec:
    """A command and its arguments."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grpc:
    """A question to gRPC's health service about one service, or about the server as a whole (empty)."""

    port: int
    service: str


@dataclass(frozen=True, slots=True)
class Probe:
    """When and how a workload is looked at, in seconds; thresholds count results in a row."""

    initial_delay_s: int
    timeout_s: int
    period_s: int
    success_threshold: int
    failure_threshold: int
    method: HttpGet | TcpSocket | Exec | Grpc

    @classmethod
    def of(cls, said: agent_v1.Probe) -> "Probe":
        """The probe in a host configuration; ValueError when it makes no sense."""
        method = _method(said)
        text = "\n".join([*getattr(method, "command", ()), getattr(method, "host", "")])
        least = min(said.timeout_s, said.period_s, said.success_threshold, said.failure_threshold)
        if "\0" in text or least < 1:
            raise ValueError("the probe makes no sense: its times and counts begin at 1")
        return cls(
            said.initial_delay_s,
            said.timeout_s,
            said.period_s,
            said.success_threshold,
            said.failure_threshold,
            method,
        )


def _method(said: agent_v1.Probe) -> HttpGet | TcpSocket | Exec | Grpc:
    match said.WhichOneof("method"):
        case "http_get":
            get = said.http_get
            headers = tuple((header.name, header.value) for header in get.headers)
            if not all(map(str.isprintable, (get.path, *(text for header in headers for text in header)))):
                raise ValueError("the probe's path or one of its headers holds a control character")
            return HttpGet(get.host, get.port, get.path, get.tls, headers)
        case "tcp_socket":
            return TcpSocket(said.tcp_socket.host, said.tcp_socket.port)
        case "exec":
            return Exec(tuple(said.exec.command))
        case "grpc":
            return Grpc(said.grpc.port, said.grpc.service)
    raise ValueError(
        "the probe has no method that this agent knows: is the agent older than the control plane?"
    )


async def look(probe: Probe, own_address: str) -> str:
    """Why the workload cannot take traffic; empty when it can."""
    try:
        async with asyncio.timeout(probe.timeout_s):
            match probe.method:
                case HttpGet() as get:
                    return await _http(get, own_address)
                case TcpSocket(host, port):
                    _, writer = await asyncio.open_connection(host or own_address, port)
                    writer.transport.abort()
                    return ""
                case Exec(command):
                    return await _run(command)
                case Grpc(port, service):
                    return await _grpc(own_address, port, service)
    except TimeoutError:
        return f"no answer in {probe.timeout_s} s"
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        return str(error) or type(error).__name__


async def _http(get: HttpGet, own_address: str) -> str:
    host = get.host or own_address
    tls = None
    if get.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, get.port, ssl=tls, limit=_MOST_HEAD)
    try:
        named = f"[{host}]" if ":" in host else host
        headers = {"host": f"{named}:{get.port}", "user-agent": "isthmus-probe/1.0", "connection": "close"}
        lines = [f"GET {'' if get.path.startswith('/') else '/'}{get.path} HTTP/1.1"]
        # the same name may stand twice, and what is given counts instead of ours
        given = {name.lower() for name, _ in get.headers}
        lines += [f"{name}: {value}" for name, value in headers.items() if name not in given]
        lines += [f"{name}: {value}" for name, value in get.headers]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = (await reader.readuntil(b"\n")).decode("latin-1")
        version, _, rest = answer.partition(" ")
        status = rest.strip()[:3]
        if not version.startswith("HTTP/1.") or not status.isdigit():
            return f"what answers at port {get.port} is not HTTP"
        return "" if 200 <= int(status) < 400 else f"HTTP status {status}"
    finally:
        writer.transport.abort()


async def _grpc(own_address: str, port: int, service: str) -> str:
    named = service.encode()
    request = b"\x0a" + _varint(len(named)) + named if named else b""
    host = f"[{own_address}]" if ":" in own_address else own_address
    options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.insecure_channel(f"{host}:{port}", options=options) as channel:
        method = channel.unary_unary(
            "/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes
        )
        try:
            answer = await method(request)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return "" if answer == _SERVING else "not serving"


def _varint(number: int) -> bytes:
    """A number as protobuf spells it (https://protobuf.dev/programming-guides/encoding/#varints)."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.defpath, "HOME": "/", "LANG": "C.UTF-8"},
        start_new_session=True,
    )


async def _run(command: tuple[str, ...]) -> str:
    """Runs the command; how it ended, when that was not well. Nothing of it is left when this returns."""
    user = unprivileged.user(os.environ)
    child = _started(unprivileged.becoming(user, command))
    over = asyncio.Event()
    descriptor = os.pidfd_open(child.pid)
    asyncio.get_running_loop().add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        # before it is reaped: until then no other group can have its number
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
    if code == unprivileged.NOT_STARTED:
        return f"{command[0]} does not start as user {user.name}: is it there, and may that user run it?"
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    return "" if code == 0 else f"{command[0]} ended with {how}"
