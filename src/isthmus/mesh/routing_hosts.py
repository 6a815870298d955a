"""The services and VirtualServices of one way out -> virtual hosts: which names, routed by which object.

    Egress + port --virtual_hosts--> (name, domains, VirtualService or the service itself), sorted by name

Every domain is given once: VirtualServices are asked in their order, and each names its own hosts before the
services that it routes; then come the services that nobody routes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.mesh import routing, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.hosts import most_specific, short_forms
from isthmus.mesh.model import Protocol, Scope, Service
from isthmus.mesh.routing_table import Caller

_PLAIN_HTTP_PORT = 80
"""Hosts that no service has are routed on this port only."""


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """One virtual host: requests for `domains` are routed by `rule`, else to `service` itself."""

    name: str
    port: int
    domains: tuple[str, ...]
    rule: Key | None
    service: str = ""
    source: Key | None = None
    """The object that declares the service."""


def way_for(q: Reader, scope: Scope, port: int, bind: str = "") -> int | None:
    """The place (among the scope's ways out) of the one whose routes are asked for by port, or by bind."""
    for place, way in enumerate(q(scopes.egress, scope)):
        if way.port is None or (way.port.number == port and (port or way.bind == bind)):
            return place
    return None


def caller_of(scope: Scope) -> Caller:
    """The sidecars of a scope as callers."""
    return Caller(scope.namespace, scope.labels)


def virtual_hosts(q: Reader, scope: Scope, way: int, port: int) -> tuple[VirtualHost, ...]:
    """The virtual hosts for requests that came to a port; port 0 for all ports, as a forward proxy has it."""
    registry = q(services_at, scope, way, port)
    http = {
        host: numbers
        for host, service in registry.items()
        if (numbers := tuple(p.number for p in service.ports if p.protocol.may_be_http))
    }
    wrappers: list[Wrapper] = [
        (number, rule, hosts, routed)
        for rule, hosts, routed in _claims(q, scope, way, port, registry)
        for number, routed in _by_port(port, routed, http)
    ]
    taken = {host for _, _, _, routed in wrappers for host in routed}
    wrappers += [(number, None, (), (host,)) for host in http if host not in taken for number in http[host]]
    found = list(_named(q, scope, port, registry, wrappers))
    return tuple(sorted(found if port else _with_ports(found), key=lambda host: host.name))


def services_at(q: Reader, scope: Scope, way: int, port: int) -> Mapping[str, Service]:
    """The services with that port (only), by host; with port 0 all services with all their ports."""
    found: dict[str, Service] = {}
    for called in q(scopes.egress, scope)[way].services:
        service = q(scopes.called_service, called)
        if service is None or (port and service.port(port) is None):
            continue
        if port:
            service = replace(service, ports=tuple(p for p in service.ports if p.number == port))
        held = found.get(called.host)
        found[called.host] = services.together((held, service)) if held else service
    return dict(sorted(found.items()))


def rules_by_host(q: Reader, scope: Scope, way: int) -> Mapping[str, tuple[Key, ...]]:
    """The VirtualServices of a way out by host (or wildcard), the one that counts first."""
    found: dict[str, list[Key]] = {}
    for key in q(scopes.egress, scope)[way].rules:
        for host in q(routing.hosts_of, key):
            found.setdefault(host, []).append(key)
    return {host: tuple(keys) for host, keys in found.items()}


Claim = tuple[Key, tuple[str, ...], tuple[str, ...]]
"""A VirtualService, its hosts that no service has, and the services that it routes."""

Wrapper = tuple[int, Key | None, tuple[str, ...], tuple[str, ...]]
"""A port, who routes (None: nobody), hosts that no service has, and services."""


def _claims(q: Reader, scope: Scope, way: int, port: int, registry: Mapping[str, Service]) -> Iterator[Claim]:
    """What each VirtualService routes on a port, in their order; those without rules there are left out."""
    by_host = q(rules_by_host, scope, way)
    routed: dict[Key, list[str]] = {}
    for host in registry:
        exact = by_host.get(host, ()) if not host.startswith("*") else ()
        # of wildcards the most specific one counts, and only its first VirtualService
        for key in exact or (most_specific(by_host, host) or ())[:1]:
            routed.setdefault(key, []).append(host)
    wild = [host for host in by_host if host.startswith("*")]
    served = {host for host in wild if any(_overlap(host, known) for known in registry)}
    for key in q(scopes.egress, scope)[way].rules:
        if key not in routed and port != _PLAIN_HTTP_PORT:
            continue
        if not q(routing.has_rules, key, q(routing.narrowed, key, caller_of(scope)), port):
            continue
        hosts = q(routing.hosts_of, key)
        foreign = tuple(h for h in hosts if h not in registry and h not in served)
        yield key, foreign, tuple(routed.get(key, ()))


def _by_port(
    port: int, routed: tuple[str, ...], http: Mapping[str, tuple[int, ...]]
) -> list[tuple[int, tuple[str, ...]]]:
    numbers = sorted({number for host in routed for number in http.get(host, ())})
    if not numbers and port == _PLAIN_HTTP_PORT:
        numbers = [_PLAIN_HTTP_PORT]
    return [(n, tuple(host for host in routed if n in http.get(host, ()))) for n in numbers]


def _overlap(wildcard: str, host: str) -> bool:
    if host.startswith("*"):
        return host.endswith(wildcard[1:]) or wildcard.endswith(host[1:])
    return host.endswith(wildcard[1:])


# names and domains


def _named(
    q: Reader,
    scope: Scope,
    port: int,
    registry: Mapping[str, Service],
    wrappers: list[Wrapper],
) -> Iterator[VirtualHost]:
    names: set[str] = set()
    given: set[str] = set()
    known = {name for n, _, _, routed in wrappers for host in routed for name in (host, _joined(host, n))}
    domain = q(world.settings).dns_domain
    for number, rule, foreign, routed in wrappers:
        for host in (*foreign, *routed):
            name = _joined(host, number)
            if name in names:
                continue
            names.add(name)
            service = registry[host] if host in routed else None
            suffix = 0 if port else number
            if service is None:
                wanted = [(_bare(host), False)]
            else:
                wanted = list(_domains(q, service, scope.namespace, domain, suffix))
            own = []
            for spelling, short in wanted:
                # a short form that is another's full name stays the other's
                if spelling not in given and not (short and spelling in known):
                    given.add(spelling)
                    own.append(spelling)
            if own:
                source = service.source if service else None
                yield VirtualHost(name, number, tuple(own), rule, host if service else "", source)


def _domains(
    q: Reader, service: Service, namespace: str, dns_domain: str, port: int
) -> Iterator[tuple[str, bool]]:
    """The names by which callers may ask for a service, and whether each is a shorter form; with a port,
    also with that port."""
    names: list[tuple[str, bool]] = []
    for host in (service.host, *q(services.aliases_of, service.host)):
        names.append((host, False))
        if not _is_address(host):
            names.append((f"{host}.", True))
        names += ((form, True) for form in short_forms(host, namespace, dns_domain))
    if service.headless:
        # each of its workloads has a name below its own
        names += [(f"*.{name}", False) for name, _ in names]
    names += ((vip, False) for vip in service.vips if "/" not in vip)
    for name, short in names:
        yield _bare(name), short
        if port:
            yield _joined(name, port), short


def _with_ports(hosts: Iterable[VirtualHost]) -> Iterator[VirtualHost]:
    """Virtual hosts of all ports together: without its port, a name means port 80."""
    for host in hosts:
        domains = host.domains
        if host.port != _PLAIN_HTTP_PORT:
            domains = tuple(domain for domain in domains if ":" in domain)
        if domains:
            yield replace(host, domains=domains)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _bare(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _joined(host: str, port: int) -> str:
    return f"{_bare(host)}:{port}"


def is_forward_proxy(q: Reader, scope: Scope, way: int) -> bool:
    """Whether requests on a way out name their destination themselves, whatever port they come to."""
    port = q(scopes.egress, scope)[way].port
    return port is not None and (port.protocol is Protocol.HTTP_PROXY or port.number == 0)
