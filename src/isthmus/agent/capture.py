"""Which connections go through Envoy -> one nftables table `isthmus`, replaced in one step, read back.

    out   program ── tcp to a captured prefix ──▶ 15001 Envoy ── as uid 1337: not captured ──▶ peer
    in    peer ── tcp to a declared port ──▶ 15006 Envoy ── from 127.0.0.6 or ::6: not captured ──▶ program

Nothing else is redirected, and no other table is touched (decision: capture by allow-list). What the VM only
forwards (containers, nested VMs) is to an address that is not its own, and passes.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from isthmus.agent import loopback, nft
from isthmus.agent.changes import LoopbackAddress, NftTable
from isthmus.agent.journal import Journal
from isthmus.agent.paths import ENVOY_UID

TABLE = "isthmus"
OUTBOUND_PORT, INBOUND_PORT = 15001, 15006
_INBOUND_SOURCE_V4 = "127.0.0.6"


@dataclass(frozen=True, slots=True)
class Capture:
    """What is captured: sorted, collapsed, so that the same capture is the same value."""

    inbound_ports: tuple[int, ...]
    prefixes_v4: tuple[str, ...]
    prefixes_v6: tuple[str, ...]

    @classmethod
    def of(cls, inbound_ports: Iterable[int], prefixes: Iterable[str]) -> Self:
        """The capture of these ports and CIDRs; ValueError for what is neither."""
        networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
        ports = tuple(sorted(set(inbound_ports)))
        if wrong := [port for port in ports if not 0 < port < 65536]:
            raise ValueError(f"inbound ports {wrong} are no TCP ports")
        v4 = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
        v6 = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
        return cls(ports, _collapsed(v4), _collapsed(v6))

    def __str__(self) -> str:
        ports = ", ".join(map(str, self.inbound_ports)) or "nothing"
        return f"{ports} in, {', '.join(self.prefixes_v4 + self.prefixes_v6) or 'nothing'} out"


def ruleset(capture: Capture) -> str:
    """The nft script that puts the table in the place of whatever was there under its name."""
    to_envoy_in, to_envoy_out = f"redirect to :{INBOUND_PORT}", f"redirect to :{OUTBOUND_PORT}"
    # sets with nothing in them match nothing, so the rules are the same for every capture
    return f"""
add table {nft.FAMILY} {TABLE}
delete table {nft.FAMILY} {TABLE}
table {nft.FAMILY} {TABLE} {{
{_set("inbound_ports", "inet_service", capture.inbound_ports)}
{_set("mesh_v4", "ipv4_addr; flags interval", capture.prefixes_v4)}
{_set("mesh_v6", "ipv6_addr; flags interval", capture.prefixes_v6)}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    fib daddr type local tcp dport @inbound_ports {to_envoy_in}
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    ip saddr {_INBOUND_SOURCE_V4} return
    ip6 saddr {loopback.INBOUND_SOURCE} return
    meta skuid {ENVOY_UID} oifname "lo" ip daddr != 127.0.0.0/8 tcp dport @inbound_ports {to_envoy_in}
    meta skuid {ENVOY_UID} oifname "lo" ip6 daddr != ::1 tcp dport @inbound_ports {to_envoy_in}
    meta skuid {ENVOY_UID} return
    ip daddr @mesh_v4 meta l4proto tcp {to_envoy_out}
    ip6 daddr @mesh_v6 meta l4proto tcp {to_envoy_out}
  }}
}}
"""


_RULES = 8


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
    if sum("rule" in item for item in items) != _RULES or len(elements) != 3:
        return None
    prefixes = [_prefix(element) for name in ("mesh_v4", "mesh_v6") for element in elements[name]]
    return Capture.of(elements["inbound_ports"], prefixes)


def uninstall(journal: Journal) -> None:
    """Takes the capture back."""
    for change in reversed(journal.changes):
        if isinstance(change, NftTable | LoopbackAddress):
            change.undo()
            journal.forget(change)


def _set(name: str, kind: str, elements: tuple[int, ...] | tuple[str, ...]) -> str:
    listed = f" elements = {{ {', '.join(map(str, elements))} }}" if elements else ""
    return f"  set {name} {{ type {kind};{listed}\n  }}"


def _prefix(element: Any) -> str:
    if isinstance(element, str):
        return element
    prefix = element["prefix"]
    return f"{prefix['addr']}/{prefix['len']}"


def _collapsed(
    networks: list[ipaddress.IPv4Network] | list[ipaddress.IPv6Network],
) -> tuple[str, ...]:
    merged = sorted(ipaddress.collapse_addresses(networks))  # type: ignore[type-var]
    return tuple(str(network) for network in merged)
