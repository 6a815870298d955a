"""Which connections go through Envoy -> one nftables table `isthmus`, replaced in one step, read back.

    out   program ── tcp to a captured prefix ──▶ 15001 Envoy ── as uid 1337: not captured ──▶ peer
    in    peer ── tcp to a captured port ──▶ 15006 Envoy ── from 127.0.0.6 or ::6: not captured ──▶ program

Nothing else is redirected, and no other table is touched. What the VM only forwards (containers, nested VMs)
is to an address that is not its own, and passes. A connection is redirected at its SYN or never: one that is
older than the table (an ssh session, say) goes on, whichever side speaks next.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from isthmus.agent import loopback, nft
from isthmus.agent.changes import LoopbackAddress, NftTable
from isthmus.agent.journal import Journal
from isthmus.agent.paths import ENVOY_UID

TABLE = "isthmus"
OUTBOUND_PORT, INBOUND_PORT = 15001, 15006
SSH_PORT = 22
OWN_PORTS = frozenset({OUTBOUND_PORT, INBOUND_PORT, 15021, 15090})
"""Ports of Envoy itself."""
_INBOUND_SOURCE_V4 = "127.0.0.6"

Prefixes = tuple[str, ...]
Door = tuple[str, int]
"""An IP address and a TCP port of the control plane."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What is captured: sorted, collapsed, so that the same capture is the same value."""

    inbound: tuple[tuple[int, int], ...] = ()
    """Ranges of ports, first and last."""
    prefixes: Prefixes = ()
    """Destinations that are captured always."""
    wide: Prefixes = ()
    """Destinations that are captured, but for what the VM itself needs to reach."""
    ports: tuple[int, ...] = ()
    """Ports that are captured wherever they lead, with the same exceptions."""
    exempt: Prefixes = ()
    exempt_ports: tuple[int, ...] = ()
    doors: tuple[Door, ...] = ()
    """Where the control plane answers the agent: never captured."""

    @classmethod
    def of(
        cls,
        inbound_ports: Iterable[int],
        prefixes: Iterable[str],
        *,
        wide: Iterable[str] = (),
        ports: Iterable[int] = (),
        exempt: Iterable[str] = (),
        exempt_ports: Iterable[int] = (),
    ) -> Self:
        """The capture of these ports and CIDRs; ValueError for what is neither."""
        return cls(
            inbound=_ranges(_ports(inbound_ports)),
            prefixes=_networks(prefixes),
            wide=_networks(wide),
            ports=_ports(ports),
            exempt=_networks(exempt),
            exempt_ports=_ports(exempt_ports),
        )

    def sparing(self, doors: Iterable[Door]) -> Self:
        """The same, where the control plane answers at these addresses."""
        known = {(str(ipaddress.ip_address(address)), port) for address, port in doors}
        return replace(self, doors=tuple(sorted(known)))

    def inward_only(self) -> Self:
        """The same without anything outbound: what stands while Envoy has no listeners.

        Connections from outside to a declared port then lead to Envoy's closed one, and are refused.
        """
        return type(self)(inbound=self.inbound)

    def __str__(self) -> str:
        inward = [str(first) if first == last else f"{first}-{last}" for first, last in self.inbound]
        everything = any(prefix.endswith("/0") for prefix in self.wide)
        outward = ["everything"] if everything else [*self.prefixes, *self.wide, *map(_port, self.ports)]
        but = [*self.exempt, *map(_port, self.exempt_ports)]
        said = f"{', '.join(inward) or 'nothing'} in, {', '.join(outward) or 'nothing'} out"
        return f"{said}, but for {', '.join(but)}" if but else said


def all_but(ports: Iterable[int]) -> tuple[int, ...]:
    """Every port at which programs may serve, except these: neither ssh nor Envoy's own."""
    spared = {SSH_PORT, *OWN_PORTS, *ports}
    return tuple(port for port in range(1, 65536) if port not in spared)


def ruleset(capture: Capture) -> str:
    """The nft script that puts the table in the place of whatever was there under its name."""
    to_envoy_in, to_envoy_out = f"redirect to :{INBOUND_PORT}", f"redirect to :{OUTBOUND_PORT}"
    # sets with nothing in them match nothing, so the rules are the same for every capture
    return f"""
add table {nft.FAMILY} {TABLE}
delete table {nft.FAMILY} {TABLE}
table {nft.FAMILY} {TABLE} {{
{_sets(capture)}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    fib daddr type local tcp dport @inbound_ports tcp flags {_BEGINS} {to_envoy_in}
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    tcp flags {_GOES_ON} return
    ip saddr {_INBOUND_SOURCE_V4} return
    ip6 saddr {loopback.INBOUND_SOURCE} return
    meta skuid {ENVOY_UID} oifname "lo" ip daddr != 127.0.0.0/8 tcp dport @inbound_ports {to_envoy_in}
    meta skuid {ENVOY_UID} oifname "lo" ip6 daddr != ::1 tcp dport @inbound_ports {to_envoy_in}
    meta skuid {ENVOY_UID} return
    ip daddr . tcp dport @doors_v4 return
    ip6 daddr . tcp dport @doors_v6 return
    ip daddr @exempt_v4 return
    ip6 daddr @exempt_v6 return
    tcp dport @exempt_ports return
    ip daddr @mesh_v4 meta l4proto tcp {to_envoy_out}
    ip6 daddr @mesh_v6 meta l4proto tcp {to_envoy_out}
    oifname "lo" return
    ip daddr {{ 127.0.0.0/8, 169.254.0.0/16 }} return
    ip6 daddr {{ ::1, fe80::/10 }} return
    tcp dport 53 return
    ip daddr @wide_v4 meta l4proto tcp {to_envoy_out}
    ip6 daddr @wide_v6 meta l4proto tcp {to_envoy_out}
    tcp dport @wide_ports {to_envoy_out}
  }}
}}
"""


