"""Route tables -> RouteConfiguration: one for each HTTP port of a scope, one virtual host for each service.

    RouteTable --virtual_host_routes--> routes of a host (shared by scopes) --routes--> one RouteConfiguration

A request that no service claims goes where the caller sent it (`allow_any`), or is answered with 502.
"""

from collections.abc import Iterable

from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.config.route.v3 import route_pb2 as route_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import naming
from isthmus.envoy.message import duration, resource
from isthmus.envoy.resource import ROUTES, Resource
from isthmus.envoy.rules import default_route, rule_route
from isthmus.mesh import routing, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.hosts import short_forms
from isthmus.mesh.model import Outbound, Scope, Service


def routes(q: Reader, scope: Scope, port: int) -> Resource:
    """The route configuration of all HTTP services on a port that a scope sees."""
    message = route_v3.RouteConfiguration(name=naming.route(port), validate_clusters={"value": False})
    sources: list[Key] = []
    domains = q(_domains, scope, port)
    for host, names in domains:
        body, used = q(virtual_host_routes, q(routing.governing, scope.namespace, host), host, port)
        virtual_host = message.virtual_hosts.add()
        virtual_host.ParseFromString(body)
        virtual_host.domains.extend(names)
        sources += used
    if not any("*" in names for _, names in domains):
        message.virtual_hosts.append(_unclaimed(q(world.settings).outbound))
    return resource(ROUTES, message.name, message, sources)


def http_ports(q: Reader, scope: Scope) -> tuple[int, ...]:
    """The ports on which a scope sees HTTP services, sorted."""
    found = {port for host in q(scopes.visible_hosts, scope) for port in q(http_ports_of, host)}
    return tuple(sorted(found - naming.RESERVED_PORTS))


def http_ports_of(q: Reader, host: str) -> tuple[int, ...]:
    """The HTTP ports of a host."""
    service = q(services.service, host)
    return tuple(p.number for p in service.ports if p.protocol.is_http) if service else ()


def virtual_host_routes(q: Reader, rule: Key | None, host: str, port: int) -> tuple[bytes, tuple[Key, ...]]:
    """The virtual host of one service, without its domains, as bytes; and the objects it was made from."""
    table = q(routing.route_table, rule, host, port)
    name = naming.virtual_host(host, port)
    found = (
        [default_route(naming.outbound(host, port))]
        if table.rules is None
        else [route for rule in table.rules if (route := rule_route(rule))]
    )
    message = route_components_v3.VirtualHost(name=name, routes=found, include_request_attempt_count=True)
    sources = (*q(services.claims_of, host)[:1], *table.sources)
    return message.SerializeToString(deterministic=True), sources


def _domains(q: Reader, scope: Scope, port: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The names by which callers may ask for each host. Envoy refuses a table that has a name twice."""
    domain = q(world.settings).dns_domain
    hosts = [host for host in q(scopes.visible_hosts, scope) if port in q(http_ports_of, host)]
    seen: set[str] = set()
    own: dict[str, list[str]] = {host: [] for host in hosts}

    def claim(host: str, names: Iterable[str]) -> None:
        for name in names:
            for spelling in (name, f"{name}:{port}") if name != "*" else ("*",):
                if spelling not in seen:
                    seen.add(spelling)
                    own[host].append(spelling)

    # first everybody's full name, then everybody's other names: no short form takes another's name
    for host in hosts:
        claim(host, (host,))
    for host in hosts:
        service = q(services.service, host)
        assert service is not None
        claim(host, (*short_forms(host, scope.namespace, domain), *_addresses(service)))
    return tuple((host, tuple(names)) for host, names in own.items() if names)


def _addresses(service: Service) -> tuple[str, ...]:
    return tuple(f"[{vip}]" if ":" in vip else vip for vip in service.vips if "/" not in vip)


def _unclaimed(outbound: Outbound) -> route_components_v3.VirtualHost:
    if outbound is Outbound.REGISTRY_ONLY:
        route = route_components_v3.Route(match={"prefix": "/"}, direct_response={"status": 502})
        return route_components_v3.VirtualHost(name="block_all", domains=["*"], routes=[route])
    route = route_components_v3.Route(
        name="allow_any",
        match={"prefix": "/"},
        route={"cluster": naming.PASSTHROUGH, "timeout": duration(0)},
    )
    return route_components_v3.VirtualHost(name="allow_any", domains=["*"], routes=[route])
