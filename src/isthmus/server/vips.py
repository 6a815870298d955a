"""Virtual addresses for mesh hosts: stable, one IPv4 and one IPv6 per host, kept with the object.

    Service without clusterIP         -> spec.clusterIP(s)
    ServiceEntry that wants addresses -> status.addresses [{value, host}], as Istio's ipallocate writes them

The address starts from a hash of namespace and host (Istio's own, so both give the same address to the
same host); what is stored decides, so an address never moves while its object lives. Objects that declare
one host in one namespace share its address. Ranges and opt-outs are Istio's, too
(https://istio.io/latest/docs/ops/configuration/traffic-management/dns-proxy/).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any

from isthmus.api.core import ServiceSpec
from isthmus.api.meta import Object
from isthmus.api.networking.service_entry import ServiceEntrySpec

V4_BASE = int(IPv4Address("240.240.0.0"))
V6_BASE = int(IPv6Address("2001:2::"))
SLOTS = 256 * 254
"""Usable numbers per range: no address ends in 0 or 255."""
_PRIME = 65011
"""The step of the second hash is at most this."""
_ADDRESSED = ("ClusterIP", "NodePort", "LoadBalancer")
"""Types of Service that have an address: an ExternalName is only another name."""
OPT_OUT = "networking.istio.io/enable-autoallocate-ip"


class VipsExhausted(Exception):
    """All 65,534 virtual addresses are taken."""


@dataclass(slots=True)
class _Book:
    """Who has which addresses, while some are given out."""

    taken: set[str] = field(default_factory=set)
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The (IPv4, IPv6) of each `namespace/host` of a ServiceEntry."""
    claims: Counter[str] = field(default_factory=Counter)
    """How many ServiceEntries declare each `namespace/host`."""

    def pair(self, key: str) -> tuple[str, str]:
        """The addresses of a host; from now on they are taken."""
        if key not in self.pairs:
            self.pairs[key] = pair(key, self.taken, claims=self.claims[key])
        return self.pairs[key]


def with_vips(objects: Sequence[Object], existing: Iterable[Object]) -> list[Object]:
    """`objects` with every missing virtual address filled in; `existing` is what the store holds.

    An object that had addresses keeps them, whatever was applied over it.
    """
    stored = {obj.key: obj for obj in existing}
    book = _Book()
    for obj in (*stored.values(), *objects):
        book.taken.update(_addresses(obj))
        for host, both in _allocated(obj).items():
            book.pairs.setdefault(f"{obj.key.namespace}/{host}", both)
    for obj in {**stored, **{obj.key: obj for obj in objects}}.values():
        if isinstance(obj.spec, ServiceEntrySpec) and _wants_addresses(obj, obj.spec):
            book.claims.update(f"{obj.key.namespace}/{host}" for host in obj.spec.hosts)
    return [_filled(obj, stored.get(obj.key), book) for obj in objects]


def pair(key: str, taken: set[str], *, claims: int = 1) -> tuple[str, str]:
    """The (IPv4, IPv6) pair for a `namespace/host`, the two sharing their number. Marks it taken.

    Istio gives each claim a place and all of them the lowest.
    """
    free = (n for n in _numbers(key) if taken.isdisjoint(_spelled(n)))
    number = min(islice(free, max(claims, 1)), default=None)
    if number is None:
        raise VipsExhausted(f"no virtual address is free for {key}: all {SLOTS} of 240.240.0.0/16 are taken")
    taken.update(_spelled(number))
    return _spelled(number)


def _numbers(key: str) -> Iterator[int]:
    """Where a key may stand, the best place first (double hashing), then everywhere else."""
    start = _fnv1a(key.encode())
    step = _PRIME - start % _PRIME
    yield _numbered(start % SLOTS)
    for i in range(1, SLOTS):
        yield _numbered((start + i * step) % 2**32 % (SLOTS - 1))
    yield from map(_numbered, range(SLOTS))


def _numbered(slot: int) -> int:
    high, low = divmod(slot + 1, 255)
    return 256 * high + (low or 1)


def _spelled(number: int) -> tuple[str, str]:
    return str(IPv4Address(V4_BASE + number)), str(IPv6Address(V6_BASE + number))


def _fnv1a(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def _addresses(obj: Object) -> tuple[str, ...]:
    match obj.spec:
        case ServiceSpec() as spec:
            return tuple(filter(None, (spec.cluster_ip, *spec.cluster_ips)))
        case ServiceEntrySpec() as spec:
            return (*spec.addresses, *(item["value"] for item in obj.status.get("addresses", ())))
    return ()


def _allocated(obj: Object) -> Mapping[str, tuple[str, str]]:
    """The virtual addresses that an object has, by host."""
    rows = obj.status.get("addresses", ()) if isinstance(obj.spec, ServiceEntrySpec) else ()
    v4 = {row["host"]: row["value"] for row in rows if ":" not in row["value"]}
    v6 = {row["host"]: row["value"] for row in rows if ":" in row["value"]}
    return {host: (v4[host], v6[host]) for host in v4 if host in v6}


def _filled(obj: Object, before: Object | None, book: _Book) -> Object:
    match obj.spec:
        case ServiceSpec() as spec if not spec.cluster_ip and spec.type in _ADDRESSED:
            match before.spec if before else None:
                case ServiceSpec(cluster_ip=str() as kept, cluster_ips=all_kept) if kept not in ("", "None"):
                    addresses: tuple[str, ...] = all_kept or (kept,)
                case _:
                    key = f"{obj.key.namespace}/{obj.key.name}.{obj.key.namespace}.svc"
                    addresses = pair(key, book.taken)
            return replace(
                obj, spec=spec.model_copy(update={"cluster_ip": addresses[0], "cluster_ips": addresses})
            )
        case ServiceEntrySpec() as spec:
            status = dict((before or obj).status)
            kept_pairs = _allocated(before or obj)
            rows: list[Mapping[str, Any]] = []
            for host in spec.hosts if _wants_addresses(obj, spec) else ():
                v4, v6 = kept_pairs.get(host) or book.pair(f"{obj.key.namespace}/{host}")
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
