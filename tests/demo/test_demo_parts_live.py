"""The demo's parts on lab hosts without a mesh: the database, the services, the firewall."""

import os
import sys
from collections.abc import Iterator

import pytest

from isthmus.demo import firewall, mariadb
from isthmus.demo.check_mesh import GREETING, STRANGER
from isthmus.demo.stage import DATABASE, Part, service
from isthmus.lab import namespaces
from isthmus.lab.lab import Lab
from isthmus.lab.wire import flows

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0) or mariadb.lacking()),
        reason="this machine can run no lab, or has no MariaDB",
    ),
]


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
    with Lab.start("parts") as started:
        yield started


def test_ratings_come_from_mariadb_in_plain_text_without_a_mesh(lab: Lab) -> None:
    vm, client = lab.host("vm"), lab.host("client")
    before = vm.snapshot()
    database = mariadb.install(vm)
    part = Part("ratings", "v2", {**DATABASE, "MYSQL_DB_HOST": vm.address})
    service(client, part.service, part.environment)
    ask = ["curl", "-sS", "--fail", "http://localhost:9080/ratings/0"]
    with lab.wire("vm", lab.directory / "vm.pcap") as path:
        assert client.run(ask).stdout == '{"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}'
    sent = b"".join(flows(path).values())
    # What the check looks for on the wire is there when nothing hides it.
    assert all(text in sent for text in (*GREETING, b"SELECT Rating"))
    database.sql("UPDATE test.ratings SET Rating = 2 WHERE ReviewID = 2")
    assert '"Reviewer2": 2' in client.run(ask).stdout
    database.remove()
    assert before.differences(vm.snapshot()) == ()


def test_the_firewall_lets_in_only_what_the_sidecar_took_from_3306(lab: Lab) -> None:
    vm, client = lab.host("vm"), lab.host("client")
    firewall.install(vm)
    # Stands where Envoy would: behind the redirect of port 3306.
    chain = "type nat hook prerouting priority dstnat; tcp dport 3306 redirect to :15006;"
    vm.run(["nft", "-f", "-"], text=f"table ip t {{\n chain p {{\n {chain}\n }}\n}}\n")
    greeter = (
        "import socket; s = socket.create_server(('', 15006)); print('up', flush=True)\n"
        "while True: c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    )
    vm.spawn([sys.executable, "-c", greeter], log="greeter.log").wait_for_line("up", timeout_s=60)

    def ask(port: int) -> str:
        return client.run([sys.executable, "-c", STRANGER, vm.address, str(port)]).stdout.strip()

    assert ask(3306) == "b'hello'"
    assert ask(15006) == "TimeoutError"
    firewall.remove(vm)
    assert ask(15006) == "b'hello'"
