"""Virtual addresses for mesh hosts: stable, one IPv4 and one IPv6 per host, kept with the object.

    Service without clusterIP         -> spec.clusterIP(s)
    ServiceEntry that wants addresses -> status.addresses [{value, host}], as Istio's ipallocate writes them

The address starts from a hash of namespace and host (Istio's own, so both give the same address to the
same host); what is stored decides, so an address never moves while its object lives. Objects that declare
one host in one namespace share its address. Ranges and opt-outs are Istio's, too
(https://istio.io/latest/docs/ops/configuration/traffic-management/dns-proxy/).
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any, TypeVar

from isthmus.api.core import ServiceSpec
from isthmus.api.meta import Key, Object
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.store.base import Expired, Store

T = TypeVar("T")
KINDS = ("Service", "ServiceEntry")
"""Kinds that share one range of virtual addresses."""

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


def with_vips(objects: Sequence[Object], existing: Iterable[Object]) -> list[Object]:
    """`objects` with every missing virtual address filled in; `existing` is what the store holds.

    An object that had addresses keeps them, whatever was applied over it.
    """
    book = _Book()
    for obj in existing:
        book.stand(obj)
    return book.fill(objects, [object() for _ in objects])


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one object has, and wants."""

    key: Key
    addresses: tuple[str, ...]
    pairs: Mapping[str, tuple[str, str]]
    """The (IPv4, IPv6) of each `namespace/host` of a ServiceEntry."""
    hosts: tuple[str, ...]
    """Each `namespace/host` that wants an address of its own."""


@dataclass(slots=True)
class _Book:
    """Who has which addresses. A holder is an object that stands, by its key, or one that is under way."""

    held: dict[Hashable, _Claim] = field(default_factory=dict)
    objects: dict[Key, Object] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, dict[Hashable, tuple[str, str]]] = field(default_factory=lambda: defaultdict(dict))
    claims: dict[str, dict[Key, int]] = field(default_factory=lambda: defaultdict(dict))

    def stand(self, obj: Object) -> None:
        """The object is in the store."""
        if obj.key.kind in KINDS:
            before = self.objects.get(obj.key)
            self.objects[obj.key] = obj
            if before is None or not _claims_the_same(before, obj):
                self.put(obj.key, _claim(obj))

    def gone(self, key: Key) -> None:
        """The object is in the store no more."""
        if self.objects.pop(key, None) is not None:
            self.drop(key)

    def put(self, holder: Hashable, claim: _Claim) -> None:
        """The holder has these addresses, and no others."""
        if self.held.get(holder) == claim:
            return
        self.drop(holder)
        self.held[holder] = claim
        _add(self.taken, claim.addresses)
        for host, both in claim.pairs.items():
            self.pairs[host][holder] = both
        for host in claim.hosts:
            _add(self.claims[host], (claim.key,))

    def drop(self, holder: Hashable) -> None:
        """The holder has no addresses any more."""
        claim = self.held.pop(holder, None)
        if claim is None:
            return
        _subtract(self.taken, claim.addresses)
        for host in claim.pairs:
            del self.pairs[host][holder]
            if not self.pairs[host]:
                del self.pairs[host]
        for host in claim.hosts:
            _subtract(self.claims[host], (claim.key,))
            if not self.claims[host]:
                del self.claims[host]

    def pair(self, host: str, key: Key) -> tuple[str, str]:
        """The addresses of a host for this object: those that somebody has for it, or new ones."""
        known = self.pairs.get(host)
        if known:
            return next(iter(known.values()))
        others = self.claims.get(host, {})
        return pair(host, self.taken.keys(), claims=len(others) + (key not in others))

    def fill(self, objects: Sequence[Object], holders: Sequence[Hashable]) -> list[Object]:
        """The objects with their missing addresses; what is new in each is its holder's."""
        for holder, obj in zip(holders, objects, strict=True):
            if len(objects) > 1:  # what the others say themselves counts, too
                self.put(holder, _claim(obj))
        filled = []
        for holder, obj in zip(holders, objects, strict=True):
            filled.append(_filled(obj, self.objects.get(obj.key), self))
            claim = _claim(filled[-1])
            if claim != self.held.get(obj.key):
                self.put(holder, claim)
        return filled