_BEGINS, _GOES_ON = "& (fin | syn | rst | ack) == syn", "& (fin | syn | rst | ack) != syn"
_RULES = 21


def install(journal: Journal, capture: Capture) -> None:
    """Writes down, applies and reads back the capture; NftFailed when the kernel does not say the same."""
    journal.record(NftTable(TABLE))
    if not loopback.has(loopback.INBOUND_SOURCE):
        journal.record(LoopbackAddress(loopback.INBOUND_SOURCE))
        loopback.add(loopback.INBOUND_SOURCE)
    nft.apply(ruleset(capture))
    if (seen := installed()) != capture:
        raise nft.NftFailed(
            f"the kernel's table {TABLE} is not what was asked for: {seen} instead of {capture}"
        )


def installed() -> Capture | None:
    """The capture that the kernel has; None when there is no table, or not all of its rules."""
    if not nft.exists(TABLE):
        return None
    items = nft.items(TABLE)
    elements = {item["set"]["name"]: item["set"].get("elem", []) for item in items if "set" in item}
    if sum("rule" in item for item in items) != _RULES or elements.keys() != _TYPES.keys():
        return None

    def prefixes(name: str) -> list[str]:
        return [_prefix(element) for family in ("v4", "v6") for element in elements[f"{name}_{family}"]]

    found = Capture.of(
        (port for element in elements["inbound_ports"] for port in _range(element)),
        prefixes("mesh"),
        wide=prefixes("wide"),
        ports=elements["wide_ports"],
        exempt=prefixes("exempt"),
        exempt_ports=elements["exempt_ports"],
    )
    return found.sparing(_door(each) for name in ("doors_v4", "doors_v6") for each in elements[name])


def uninstall(journal: Journal) -> None:
    """Takes the capture back."""
    for change in reversed(journal.changes):
        if isinstance(change, NftTable | LoopbackAddress):
            change.undo()
            journal.forget(change)


# the sets, and back


_TYPES = {
    "inbound_ports": "inet_service; flags interval",
    "mesh_v4": "ipv4_addr; flags interval",
    "mesh_v6": "ipv6_addr; flags interval",
    "wide_v4": "ipv4_addr; flags interval",
    "wide_v6": "ipv6_addr; flags interval",
    "wide_ports": "inet_service",
    "exempt_v4": "ipv4_addr; flags interval",
    "exempt_v6": "ipv6_addr; flags interval",
    "exempt_ports": "inet_service",
    "doors_v4": "ipv4_addr . inet_service",
    "doors_v6": "ipv6_addr . inet_service",
}


def _elements(capture: Capture) -> dict[str, list[str]]:
    """The elements of each set, as nft's language spells them."""
    found: dict[str, list[str]] = {
        "inbound_ports": [str(a) if a == b else f"{a}-{b}" for a, b in capture.inbound],
        "wide_ports": list(map(str, capture.ports)),
        "exempt_ports": list(map(str, capture.exempt_ports)),
    }
    for name, prefixes in (("mesh", capture.prefixes), ("wide", capture.wide), ("exempt", capture.exempt)):
        found[f"{name}_v4"] = [prefix for prefix in prefixes if ":" not in prefix]
        found[f"{name}_v6"] = [prefix for prefix in prefixes if ":" in prefix]
    for family, colon in (("v4", False), ("v6", True)):
        doors = (door for door in capture.doors if (":" in door[0]) is colon)
        found[f"doors_{family}"] = [f"{address} . {port}" for address, port in doors]
    return found


def _sets(capture: Capture) -> str:
    elements = _elements(capture)
    return "\n".join(_set(name, kind, elements[name]) for name, kind in _TYPES.items())


def _set(name: str, kind: str, elements: list[str]) -> str:
    listed = f" elements = {{ {', '.join(elements)} }}" if elements else ""
    return f"  set {name} {{ type {kind};{listed}\n  }}"


def _prefix(element: Any) -> str:
    if isinstance(element, str):
        return element
    prefix = element["prefix"]
    return f"{prefix['addr']}/{prefix['len']}"


def _range(element: Any) -> range:
    first, last = (element, element) if isinstance(element, int) else element["range"]
    return range(first, last + 1)


def _door(element: Any) -> Door:
    address, port = element["concat"]
    return address, port


# values that can be compared


def _ports(numbers: Iterable[int]) -> tuple[int, ...]:
    ports = tuple(sorted(set(numbers)))
    if wrong := [port for port in ports if not 0 < port < 65536]:
        raise ValueError(f"{wrong} are no TCP ports")
    return ports


def _ranges(ports: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for port in ports:
        if found and found[-1][1] == port - 1:
            found[-1] = found[-1][0], port
        else:
            found.append((port, port))
    return tuple(found)


def _networks(prefixes: Iterable[str]) -> Prefixes:
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    v4 = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    merged = (*sorted(ipaddress.collapse_addresses(v4)), *sorted(ipaddress.collapse_addresses(v6)))
    return tuple(str(network) for network in merged)


def _port(number: int) -> str:
    return f"port {number}"
