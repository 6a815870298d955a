"""Visible services -> the names that a VM's resolver answers itself, and the addresses Envoy captures."""

from ipaddress import ip_network

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.mesh import endpoints, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.hosts import short_forms
from isthmus.mesh.model import VIP_RANGES, Resolution, Scope

NameTable = tuple[tuple[str, tuple[str, ...]], ...]


def name_table(q: Reader, scope: Scope) -> NameTable:
    """Every mesh name with its addresses, sorted; a host's own name wins over another's short form."""
    domain = q(world.settings).dns_domain
    found: dict[str, tuple[str, ...]] = {}
    short: dict[str, tuple[str, ...]] = {}
    for seen in q(scopes.imported, scope):
        names, addresses = q(_named, seen.host, seen.sources)
        for name in names if addresses else ():
            found.setdefault(name, addresses)
            for form in short_forms(name, scope.namespace, domain):
                short.setdefault(form, addresses)
    return tuple(sorted({**short, **found}.items()))


def _named(q: Reader, host: str, sources: tuple[Key, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a host, other ones for it included, and what they resolve to."""
    service = q(services.merged, host, sources)
    return ((host, *service.aliases) if service else (host,)), q(addresses_of, host, sources)


def addresses_of(q: Reader, host: str, sources: tuple[Key, ...]) -> tuple[str, ...]:
    """What a mesh name resolves to: virtual addresses; for a headless service its endpoints."""
    service = q(services.merged, host, sources)
    if service is None:
        return ()
    if service.headless:
        return q(endpoints.addresses, host, sources)
    return tuple(vip for vip in service.vips if "/" not in vip)


def capture_prefixes(q: Reader, scope: Scope) -> tuple[str, ...]:
    """The destinations that Envoy takes: the ranges of virtual addresses, addresses that people gave, and the
    endpoints of headless services."""
    ranges = [ip_network(text) for text in VIP_RANGES]
    given = set()
    for seen in q(scopes.imported, scope):
        for address in q(_dialled, seen.host, seen.sources):
            network = ip_network(address)
            if not any(network.version == r.version and network.subnet_of(r) for r in ranges):  # type: ignore[arg-type]
                given.add(network)
    ordered = sorted(
        given, key=lambda network: (network.version, network.network_address.packed, network.prefixlen)
    )
    return (*VIP_RANGES, *map(str, ordered))


def is_unaddressed(q: Reader, host: str, sources: tuple[Key, ...]) -> bool:
    """Whether callers of a ServiceEntry's host dial addresses that only their own DNS knows."""
    service = q(services.merged, host, sources)
    return service is not None and service.source.kind == "ServiceEntry" and not q(_dialled, host, sources)


def _dialled(q: Reader, host: str, sources: tuple[Key, ...]) -> tuple[str, ...]:
    """The addresses and ranges at which callers reach a host."""
    service = q(services.merged, host, sources)
    if service is None:
        return ()
    at_endpoints = service.headless or (service.resolution is Resolution.NONE and not service.vips)
    return q(endpoints.addresses, host, sources) if at_endpoints else service.vips