def _claim(obj: Object) -> _Claim:
    namespace = obj.key.namespace
    wants = isinstance(obj.spec, ServiceEntrySpec) and _wants_addresses(obj, obj.spec)
    return _Claim(
        obj.key,
        _addresses(obj),
        {f"{namespace}/{host}": both for host, both in _allocated(obj).items()},
        tuple(f"{namespace}/{host}" for host in obj.spec.hosts) if wants else (),  # type: ignore[attr-defined]
    )


def _claims_the_same(one: Object, other: Object) -> bool:
    """Whether that can be told at once, as of most writes of a status."""
    same = one.spec is other.spec and one.meta.labels == other.meta.labels
    return same and one.status.get("addresses") == other.status.get("addresses")


def _add(counter: dict[T, int], items: Iterable[T]) -> None:
    for item in items:
        counter[item] = counter.get(item, 0) + 1


def _subtract(counter: dict[T, int], items: Iterable[T]) -> None:
    for item in items:
        counter[item] -= 1
        if not counter[item]:
            del counter[item]


class Addresses:
    """The virtual addresses of all that a store holds; it follows the changes, whoever makes them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._book = _Book()
        self._seen: dict[str, int] = {}

    @asynccontextmanager
    async def given(self, objects: Sequence[Object]) -> AsyncIterator[Sequence[Object]]:
        """`objects` with every missing address; while the block lasts, nobody else is given these.

        Of the status only what is new is in them: the rest is whatever stands by the time they are written.
        """
        if not any(obj.key.kind in KINDS for obj in objects):
            yield objects
            return
        for kind in KINDS:
            await self._follow(kind)
        holders = [object() for _ in objects]
        try:
            filled = self._book.fill(objects, holders)
            yield [replace(obj, status=_news(obj, self._book.objects.get(obj.key))) for obj in filled]
        finally:
            for holder in holders:
                self._book.drop(holder)

    async def _follow(self, kind: str) -> None:
        """Takes in what changed since the last time; everything, when that is not known any more."""
        try:
            changes = self._store.changes(kind, self._seen[kind])
        except (KeyError, Expired):
            for key in [key for key in self._book.objects if key.kind == kind]:
                self._book.gone(key)
            objects, self._seen[kind] = await self._store.list(kind)
            for obj in objects:
                self._book.stand(obj)
            return
        for event in changes:
            if event.type == "DELETED":
                self._book.gone(event.object.key)
            else:
                self._book.stand(event.object)
            self._seen[kind] = event.revision


def _news(obj: Object, stored: Object | None) -> dict[str, Any]:
    before = stored.status if stored else {}
    return {name: value for name, value in obj.status.items() if before.get(name) != value}


def pair(key: str, taken: AbstractSet[str], *, claims: int = 1) -> tuple[str, str]:
    """The (IPv4, IPv6) pair for a `namespace/host`, the two sharing their number.

    Istio gives each claim a place and all of them the lowest.
    """
    free = (n for n in _numbers(key) if taken.isdisjoint(_spelled(n)))
    number = min(islice(free, max(claims, 1)), default=None)
    if number is None:
        raise VipsExhausted(f"no virtual address is free for {key}: all {SLOTS} of 240.240.0.0/16 are taken")
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
    # as `ipaddress` would, in a tenth of the time
    return f"240.240.{number >> 8}.{number & 255}", f"2001:2::{number:x}"


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
                    addresses = pair(key, book.taken.keys())
            return replace(
                obj, spec=spec.model_copy(update={"cluster_ip": addresses[0], "cluster_ips": addresses})
            )
        case ServiceEntrySpec() as spec:
            status = dict((before or obj).status)
            kept_pairs = _allocated(before or obj)
            rows: list[Mapping[str, Any]] = []
            for host in spec.hosts if _wants_addresses(obj, spec) else ():
                v4, v6 = kept_pairs.get(host) or book.pair(f"{obj.key.namespace}/{host}", obj.key)
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
