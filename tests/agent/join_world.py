"""A VM that a test joins and breaks, beside a peer with the smallest control plane there is."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hosts import Host, pair

ISTHMUS = str(Path(sys.executable).with_name("isthmus"))
HERE = Path(__file__).parent
PROGRAM = """
import socket, threading
def serve(family, address):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, 3306)); s.listen()
    while True:
        c, peer = s.accept(); c.sendall(peer[0].encode()); c.close()
threading.Thread(target=serve, args=(socket.AF_INET6, "::"), daemon=True).start()
serve(socket.AF_INET, "0.0.0.0")
"""
RESOLVER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.0.0.1", 53))
head, record = bytes.fromhex("81800001000100000000"), bytes.fromhex("c00c000100010000003c0004c0000201")
while True:
    q, a = s.recvfrom(4096)
    s.sendto(q[:2] + head + q[12:q.index(b"\\0", 12) + 5] + record, a)
"""
GREETING = "import socket,sys;print(socket.create_connection((sys.argv[1],3306),10).recv(100).decode())"


@dataclass
class World:
    """The VM with a program on it, the peer with the mesh, and what the VM was before."""

    vm: Host
    peer: Host
    mesh: Path
    log: Path
    before: dict[str, str]
    running: list[subprocess.Popen[bytes]]

    @property
    def token(self) -> str:
        return (self.mesh / "token").read_text()

    @property
    def until(self) -> str:
        """When the token expires."""
        return "2199-01-01T00:00:00Z"

    @property
    def said(self) -> str:
        return self.log.read_text()

    def fault(self, **faults: object) -> None:
        (self.mesh / "faults.json").write_text(json.dumps(faults))

    def join(self, token: str | None = None, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = self.vm.start(
            ISTHMUS, "join", token or self.token, "--address", "10.0.0.7", log=self.log, env=env
        )
        self.running.append(process)
        return process

    def joined(self) -> subprocess.Popen[bytes]:
        self.log.write_text("")
        process = self.join()
        until(lambda: "\njoined " in self.said or process.poll() is not None)
        assert "\njoined " in self.said, self.said
        return process

    def fails(self, token: str | None = None, **env: str) -> str:
        """What a join says that must fail."""
        self.log.write_text("")
        assert self.join(token, env).wait(60) == 1, self.said
        return self.said

    def same(self) -> None:
        """The VM is as it was."""
        until(lambda: self.vm.snapshot() == self.before, 10, tell=False)
        assert self.vm.snapshot() == self.before

    def agent(self) -> int:
        return int(self.vm.run("cat", "/run/isthmus/agent.pid").split()[0])

    def events(self) -> str:
        path = self.mesh / "events"
        return path.read_text() if path.exists() else ""


def until(fact: Callable[[], bool], deadline_s: float = 40, *, tell: bool = True) -> None:
    """Waits for a fact; without `tell` the caller looks for itself."""
    end = time.monotonic() + deadline_s
    while not fact():
        if time.monotonic() > end:
            if tell:
                raise AssertionError("it did not come true in time")
            return
        time.sleep(0.02)


@contextlib.contextmanager
def standing(tmp_path: Path, *, state_size: str = "64m") -> Iterator[World]:
    """Both hosts, ready for a join."""
    if os.geteuid() != 0:
        pytest.skip("namespaces of their own for two hosts need root")
    with pair(state_size=state_size) as (vm, peer):
        mesh, log = tmp_path / "mesh", tmp_path / "join.log"
        mesh.mkdir()
        running = [
            peer.start(sys.executable, str(HERE / "mesh.py"), str(mesh), log=tmp_path / "mesh.log"),
            peer.start(sys.executable, "-c", RESOLVER, log=tmp_path / "dns.log"),
            vm.start(sys.executable, "-c", PROGRAM, log=tmp_path / "program.log"),
        ]
        try:
            until(lambda: (mesh / "token").exists())
            until(lambda: ":3306" in vm.run("ss", "-Hlnt"))
            log.write_text("")
            vm.run(
                "nft", "add table inet theirs; add chain inet theirs c { type filter hook input priority 0; }"
            )
            yield World(vm, peer, mesh, log, vm.snapshot(), running)
        finally:
            for process in running:
                process.kill()
                process.wait()
