"""Join, leave, crash and failure on a host of its own: real nftables, real Envoy, real DNS."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hosts import RESOLV_CONF, Host, pair

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

EVERY = "ISTHMUS_TEST_EVERY_CUT"
CUTS = range(96) if os.environ.get(EVERY) else range(4, 96, 8)
"""A join makes about 90 changes; the ordinary run dies before each eighth of them."""
ISTHMUS = str(Path(sys.executable).with_name("isthmus"))
HERE = Path(__file__).parent
TRIED = "/run/isthmus-join"
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
CUT = """
import sys; sys.path.insert(0, sys.argv.pop(1)); import cut; cut.arm(int(sys.argv.pop(1)))
sys.argv[0] = "isthmus"; from isthmus.cli.main import main; main()
"""
LOOK_UP = (
    "import socket,sys;print(sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1],80,socket.AF_INET)}))"
)
NOT_ROOT = """
import os, sys
import isthmus.agent.join, isthmus.agent.run, isthmus.agent.enrol, isthmus.cli.vm
from isthmus.cli.main import main
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
sys.argv[0] = "isthmus"; sys.argv.insert(1, "join"); main()
"""
"""Python itself may lie where only root can look: it is loaded first."""
GREETING = "import socket,sys;print(socket.create_connection((sys.argv[1],3306),3).recv(100).decode())"


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
        until(lambda: "\njoined " in self.said or process.poll() is not None, 20)
        assert "\njoined " in self.said, self.said
        return process

    def fails(self, token: str | None = None, **env: str) -> str:
        """What a join says that must fail."""
        self.log.write_text("")
        assert self.join(token, env).wait(30) == 1, self.said
        return self.said

    def same(self) -> None:
        """The VM is as it was, but for the key of a join that failed."""
        until(lambda: self._now() == self.before, 3, tell=False)
        assert self._now() == self.before

    def _now(self) -> dict[str, str]:
        now = self.vm.snapshot()
        files = now["files"].splitlines(keepends=True)
        return now | {"files": "".join(line for line in files if line != f"{TRIED} 600 root root f\n")}

    def agent(self) -> int:
        return int(self.vm.run("cat", "/run/isthmus/agent.pid").split()[0])

    def events(self) -> str:
        path = self.mesh / "events"
        return path.read_text() if path.exists() else ""


def until(fact: Callable[[], bool], deadline_s: float, *, tell: bool = True) -> None:
    end = time.monotonic() + deadline_s
    while not fact():
        if time.monotonic() > end:
            if tell:
                raise AssertionError("it did not come true in time")
            return
        time.sleep(0.02)


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("namespaces of their own for two hosts need root")
    with pair(state_size=getattr(request, "param", "64m")) as (vm, peer):
        mesh, log = tmp_path / "mesh", tmp_path / "join.log"
        mesh.mkdir()
        running = [
            peer.start(sys.executable, str(HERE / "mesh.py"), str(mesh), log=tmp_path / "mesh.log"),
            peer.start(sys.executable, "-c", RESOLVER, log=tmp_path / "dns.log"),
            vm.start(sys.executable, "-c", PROGRAM, log=tmp_path / "program.log"),
        ]
        try:
            until(lambda: (mesh / "token").exists(), 10)
            until(lambda: ":3306" in vm.run("ss", "-Hlnt"), 10)
            log.write_text("")
            vm.run(
                "nft", "add table inet theirs; add chain inet theirs c { type filter hook input priority 0; }"
            )
            yield World(vm, peer, mesh, log, vm.snapshot(), running)
        finally:
            for process in running:
                process.kill()
                process.wait()


def test_join_proves_itself_and_leave_restores_the_vm(world: World) -> None:
    world.joined()
    assert world.vm.python(GREETING, "10.0.0.7").strip() == "10.0.0.7"
    assert world.peer.python(GREETING, "10.0.0.7").strip() == "127.0.0.6"
    assert world.peer.python(GREETING, "fd00::7").strip() == "::6"
    assert world.vm.python(LOOK_UP, "isthmus.isthmus-system.svc.cluster.local").strip() == "['240.240.0.1']"
    assert world.vm.python(LOOK_UP, "example.com").strip() == "['192.0.2.1']"
    resolv = world.vm.run("cat", "/etc/resolv.conf")
    assert resolv.endswith(RESOLV_CONF.replace(" rotate", ""))
    lines = [line for line in world.said.splitlines() if line]
    assert len(lines) <= 12
    left = world.vm.run(ISTHMUS, "leave")
    assert "taken vm/mysqldb-10.0.0.7 out" in left
    assert "left" in world.events()
    world.same()


def test_leave_works_without_the_control_plane(world: World) -> None:
    world.joined()
    world.running[0].kill()
    assert "was not told" in world.vm.run(ISTHMUS, "leave")
    world.same()
    assert "in no mesh" in world.vm.run(ISTHMUS, "leave")


def test_a_second_join_is_told_about_the_first(world: World) -> None:
    world.joined()
    said = world.vm.run(ISTHMUS, "join", world.token, check=False)
    assert "spiffe://cluster.local/ns/vm/sa/mysqldb" in said
    assert "isthmus leave" in said
    assert world.peer.python(GREETING, "10.0.0.7").strip() == "127.0.0.6"


def test_the_agent_dies_and_envoy_serves_on_until_it_is_back(world: World) -> None:
    world.joined()
    envoy = world.vm.run("cat", "/run/isthmus/envoy.pid")
    world.vm.run("kill", "-9", str(world.agent()))
    assert world.peer.python(GREETING, "10.0.0.7").strip() == "127.0.0.6"
    assert world.vm.python(LOOK_UP, "example.com").strip() == "['192.0.2.1']"
    agent = world.vm.start(ISTHMUS, "agent", log=world.log)
    world.running.append(agent)
    until(lambda: "joined" in world.said.rpartition("still running")[2], 10)
    assert world.vm.run("cat", "/run/isthmus/envoy.pid") == envoy
    until(lambda: "held=True" in world.events(), 5)
    world.vm.run("kill", "-TERM", str(world.agent()))
    assert agent.wait(10) == 0
    assert "isthmus" not in world.vm.run("nft", "list", "ruleset")
    assert world.vm.run("cat", "/etc/resolv.conf") == RESOLV_CONF
    assert world.vm.run(ISTHMUS, "leave")
    world.same()


def test_envoy_dies_and_comes_back(world: World) -> None:
    world.joined()
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])

    def served() -> bool:
        return "127.0.0.6" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False)

    until(served, 10)


def test_without_listeners_declared_ports_are_closed_and_nothing_is_led_out(world: World) -> None:
    """As after a reboot while the control plane is away: Envoy starts, and nobody tells it what to do."""
    agent = world.joined()
    world.running[0].kill()
    world.running[0].wait()
    world.vm.run("kill", "-TERM", str(world.agent()))
    agent.wait(10)
    code = (
        "import json;p='/var/lib/isthmus/bootstrap.json';d=json.load(open(p));"
        "d['static_resources'].pop('listeners');json.dump(d,open(p,'w'))"
    )
    world.vm.run("cp", "-p", "/var/lib/isthmus/bootstrap.json", "/var/lib/isthmus/kept.json")
    world.vm.python(code)
    world.log.write_text("")
    world.running.append(world.vm.start(ISTHMUS, "agent", log=world.log))
    until(lambda: "no listeners yet" in world.said, 20)
    assert "refused" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False).lower()
    assert world.vm.python(GREETING, "127.0.0.1").strip() == "127.0.0.1"
    assert "240.240" not in world.vm.run("nft", "list", "table", "inet", "isthmus")
    assert world.vm.run("cat", "/etc/resolv.conf") == RESOLV_CONF
    # the control plane is back: Envoy gets its listeners
    world.vm.run("mv", "/var/lib/isthmus/kept.json", "/var/lib/isthmus/bootstrap.json")
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])
    world.running.append(world.vm.start(ISTHMUS, "agent", log=world.log))
    until(lambda: "127.0.0.6" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False), 20)
    until(lambda: "240.240" in world.vm.run("nft", "list", "table", "inet", "isthmus"), 20)


def test_an_envoy_that_comes_back_without_listeners_leads_nothing_out(world: World) -> None:
    world.joined()
    world.vm.run("cp", "-p", "/var/lib/isthmus/bootstrap.json", "/var/lib/isthmus/kept.json")
    code = (
        "import json;p='/var/lib/isthmus/bootstrap.json';d=json.load(open(p));"
        "d['static_resources'].pop('listeners');json.dump(d,open(p,'w'))"
    )
    world.vm.python(code)
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])
    until(lambda: "240.240" not in world.vm.run("nft", "list", "table", "inet", "isthmus"), 15)
    assert "refused" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False).lower()
    world.vm.run("mv", "/var/lib/isthmus/kept.json", "/var/lib/isthmus/bootstrap.json")
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])
    until(lambda: "240.240" in world.vm.run("nft", "list", "table", "inet", "isthmus"), 20)


def test_orders_that_change_are_carried_out_and_senseless_ones_refused(world: World) -> None:
    world.joined()
    world.fault(ports=[3306, 8000])
    until(lambda: "8000" in world.vm.run("nft", "list", "table", "inet", "isthmus"), 5)
    world.fault(ports=[99999])
    until(lambda: "99999" in world.events(), 5)
    assert "8000" in world.vm.run("nft", "list", "table", "inet", "isthmus")


def test_what_others_take_away_comes_back(world: World) -> None:
    world.joined()
    world.vm.run("nft", "flush", "ruleset")
    world.vm.run("sh", "-c", "echo nameserver 10.0.0.1 > /etc/resolv.conf")
    until(lambda: "127.0.73.53" in world.vm.run("cat", "/etc/resolv.conf"), 10)
    assert "redirect to :15006" in world.vm.run("nft", "list", "ruleset")
    world.vm.run(ISTHMUS, "leave")
    assert world.vm.run("cat", "/etc/resolv.conf") == "nameserver 10.0.0.1\n"


def test_certificates_rotate_without_a_reload(world: World) -> None:
    world.fault(ttl=4)
    world.joined()
    code = (
        f"import sys;sys.path.insert(0,{str(HERE)!r});import mesh;print(mesh.served_certificate('10.0.0.7'))"
    )
    first = world.peer.python(code)
    until(lambda: world.events().count("renewed") >= 2, 15)
    until(lambda: world.peer.python(code) != first, 5)


@pytest.mark.parametrize("cut", CUTS)
def test_kill_at_any_moment_then_leave_or_join_again(world: World, cut: int) -> None:
    """kill -9 before change number `cut` of the joining process; half of the times a new join cures it."""
    process = world.vm.start(
        sys.executable,
        "-c",
        CUT,
        str(HERE),
        str(cut),
        "join",
        world.token,
        "--address",
        "10.0.0.7",
        log=world.log,
    )
    world.running.append(process)
    until(lambda: process.poll() is not None or "\njoined " in world.said, 20)
    process.kill()
    process.wait()
    if cut // 8 % 2 or os.environ.get(EVERY):
        world.joined()
        assert world.peer.python(GREETING, "10.0.0.7").strip() == "127.0.0.6"
    world.vm.run(ISTHMUS, "leave")
    world.same()


@pytest.mark.parametrize("cut", range(40) if os.environ.get(EVERY) else range(3, 40, 9))
def test_kill_leave_at_any_moment_then_leave_again(world: World, cut: int) -> None:
    agent = world.joined()
    # without its agent, leave itself has to undo everything
    agent.kill()
    agent.wait()
    leave = world.vm.start(sys.executable, "-c", CUT, str(HERE), str(cut), "leave", log=world.log)
    leave.wait(10)
    world.vm.run(ISTHMUS, "leave")
    world.same()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"refuse": "the token expired 3 minutes ago"}, "expired 3 minutes ago"),
        ({"refuse": "this VM's clock is 600 s behind"}, "clock is 600 s behind"),
        ({"bootstrap": {"node": {"id": "sidecar~a~b.c~d"}, "nonsense": 1}}, "nonsense"),
    ],
)
def test_a_refusal_or_a_dead_envoy_rolls_back(world: World, fault: dict[str, object], words: str) -> None:
    world.fault(**fault)
    said = world.fails()
    assert words in said
    assert "rolled back" in said
    world.same()


@pytest.mark.parametrize(
    "fault", [{"bootstrap": {"node": {"id": "sidecar~a~b.c~d"}, "x": 1}}, {"ports": [3307]}]
)
def test_the_same_token_is_good_for_another_try(world: World, fault: dict[str, object]) -> None:
    """Envoy that does not start, or a proof that fails: the cause is mended, the command is the same."""
    world.fault(**fault)
    said = world.fails()
    assert f"its token is still good on this VM until {world.until}" in said
    world.same()
    world.fails()
    world.fault()
    world.joined()
    assert world.vm.run("sh", "-c", f"test -e {TRIED} || echo gone") == "gone\n"
    world.vm.run(ISTHMUS, "leave")
    world.same()
    # who leaves takes the key along
    assert "was used already" in world.fails()


def test_the_key_of_a_failed_join_goes_with_leave_and_with_its_time(world: World) -> None:
    world.fault(ports=[3307])
    world.fails()
    world.vm.run(ISTHMUS, "leave")
    assert world.vm.snapshot() == world.before
    assert "was used already" in world.fails()
    first = world.vm.run("cat", TRIED)
    over = json.loads(first) | {"until": "2020-02-02T02:02:02Z"}
    world.vm.python("import sys;open(sys.argv[1],'w').write(sys.argv[2])", TRIED, json.dumps(over))
    assert "was used already" in world.fails()
    assert world.vm.run("cat", TRIED) != first


def test_a_program_that_cannot_be_reached_fails_the_proof(world: World) -> None:
    world.fault(ports=[3307])
    said = world.fails()
    assert "proof in" in said
    assert "3307" in said
    assert "rolled back  " in said
    assert "left" in world.events()
    world.same()


def test_damaged_and_foreign_tokens(world: World) -> None:
    assert "cut short" in world.fails(world.token[:-7])
    assert "not an Isthmus join token" in world.fails("eyJhbGciOi")
    assert "nothing had been changed" in world.said
    world.same()


def test_a_server_with_another_key_gets_nothing(world: World) -> None:
    code = "import sys;from isthmus.identity import jointoken as j;t=j.parse(sys.argv[1]);"
    code += "print(j.render(j.Token(t.namespace,t.name,t.addresses,b'x'*32,t.secret)))"
    wrong = subprocess.run(
        [sys.executable, "-c", code, world.token], capture_output=True, text=True, check=True
    )
    assert "nothing was sent" in world.fails(wrong.stdout.strip())
    assert world.events() == ""
    world.same()


def test_no_control_plane(world: World) -> None:
    world.running[0].kill()
    world.running[0].wait()
    assert "no way to the control plane" in world.fails()
    world.same()


@pytest.mark.parametrize("port", [15001, 15006])
def test_a_taken_port_is_named_with_its_holder(world: World, port: int) -> None:
    code = f"import socket,time;s=socket.create_server(('127.0.0.1',{port}));time.sleep(60)"
    holder = world.vm.start(sys.executable, "-c", code, log=world.log)
    world.running.append(holder)
    until(lambda: f":{port}" in world.vm.run("ss", "-Hlnt"), 5)
    said = world.fails()
    assert f"port {port} is taken by python" in said
    assert "process" in said
    holder.kill()
    world.same()


def test_no_nftables(world: World) -> None:
    nft = world.vm.run("sh", "-c", "readlink -f $(command -v nft || echo /usr/sbin/nft)").strip()
    world.vm.run("mount", "--bind", "/dev/null", nft)
    assert "nft is not installed" in world.fails()
    world.vm.run("umount", nft)
    world.same()


def test_not_root(world: World) -> None:
    said = world.vm.run(sys.executable, "-c", NOT_ROOT, world.token, check=False)
    assert "not root: join changes capture rules" in said
    assert "nothing had been changed" in said
    world.same()


def test_a_closed_terminal_rolls_back(world: World) -> None:
    world.fault(**{"no orders": True})
    process = world.join()
    until(lambda: "\nenvoy " in world.said, 15)
    world.vm.run("kill", "-HUP", str(world.agent()))
    assert process.wait(10) == 1
    assert "interrupted" in world.said
    assert "its token is still good on this VM" in world.said
    world.same()


def test_a_closed_terminal_stops_the_sidecar_in_order(world: World) -> None:
    process = world.joined()
    world.vm.run("kill", "-HUP", str(world.agent()))
    assert process.wait(10) == 0
    assert "isthmus" not in world.vm.run("nft", "list", "ruleset")


def test_leave_and_join_survive_a_damaged_membership(world: World) -> None:
    world.joined()
    world.vm.run("sh", "-c", "echo nonsense > /var/lib/isthmus/agent.json")
    assert "isthmus leave" in world.vm.run(ISTHMUS, "join", world.token, check=False)
    left = world.vm.run(ISTHMUS, "leave")
    assert "agent.json is damaged: the control plane was not told" in left
    world.same()


def test_only_root_writes_where_the_agent_does(world: World) -> None:
    world.joined()
    where = world.vm.run("stat", "-c", "%u:%g %a %n", "/run/isthmus", "/run/isthmus/envoy")
    assert where.split("\n")[:2] == ["0:0 755 /run/isthmus", "1337:1337 700 /run/isthmus/envoy"]
    world.vm.run("test", "-S", "/run/isthmus/envoy/admin.sock")


def test_a_full_disk_does_not_end_the_agent(world: World) -> None:
    world.fault(ttl=6)
    process = world.joined()
    world.vm.run("sh", "-c", "dd if=/dev/zero of=/var/lib/full bs=4k 2>/dev/null; true")
    renewals = world.events().count("renewed")
    until(lambda: "certificate not saved" in world.said, 10)
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])
    until(lambda: world.events().count("renewed") >= renewals + 2, 15)
    assert process.poll() is None
    assert world.said.count("certificate not saved") <= 3
    world.vm.run("rm", "/var/lib/full")
    until(lambda: "127.0.0.6" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False), 10)


@pytest.mark.parametrize("world", ["1m"], indirect=True)
def test_a_full_disk_is_seen_before_anything_is_changed(world: World) -> None:
    said = world.fails()
    assert "no room" in said
    assert "nothing had been changed" in said
    world.same()


def test_a_disk_that_fills_up_on_the_way_rolls_back(world: World) -> None:
    world.fault(no_orders=True, **{"no orders": True})
    process = world.join()
    until(lambda: "\nenvoy " in world.said, 15)
    world.vm.run("sh", "-c", "dd if=/dev/zero of=/var/lib/full bs=64k 2>/dev/null; true")
    world.fault()
    assert process.wait(30) == 1, world.said
    assert "rolled back" in world.said
    world.vm.run("rm", "/var/lib/full")
    world.same()


def test_interrupted(world: World) -> None:
    world.fault(**{"no orders": True})
    process = world.join()
    until(lambda: "\nenvoy " in world.said, 15)
    world.vm.run("kill", "-INT", str(world.agent()))
    assert process.wait(10) == 1
    assert "interrupted" in world.said
    world.same()
    assert process.returncode != -signal.SIGINT
