"""Two machines as network namespaces with a cable between them: a VM in the mesh, and one outside.

outside 10.77.0.100, fd77::100 ──── 10.77.0.1, fd77::1 vm (capture rules, Envoy as uid 1337, programs)
"""

import asyncio
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import geteuid
from pathlib import Path

VM_V4, VM_V6 = "10.77.0.1", "fd77::1"

PROGRAMS = """
import asyncio, json, socket
async def http(reader, writer):
    while head := await reader.readuntil(b"\\r\\n\\r\\n"):
        lines = head.decode().split("\\r\\n")
        headers = {k.lower(): v for k, _, v in (l.partition(": ") for l in lines[1:] if l)}
        peer, own = writer.get_extra_info("peername")[0], writer.get_extra_info("sockname")
        body = json.dumps({"line": lines[0], "headers": headers, "peer": peer, "port": own[1]}).encode()
        code = 503 if "/fail" in lines[0] else 200
        writer.write(b"HTTP/1.1 %d x\\r\\nContent-Length: %d\\r\\n\\r\\n" % (code, len(body)) + body)
        await writer.drain()
async def banner(reader, writer):
    writer.write(b"HELLO " + str(writer.get_extra_info("sockname")[1]).encode() + b"\\n")
    while data := await reader.read(100):
        writer.write(data.upper())
    writer.close()
async def safely(program, reader, writer):
    try: await program(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError): writer.close()
async def main():
    for port, program in {9080: http, 9081: http, 3306: banner, 3307: banner}.items():
        await asyncio.start_server(lambda r, w, p=program: safely(p, r, w), ("0.0.0.0", "::"), port)
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
"""HTTP on 9080 and 9081, telling what arrived; a server that speaks first on 3306 and 3307."""


def possible() -> bool:
    """Whether this machine lets us build it: root, with the tools."""
    return geteuid() == 0 and all(map(shutil.which, ("unshare", "nsenter", "ip", "nft", "setpriv")))


@dataclass
class Machine:
    """One network namespace, held by a process."""

    pid: int

    @property
    def enter(self) -> tuple[str, ...]:
        """The words before a command that is to run in it."""
        return ("nsenter", "-t", str(self.pid), "-n", "--")

    def do(self, *commands: str, given: str | None = None) -> None:
        """Runs shell commands in it; a failure fails the test."""
        for command in commands:
            subprocess.run(
                [*self.enter, "sh", "-ec", command], check=True, input=given, text=True, timeout=60
            )

    async def python(self, code: str, *arguments: str, timeout_s: float = 8.0) -> str:
        """What a piece of Python prints in it."""
        process = await asyncio.create_subprocess_exec(
            *self.enter,
            sys.executable,
            "-c",
            textwrap.dedent(code),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode().strip()


@asynccontextmanager
async def machines() -> AsyncIterator[tuple[Machine, Machine]]:
    """(vm, outside), with the VM's programs running."""
    holders = [
        await asyncio.create_subprocess_exec(
            "unshare", "--net", "sh", "-c", "echo; exec sleep 120", stdout=-1
        )
        for _ in range(2)
    ]
    programs = None
    try:
        for holder in holders:
            assert holder.stdout is not None
            await holder.stdout.readline()
        vm, outside = (Machine(holder.pid) for holder in holders)
        vm.do(f"ip link add eth0 type veth peer name eth0 netns {outside.pid}")
        for machine, v4, v6 in ((vm, VM_V4, VM_V6), (outside, "10.77.0.100", "fd77::100")):
            machine.do(
                "ip link set lo up; ip link set eth0 up",
                f"ip addr add {v4}/24 dev eth0; ip addr add {v6}/64 dev eth0 nodad",
                "ip route add default dev eth0; ip -6 route add default dev eth0",
            )
        vm.do("ip addr add ::6/128 dev lo")
        programs = await asyncio.create_subprocess_exec(
            *vm.enter, sys.executable, "-c", PROGRAMS, stdout=asyncio.subprocess.PIPE
        )
        assert programs.stdout is not None
        assert await programs.stdout.readline() == b"ready\n"
        yield vm, outside
    finally:
        for process in (programs, *holders):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()


def envoy_user(directory: Path) -> tuple[str, ...]:
    """How Envoy becomes the user that capture lets through; the directory is made its own."""
    shutil.chown(directory, 1337, 1337)
    for parent in directory.parents:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    return ("setpriv", "--reuid", "1337", "--regid", "1337", "--clear-groups", "--")
