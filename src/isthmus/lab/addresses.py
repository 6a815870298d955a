"""Numbers become addresses: the lab's networks and hosts, the same in every lab as no lab sees another."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

FIRST_HOST = 10
LAST_HOST = 250


@dataclass(frozen=True, slots=True)
class Network:
    """One bridge of the lab: a v4 and a v6 subnet whose first address is the router's."""

    index: int

    @property
    def bridge(self) -> str:
        """The name of the bridge in the lab's own namespace."""
        return f"net{self.index}"

    @property
    def v4(self) -> IPv4Network:
        """The network's IPv4 subnet."""
        return IPv4Network(f"10.99.{self.index}.0/24")

    @property
    def v6(self) -> IPv6Network:
        """The network's IPv6 subnet."""
        return IPv6Network(f"fd99:0:0:{self.index:x}::/64")

    @property
    def router_v4(self) -> IPv4Address:
        """The bridge's own IPv4 address: default route and name server of the hosts."""
        return self.v4[1]

    @property
    def router_v6(self) -> IPv6Address:
        """The bridge's own IPv6 address: default route and name server of the hosts."""
        return self.v6[1]

    @property
    def router_mac(self) -> str:
        """The bridge's own link address, locally administered: its last four bytes are `router_v4`."""
        return (b"\2\0" + self.router_v4.packed).hex(":")

    def host_v4(self, number: int) -> IPv4Address:
        """The IPv4 address of the host with this number."""
        return self.v4[number]

    def host_v6(self, number: int) -> IPv6Address:
        """The IPv6 address of the host with this number; its last group reads like the IPv4 one."""
        return self.v6[int(str(number), 16)]
