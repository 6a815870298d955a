"""Orders and the kernel's table: what is asked for is what is read back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus.agent.capture import Capture, all_but, ruleset
from isthmus.agent.exempt import Doors
from isthmus.agent.orders import Orders, OrdersRefused

ROUND = """
import sys
from pathlib import Path
from isthmus.agent import capture
from isthmus.agent.capture import Capture, all_but
from isthmus.agent.journal import Journal
from isthmus.agent.paths import Paths
where = Path(sys.argv[1])
paths = Paths(where / "state", where / "run", where / "resolv.conf", where / "units")
journal = Journal.begin(paths, mark="m", token_id="t")
for each in (
    Capture(),
    Capture.of([3306], ["240.240.0.0/16", "2001:2::/48", "10.9.9.9"]),
    Capture.of(all_but([7000]), [], wide=["0.0.0.0/0", "::/0"], ports=[5432], exempt_ports=[25, 853],
        exempt=["10.0.0.0/8", "fd00::/8"]).sparing([("10.0.0.1", 15012), ("fd00::1", 15012)]),
):
    capture.install(journal, each)
    assert capture.installed() == each, capture.installed()
capture.nft.apply("delete rule inet isthmus output handle " + str(next(
    item["rule"]["handle"] for item in capture.nft.items("isthmus") if "rule" in item
    and item["rule"]["chain"] == "output")))
assert capture.installed() is None
capture.uninstall(journal)
assert not capture.nft.exists("isthmus")
print("same")
"""


def test_orders_say_everything() -> None:
    config = agent_v1.HostConfig(
        inbound_ports=[80, 3306],
        every_inbound_port=True,
        inbound_exempt_ports=[9100],
        capture_prefixes=["240.240.0.0/16"],
        wide_prefixes=["::/0", "0.0.0.0/0"],
        outbound_ports=[5432],
        exempt_prefixes=["10.0.0.0/8"],
        exempt_ports=[25],
    )
    orders = Orders.decode(config.SerializeToString())
    assert orders.ports == (80, 3306)
    captured = orders.capture
    assert captured.inbound[0] == (1, 21)
    taken = {port for first, last in captured.inbound for port in range(first, last + 1)}
    assert {1, 80, 21, 23, 65535} <= taken
    assert not {22, 9100, 15001, 15006, 15021, 15090} & taken
    assert captured.wide == ("0.0.0.0/0", "::/0")
    assert (captured.ports, captured.exempt, captured.exempt_ports) == ((5432,), ("10.0.0.0/8",), (25,))
    assert "everything out, but for 10.0.0.0/8, port 25" in str(captured)


@pytest.mark.parametrize(
    "config",
    [
        agent_v1.HostConfig(inbound_ports=[70000]),
        agent_v1.HostConfig(exempt_ports=[0]),
        agent_v1.HostConfig(wide_prefixes=["everything"]),
    ],
)
def test_senseless_orders_are_refused(config: agent_v1.HostConfig) -> None:
    with pytest.raises(OrdersRefused):
        Orders.decode(config.SerializeToString())


def test_the_same_capture_is_the_same_value() -> None:
    assert Capture.of([2, 1, 1], ["10.0.0.0/9", "10.128.0.0/9"]) == Capture.of([1, 2], ["10.0.0.0/8"])
    assert Capture.of([1, 2, 4], []).inbound == ((1, 2), (4, 4))
    assert Capture().sparing([("FD00::1", 1), ("10.0.0.1", 2)]).doors == (("10.0.0.1", 2), ("fd00::1", 1))
    assert all_but([])[:3] == (1, 2, 3)


def test_exceptions_come_before_what_they_are_exceptions_from() -> None:
    lines = [line.strip() for line in ruleset(Capture()).splitlines()]
    order = [
        next(i for i, line in enumerate(lines) if line.startswith(start))
        for start in (
            "meta skuid 1337 return",
            "ip daddr . tcp dport @doors_v4 return",
            "ip daddr @exempt_v4 return",
            "ip daddr @mesh_v4",
            'oifname "lo" return',
            "tcp dport 53 return",
            "ip daddr @wide_v4",
        )
    ]
    assert order == sorted(order)


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
def test_the_kernel_says_the_same(tmp_path: Path) -> None:
    command = ["unshare", "--net", sys.executable, "-c", ROUND, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "same", done.stdout + done.stderr


def test_doors_with_names_are_looked_up_and_never_forgotten() -> None:
    doors = Doors()
    assert doors.seen(["10.0.0.1:15012", "[fd00::1]:15012"]) == (("10.0.0.1", 15012), ("fd00::1", 15012))
    found = doors.seen(["localhost:15012", "no.such.name.invalid:15012"])
    assert ("127.0.0.1", 15012) in found
    assert ("10.0.0.1", 15012) in found
    for number in range(100):
        doors.seen([f"10.1.0.{number}:15012"])
    assert len(doors.seen([])) == 64
