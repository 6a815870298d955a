"""VMs of a real mesh in a lab, each with programs that say who they are, and what a caller gets from them."""

import json
import subprocess
import sys
import textwrap
from pathlib import PurePosixPath

from isthmus.demo.vm import STATE, VM, join
from isthmus.lab import control
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

LAST_GOOD = f"{STATE}/last-good.json.gz"
SERVERS = """
    import asyncio, socket
    name = socket.gethostname().encode()
    async def http(reader, writer):
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            ok = head.split()[1] != b"/health" or not __import__("os").path.exists("/run/sick")
            status = b"200 OK" if ok else b"503 Sick"
            writer.write(b"HTTP/1.1 " + status + b"\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(name) + name)
    async def lines(reader, writer):
        writer.write(name + b"\\n")
        while line := await reader.readline():
            writer.write(line.upper())
    async def safely(program, reader, writer):
        try: await program(reader, writer)
        except (OSError, asyncio.IncompleteReadError): pass
        finally: writer.close()
    async def main():
        for port, program in {8080: http, 7000: lines}.items():
            await asyncio.start_server(
                lambda r, w, p=program: safely(p, r, w), ("0.0.0.0", "::"), port)
        print("listening", flush=True)
        await asyncio.Event().wait()
    asyncio.run(main())
"""
"""HTTP on 8080, text on 7000; each says on which host it runs. `/health` is 503 while /run/sick is there."""
ASK = """
    import http.client, json, socket, sys
    kind, host, port, path = sys.argv[1:]
    try:
        if kind == "tcp":
            said = socket.create_connection((host, int(port)), 10).recv(100).decode().strip()
            answer = {"said": said}
        else:
            connection = http.client.HTTPConnection(host, int(port), timeout=10)
            connection.request("GET", path)
            response = connection.getresponse()
            answer = {"status": response.status, "rule": response.getheader("x-rule"),
                      "said": response.read().decode()}
    except (OSError, http.client.HTTPException) as error:
        answer = {"error": type(error).__name__}
    print(json.dumps(answer))
"""
HOLD = """
    import socket, sys
    held = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).makefile("rw")
    print("open", held.readline().strip(), flush=True)
    for word in sys.stdin:
        held.write(word); held.flush(); print(held.readline().strip(), flush=True)
"""


def serve(host: Host) -> None:
    """Starts the programs on a host and waits until they listen."""
    command = [sys.executable, "-c", textwrap.dedent(SERVERS)]
    host.spawn(command, log=f"{host.name}-servers.log").wait_for_line("listening", timeout_s=60)


def member(lab: Lab, plane: control.ControlPlane, name: str, group: str) -> VM:
    """A VM of its own that serves and has joined."""
    host = lab.host(name)
    serve(host)
    return join(plane, host, group)


def http(host: Host, name: str, path: str = "/", port: int = 8080) -> dict[str, object]:
    """What a program on a host gets for a request."""
    return _ask(host, "http", name, str(port), path)


def tcp(host: Host, name: str, port: int = 7000) -> dict[str, object]:
    """What a server that speaks first says to a program on a host."""
    return _ask(host, "tcp", name, str(port), "")


def _ask(host: Host, *arguments: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(
        host.run([sys.executable, "-c", textwrap.dedent(ASK), *arguments]).stdout
    )
    return answer


def kept(vm: VM) -> str:
    """What the VM keeps for a start without control plane, as a word that changes with it."""
    return vm.host.run(["sh", "-c", f"sha256sum {LAST_GOOD} || true"], check=False).stdout


def await_kept(vm: VM, holding: str = "") -> None:
    """Waits until the VM keeps something for a start without control plane (with these words in it)."""
    look = ["sh", "-c", f"gzip -dc {LAST_GOOD} | grep -q -- '{holding}'"]
    what = f"{PurePosixPath(LAST_GOOD).name} with {holding!r}"
    vm.host.wait_until(lambda: vm.host.run(look, check=False).returncode == 0, what, timeout_s=60)


def agent_says(vm: VM, words: str, *, timeout_s: float = 40) -> None:
    """Waits until the agent has said so."""
    vm.host.wait_until(lambda: words in vm.agent.output(), f"the agent says {words!r}", timeout_s=timeout_s)


class Held:
    """A connection from one host to another that stays open."""

    def __init__(self, host: Host, name: str, port: int = 7000) -> None:
        self.process = subprocess.Popen(
            host.argv([sys.executable, "-c", textwrap.dedent(HOLD), name, str(port)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line().startswith("open")

    def says(self, word: str) -> str:
        """What comes back for a word."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()
