"""Virtual addresses for mesh hosts: stable, one IPv4 and one IPv6 per host, kept with the object.

    Service without clusterIP         -> spec.clusterIP(s)
    ServiceEntry that wants addresses -> status.addresses [{value, host}], as Istio's ipallocate writes them

The address starts from a hash of the host, so the same host tends to get the same address in every
mesh; what is stored decides, so an address never moves while its object lives. Ranges and opt-outs are
Istio's (https://istio.io/latest/docs/ops/configuration/traffic-management/dns-proxy/).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from isthmus.api.core import ServiceSpec
from isthmus.api.meta import Object
from isthmus.api.networking.service_entry import ServiceEntrySpec

V4_BASE = int(IPv4Address("240.240.0.0"))
V6_BASE = int(IPv6Address("2001:2::"))
SLOTS = 2**16 - 2
"""Usable numbers per range: the first and the last address of 240.240.0.0/16 stay free."""
OPT_OUT = "networking.istio.io/enable-autoallocate-ip"


class VipsExhausted(Exception):
    """All 65,534 virtual addresses are taken."""


def with_vips(objects: Sequence[Object], existing: Iterable[Object]) -> list[Object]:
    """`objects` with every missing virtual address filled in; `existing` is what the store holds.

    An object that had addresses keeps them, whatever was applied over it.
    """
    stored = {obj.key: obj for obj in existing}
    taken = {address for obj in (*stored.values(), *objects) for address in _addresses(obj)}
    return [_filled(obj, stored.get(obj.key), taken) for obj in objects]


def pair(host: str, taken: set[str]) -> tuple[str, str]:
    """The first free (IPv4, IPv6) pair for `host`; the two share their number. Marks it taken."""
    start = int.from_bytes(blake2b(host.encode(), digest_size=8).digest(), "big") % SLOTS
    for step in range(SLOTS):
        number = 1 + (start + step) % SLOTS
        v4, v6 = str(IPv4Address(V4_BASE + number)), str(IPv6Address(V6_BASE + number))
        if v4 not in taken and v6 not in taken:
            taken.update((v4, v6))
            return v4, v6
    raise VipsExhausted(f"no virtual address is free for {host}: all {SLOTS} of 240.240.0.0/16 are taken")


def _addresses(obj: Object) -> tuple[str, ...]:
    match obj.spec:
        case ServiceSpec() as spec:
            return tuple(filter(None, (spec.cluster_ip, *spec.cluster_ips)))
        case ServiceEntrySpec() as spec:
            return (*spec.addresses, *(item["value"] for item in obj.status.get("addresses", ())))
    return ()


def _filled(obj: Object, before: Object | None, taken: set[str]) -> Object:
    match obj.spec:
        case ServiceSpec() as spec if not spec.cluster_ip:
            match before.spec if before else None:
                case ServiceSpec(cluster_ip=str() as kept, cluster_ips=all_kept) if kept not in ("", "None"):
                    addresses: tuple[str, ...] = all_kept or (kept,)
                case _:
                    addresses = pair(f"{obj.key.name}.{obj.key.namespace}.svc", taken)
            return replace(
                obj, spec=spec.model_copy(update={"cluster_ip": addresses[0], "cluster_ips": addresses})
            )
        case ServiceEntrySpec() as spec:
            status = dict((before or obj).status)
            kept_rows = {
                row["host"]: row["value"] for row in status.get("addresses", ()) if ":" not in row["value"]
            }
            kept_v6 = {
                row["host"]: row["value"] for row in status.get("addresses", ()) if ":" in row["value"]
            }
            rows: list[Mapping[str, Any]] = []
            for host in spec.hosts if _wants_addresses(obj, spec) else ():
                v4, v6 = (
                    (kept_rows[host], kept_v6[host])
                    if host in kept_rows and host in kept_v6
                    else pair(host, taken)
                )
                rows += ({"host": host, "value": v4}, {"host": host, "value": v6})
            if rows or "addresses" in status:
                status["addresses"] = rows
            return replace(obj, status=status)
    return obj


def _wants_addresses(obj: Object, spec: ServiceEntrySpec) -> bool:
    return (
        not spec.addresses
        and spec.resolution not in ("", "NONE")
        and obj.meta.labels.get(OPT_OUT) != "false"
        and not any(host.startswith("*") for host in spec.hosts)
    )
