"""Visible services -> the names that a VM's resolver answers itself, and the addresses Envoy captures."""

from ipaddress import ip_network

from isthmus.engine import Reader
from isthmus.mesh import scope as scopes
from isthmus.mesh import services, workloads, world
from isthmus.mesh.hosts import short_forms
from isthmus.mesh.model import VIP_RANGES, Resolution, Scope, Service

NameTable = tuple[tuple[str, tuple[str, ...]], ...]


def name_table(q: Reader, scope: Scope) -> NameTable:
    """Every mesh name with its addresses, sorted; a host's own name wins over another's short form."""
    domain = q(world.settings).dns_domain
    found: dict[str, tuple[str, ...]] = {}
    short: dict[str, tuple[str, ...]] = {}
    for host in q(scopes.visible_hosts, scope):
        addresses = q(addresses_of, host)
        if addresses:
            found[host] = addresses
            for form in short_forms(host, scope.namespace, domain):
                short.setdefault(form, addresses)
    return tuple(sorted({**short, **found}.items()))


def addresses_of(q: Reader, host: str) -> tuple[str, ...]:
    """What a mesh name resolves to: virtual addresses; for a headless service its endpoints."""
    service = q(services.service, host)
    if service is None or resolved_elsewhere(service):
        return ()
    if service.headless:
        keys = q(workloads.selected, service.namespace, service.selector)
        found = {workload.address for key in keys if (workload := q(workloads.workload, key))}
        return tuple(sorted(found - {""}))
    return tuple(vip for vip in service.vips if "/" not in vip)


def resolved_elsewhere(service: Service) -> bool:
    """Whether Envoy asks DNS for the host's own name: the mesh must not answer it with a virtual address."""
    own_name = not service.inline or any(e.address.lower() == service.host for e in service.inline)
    return service.resolution is Resolution.DNS and own_name


def capture_prefixes(q: Reader, scope: Scope) -> tuple[str, ...]:
    """The destinations that Envoy takes: the ranges of virtual addresses, and addresses people gave."""
    ranges = [ip_network(text) for text in VIP_RANGES]
    given = set()
    for host in q(scopes.visible_hosts, scope):
        service = q(services.service, host)
        for vip in service.vips if service and not resolved_elsewhere(service) else ():
            network = ip_network(vip)
            if not any(network.version == r.version and network.subnet_of(r) for r in ranges):  # type: ignore[arg-type]
                given.add(network)
    ordered = sorted(
        given, key=lambda network: (network.version, network.network_address.packed, network.prefixlen)
    )
    return (*VIP_RANGES, *map(str, ordered))
