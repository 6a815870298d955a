"""Real labs: hosts that behave like VMs, and nothing left of them afterwards."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.lab import namespaces, records, snapshot
from isthmus.lab.host import CommandFailed
from isthmus.lab.lab import Lab, attach
from isthmus.lab.records import LabError
from isthmus.lab.wire import flows

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("live") as started:
            started.host("a")
            started.host("b")
            started.host("six", v4=False)
            yield started


def test_a_host_is_a_machine_of_its_own(lab: Lab) -> None:
    a = lab.host("fresh")
    assert a.run(["hostname"]).stdout == "fresh\n"
    assert a.run(["sh", "-c", "echo $$"]).stdout.strip() != str(os.getpid())
    assert len(a.run(["ps", "-e", "-o", "comm="]).stdout.split()) < 5
    assert a.run(["ls", "/run"]).stdout.split() == ["lock"]


def test_what_a_host_writes_is_its_own(lab: Lab) -> None:
    a, b = lab.hosts["a"], lab.hosts["b"]
    services = ("/etc/systemd/system/x.service", "/srv/x/y")
    for path in ("/etc/resolv.conf", *services, "/var/lib/isthmus/x", "/run/isthmus/x"):
        a.write(path, "only here\n", mode=0o600)
        assert a.read(path) == "only here\n"
        assert "only here" not in b.run(["cat", path], check=False).stdout
        real = Path(path)
        assert not real.exists() or "only here" not in real.read_text()
    a.write("/etc/resolv.conf", b.read("/etc/resolv.conf"))


def test_hosts_reach_each_other_by_name_in_both_families(lab: Lab) -> None:
    script = "import socket,sys; print(*sorted({i[4][0] for i in socket.getaddrinfo(sys.argv[1], 80)}))"
    a = lab.hosts["a"]
    assert a.run([sys.executable, "-c", script, "b"]).stdout.split() == list(lab.hosts["b"].record.addresses)
    assert a.run([sys.executable, "-c", script, "six.lab"]).stdout.split() == ["fd99::12"]
    assert a.run(["getent", "hosts", "nobody.lab"], check=False).returncode != 0


def test_the_router_stays_where_it_was_when_hosts_are_added(lab: Lab) -> None:
    seen = []
    for name in ("a", "more-1", "more-2", "more-3"):
        host = lab.hosts.get(name) or lab.host(name)
        host.run(["getent", "hosts", "b.lab"])
        told = host.run(["ip", "neigh", "show", "10.99.0.1"]).stdout.split()
        seen.append(told[told.index("lladdr") + 1])
    assert seen == ["02:00:0a:63:00:01"] * 4


def test_rules_bind_ports_and_root_powers_stay_inside(lab: Lab) -> None:
    a, before = lab.hosts["a"], snapshot.machine()
    a.run(["nft", "add", "table", "inet", "ours"])
    try:
        assert "table inet ours" in a.run(["nft", "list", "ruleset"]).stdout
        assert lab.hosts["b"].run(["nft", "list", "ruleset"]).stdout == ""
        assert before.differences(snapshot.machine()) == ()
    finally:
        a.run(["nft", "delete", "table", "inet", "ours"])


def test_a_snapshot_sees_every_kind_of_change(lab: Lab) -> None:
    host = lab.host("watched")
    before = host.snapshot()
    assert before.differences(host.snapshot()) == ()
    host.run(
        [
            "sh",
            "-c",
            "echo x >> /etc/hosts; mkdir -m 700 /run/new; nft add table ip t; ip addr add 10.1.1.1 dev lo",
        ]
    )
    web = host.spawn(["python3", "-m", "http.server", "81"], log="web.log")
    host.wait_until(lambda: "0051" in host.read("/proc/net/tcp"), "port 81")
    seen = " ".join(line.partition(":")[0] for line in before.differences(host.snapshot()))
    for fact in ("file /etc/hosts", "file /run/new", "nftables", "addresses", "processes", "listening"):
        assert fact in seen
    web.stop()


def test_the_real_machine_reaches_a_port_and_the_wire_shows_it(lab: Lab, tmp_path: Path) -> None:
    b = lab.hosts["b"]
    web = b.spawn(
        ["python3", "-u", "-m", "http.server", "--bind", "0.0.0.0", "--directory", "/run", "8000"],
        log="b.log",
    )
    web.wait_for_line("Serving", timeout_s=10)
    port = lab.forward("b", 8000)
    with lab.wire("b", tmp_path / "b.pcap") as path:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
            assert b"Directory listing" in answer.read()
    sent = b"".join(flows(path).values())
    assert b"GET / HTTP/1.1" in sent
    assert b"Directory listing" in sent
    web.stop()
    with socket.create_connection(("127.0.0.1", port), 5) as closed, contextlib.suppress(ConnectionError):
        assert closed.recv(1) == b""


def test_commands_tell_how_they_ended(lab: Lab) -> None:
    a = lab.hosts["a"]
    assert a.run(["sh", "-c", "exit 7"], check=False).returncode == 7
    with pytest.raises(CommandFailed, match=r"a: `sh -c echo no >&2; exit 3` ended with 3: no"):
        a.run(["sh", "-c", "echo no >&2; exit 3"])
    with pytest.raises(LabError, match="took longer than"):
        a.run(["sleep", "30"], timeout_s=0.3)
    assert "sleep 30" not in a.run(["ps", "-e", "-o", "args="]).stdout
    quick = a.spawn(["echo", "other words"], log="quick.log")
    with pytest.raises(
        LabError, match=r"ended with 0, expected a line starting 'ready'; it printed:\nother words"
    ):
        quick.wait_for_line("ready", timeout_s=5)


def test_orphans_leave_no_zombies(lab: Lab) -> None:
    a = lab.hosts["a"]
    a.run(["sh", "-c", "(sleep 0.1 &) ; true"])
    a.wait_until(
        lambda: "sleep 0.1" not in a.run(["ps", "-e", "-o", "args="]).stdout, "the end of the orphan"
    )
    assert "Z" not in a.run(["ps", "-e", "-o", "stat="]).stdout


def test_another_process_finds_the_hosts(lab: Lab) -> None:
    assert attach("live", "a").run(["hostname"]).stdout == "a\n"
    with pytest.raises(LabError, match="has no host 'x'"):
        attach("live", "x")
    with pytest.raises(LabError, match="running already"):
        Lab.start("live")


def test_a_killed_owner_takes_the_lab_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_LAB_DIR", str(tmp_path / "labs"))
    program = (
        "from isthmus.lab.lab import Lab\n"
        "lab = Lab.start('doomed'); lab.host('a').spawn(['sleep', '1000'], log='s.log')\n"
        "print('up', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        (record,) = records.running()
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while record.leader.alive or record.hosts["a"].holder.alive:
        assert time.monotonic() < deadline, "the leader outlived its owner"
        time.sleep(0.02)
    assert records.running() == ()
    assert not (tmp_path / "labs").exists()
