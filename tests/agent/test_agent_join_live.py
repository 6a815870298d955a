"""A VM in the mesh: it serves, what others take away comes back, and leaving restores it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import RESOLV_CONF
from join_world import GREETING, HERE, ISTHMUS, World, standing, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

LOOK_UP = (
    "import socket,sys;print(sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1],80,socket.AF_INET)}))"
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with standing(tmp_path) as made:
        yield made


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
    until(lambda: "joined" in world.said.rpartition("still running")[2])
    assert world.vm.run("cat", "/run/isthmus/envoy.pid") == envoy
    until(lambda: "held=True" in world.events())
    world.vm.run("kill", "-TERM", str(world.agent()))
    assert agent.wait(40) == 0
    assert "isthmus" not in world.vm.run("nft", "list", "ruleset")
    assert world.vm.run("cat", "/etc/resolv.conf") == RESOLV_CONF
    assert world.vm.run(ISTHMUS, "leave")
    world.same()


def test_envoy_dies_and_comes_back(world: World) -> None:
    world.joined()
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])

    def served() -> bool:
        return "127.0.0.6" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False)

    until(served)


def test_without_listeners_declared_ports_are_closed_and_nothing_is_led_out(world: World) -> None:
    """As after a reboot while the control plane is away: Envoy starts, and nobody tells it what to do."""
    agent = world.joined()
    world.running[0].kill()
    world.running[0].wait()
    world.vm.run("kill", "-TERM", str(world.agent()))
    agent.wait(40)
    code = (
        "import json;p='/var/lib/isthmus/bootstrap.json';d=json.load(open(p));"
        "d['static_resources'].pop('listeners');json.dump(d,open(p,'w'))"
    )
    world.vm.run("cp", "-p", "/var/lib/isthmus/bootstrap.json", "/var/lib/isthmus/kept.json")
    world.vm.python(code)
    world.log.write_text("")
    world.running.append(world.vm.start(ISTHMUS, "agent", log=world.log))
    until(lambda: "no listeners yet" in world.said)
    assert "refused" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False).lower()
    assert world.vm.python(GREETING, "127.0.0.1").strip() == "127.0.0.1"
    assert "240.240" not in world.vm.run("nft", "list", "table", "inet", "isthmus")
    assert world.vm.run("cat", "/etc/resolv.conf") == RESOLV_CONF
    # the control plane is back: Envoy gets its listeners
    world.vm.run("mv", "/var/lib/isthmus/kept.json", "/var/lib/isthmus/bootstrap.json")
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])
    world.running.append(world.vm.start(ISTHMUS, "agent", log=world.log))
    until(lambda: "127.0.0.6" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False))
    until(lambda: "240.240" in world.vm.run("nft", "list", "table", "inet", "isthmus"))


def test_an_envoy_that_comes_back_without_listeners_leads_nothing_out(world: World) -> None:
    world.joined()
    world.vm.run("cp", "-p", "/var/lib/isthmus/bootstrap.json", "/var/lib/isthmus/kept.json")
    code = (
        "import json;p='/var/lib/isthmus/bootstrap.json';d=json.load(open(p));"
        "d['static_resources'].pop('listeners');json.dump(d,open(p,'w'))"
    )
    world.vm.python(code)
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])
    until(lambda: "240.240" not in world.vm.run("nft", "list", "table", "inet", "isthmus"))
    assert "refused" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False).lower()
    world.vm.run("mv", "/var/lib/isthmus/kept.json", "/var/lib/isthmus/bootstrap.json")
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])
    until(lambda: "240.240" in world.vm.run("nft", "list", "table", "inet", "isthmus"))


def test_orders_that_change_are_carried_out_and_senseless_ones_refused(world: World) -> None:
    world.joined()
    world.fault(ports=[3306, 8000])
    until(lambda: "8000" in world.vm.run("nft", "list", "table", "inet", "isthmus"))
    world.fault(ports=[99999])
    until(lambda: "99999" in world.events())
    assert "8000" in world.vm.run("nft", "list", "table", "inet", "isthmus")


def test_what_others_take_away_comes_back(world: World) -> None:
    world.joined()
    world.vm.run("nft", "flush", "ruleset")
    world.vm.run("sh", "-c", "echo nameserver 10.0.0.1 > /etc/resolv.conf")
    until(lambda: "127.0.73.53" in world.vm.run("cat", "/etc/resolv.conf"))
    until(lambda: "redirect to :15006" in world.vm.run("nft", "list", "ruleset"))
    world.vm.run(ISTHMUS, "leave")
    assert world.vm.run("cat", "/etc/resolv.conf") == "nameserver 10.0.0.1\n"


def test_certificates_rotate_without_a_reload(world: World) -> None:
    world.fault(ttl=8)
    world.joined()
    code = (
        f"import sys;sys.path.insert(0,{str(HERE)!r});import mesh;print(mesh.served_certificate('10.0.0.7'))"
    )
    first = world.peer.python(code)
    until(lambda: world.events().count("renewed") >= 2)
    until(lambda: world.peer.python(code) != first)


def test_a_closed_terminal_stops_the_sidecar_in_order(world: World) -> None:
    process = world.joined()
    world.vm.run("kill", "-HUP", str(world.agent()))
    assert process.wait(40) == 0
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
    world.fault(ttl=8)
    process = world.joined()
    world.vm.run("sh", "-c", "dd if=/dev/zero of=/var/lib/full bs=4k 2>/dev/null; true")
    renewals = world.events().count("renewed")
    until(lambda: "certificate not saved" in world.said)
    world.vm.run("kill", "-9", world.vm.run("cat", "/run/isthmus/envoy.pid").split()[0])
    until(lambda: world.events().count("renewed") >= renewals + 2)
    assert process.poll() is None
    assert world.said.count("certificate not saved") <= 3
    world.vm.run("rm", "/var/lib/full")
    until(lambda: "127.0.0.6" in world.peer.run(sys.executable, "-c", GREETING, "10.0.0.7", check=False))
