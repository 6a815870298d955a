"""Capture on a VM that forwards for others (Docker, k3s): only what is for the VM itself is redirected."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Host, host
from join_world import until

from isthmus.agent import capture
from isthmus.agent.capture import Capture

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

SAYS_ITS_NAME = """
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    c, _ = s.accept(); c.sendall(sys.argv[3].encode()); c.close()
"""
ASK = "import socket,sys;print(socket.create_connection((sys.argv[1],3306),10).recv(100).decode())"


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host, Host]]:
    """outside ── vm ── container: the VM forwards between the two."""
    if os.geteuid() != 0:
        pytest.skip("namespaces of their own need root")
    with host("10.0.0.7") as vm, host("10.0.0.1") as outside, host("172.17.0.2") as inside:
        for other, name, here, there in (
            (outside, "eth0", "10.0.0.7/24", "10.0.0.1/24"),
            (inside, "docker0", "172.17.0.1/24", "172.17.0.2/24"),
        ):
            cable = f"ip link add eth0 type veth peer name {name} netns {vm.pid}"
            subprocess.run(["nsenter", "-t", str(other.pid), "-n", *cable.split()], check=True)
            for each, device, address in ((vm, name, here), (other, "eth0", there)):
                each.run("ip", "addr", "add", address, "dev", device)
                each.run("ip", "link", "set", device, "up")
            other.run("ip", "route", "add", "default", "via", here.partition("/")[0])
        vm.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield vm, outside, inside


def test_forwarded_connections_are_left_alone(hosts: tuple[Host, Host, Host], tmp_path: Path) -> None:
    vm, outside, inside = hosts
    log = tmp_path / "log"
    servers = [
        vm.start(sys.executable, "-c", SAYS_ITS_NAME, "0.0.0.0", "15006", "envoy", log=log),
        inside.start(sys.executable, "-c", SAYS_ITS_NAME, "0.0.0.0", "3306", "container", log=log),
        outside.start(sys.executable, "-c", SAYS_ITS_NAME, "0.0.0.0", "3306", "outside", log=log),
    ]
    try:
        until(lambda: all(":3306" in each.run("ss", "-Hlnt") for each in (inside, outside)))
        until(lambda: ":15006" in vm.run("ss", "-Hlnt"))
        script = tmp_path / "rules.nft"
        script.write_text(capture.ruleset(Capture.of([3306], ["240.240.0.0/16"])))
        vm.run("nft", "-f", str(script))
        assert outside.python(ASK, "10.0.0.7").strip() == "envoy"
        assert outside.python(ASK, "172.17.0.2").strip() == "container"
        assert inside.python(ASK, "10.0.0.1").strip() == "outside"
    finally:
        for server in servers:
            server.kill()
            server.wait()
