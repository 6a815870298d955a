"""Numbers become addresses that read alike in both families."""

import pytest

from isthmus.lab.addresses import FIRST_HOST, LAST_HOST, Network
from isthmus.lab.bringup import Wanted, hosts_file, interface_lines, resolv_conf


def test_a_hosts_two_addresses_end_alike() -> None:
    network = Network(0)
    assert (str(network.host_v4(12)), str(network.host_v6(12))) == ("10.99.0.12", "fd99::12")


def test_networks_do_not_overlap() -> None:
    networks = [Network(index) for index in range(20)]
    for one in networks:
        for other in networks:
            if one is not other:
                assert not one.v4.overlaps(other.v4)
                assert not one.v6.overlaps(other.v6)


@pytest.mark.parametrize("number", [FIRST_HOST, LAST_HOST - 1])
def test_every_host_lies_in_its_network_beside_the_router(number: int) -> None:
    network = Network(3)
    assert network.host_v4(number) in network.v4
    assert network.host_v6(number) in network.v6
    assert network.router_v4 != network.host_v4(number)


def test_interface_names_fit_the_kernel() -> None:
    assert len(Wanted("h", LAST_HOST, Network(99), True, True).port) <= 15


def test_a_v6_only_host_has_nothing_of_v4() -> None:
    wanted = Wanted("six", 10, Network(0), v4=False, v6=True)
    text = "\n".join((*interface_lines(wanted), hosts_file(wanted), resolv_conf(wanted)))
    assert wanted.addresses == ("fd99::10",)
    assert "10.99" not in text
    assert "nameserver fd99::1" in text


def test_a_host_knows_itself_first_by_its_v4_address() -> None:
    wanted = Wanted("both", 10, Network(0), v4=True, v6=True)
    assert "10.99.0.10 both\\nfd99::10 both\\n" in hosts_file(wanted)
    assert "nameserver 10.99.0.1\\n" in resolv_conf(wanted)
