"""Virtual hosts -> RouteConfiguration: one for each way that requests come in.

    VirtualHost --rule_body, service_body--> its routes as bytes (shared by all callers that look alike)
    a name: <port>         all HTTP services on a port              + what nobody claims
            <host>:<port>  one service whose connections turned out to be HTTP
            http_proxy     all services on all ports, as a forward proxy has it; unix://… likewise

A request that no service claims goes where the caller sent it (`allow_any`), or is answered with 502.
"""

from collections.abc import Sequence

from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.config.route.v3 import route_pb2 as route_v3

from isthmus.api.meta import Key
from isthmus.api.networking.load_balancing import ConsistentHashLB
from isthmus.engine import Reader
from isthmus.envoy import listeners_dynamic, naming
from isthmus.envoy.message import resource, time_limits
from isthmus.envoy.resource import ROUTES, Resource
from isthmus.envoy.rules import default_route, rule_route
from isthmus.mesh import routing, routing_hashes, routing_hosts, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.model import Outbound, Scope
from isthmus.mesh.routing_hosts import VirtualHost
from isthmus.mesh.routing_rules import http_sources
from isthmus.mesh.routing_table import Caller

_LARGEST_BODY = 1024 * 1024
"""What a rule may answer by itself; Envoy's own limit is 4 KB."""

Body = tuple[bytes, tuple[Key, ...]]
"""The routes of a virtual host, as the bytes of a VirtualHost without names; and what they were made from."""


def routes(q: Reader, scope: Scope, name: str) -> Resource:
    """The route configuration of that name for the sidecars of a scope."""
    host, colon, number = name.rpartition(":")
    bind, port = (name, 0) if not number.isdigit() else ("", int(number))
    way = routing_hosts.way_for(q, scope, port, bind)
    if way is None:
        return configuration(name, (), ())
    if routing_hosts.is_forward_proxy(q, scope, way):
        port = 0
    hosts = q(routing_hosts.virtual_hosts, scope, way, port)
    if colon and port:
        hosts = tuple(_only(hosts, host, name))
    bodies = [(host, *body(q, scope, host, port)) for host in hosts]
    found = [_filled(host, made) for host, made, _ in bodies]
    sources = [key for _, _, used in bodies for key in used]
    if not (colon and port):
        found.append(_unclaimed(q, scope))
    return configuration(name, found, sources, ignore_port=port != 0)


def configuration(
    name: str,
    hosts: Sequence[route_components_v3.VirtualHost],
    sources: Sequence[Key],
    *,
    ignore_port: bool = True,
) -> Resource:
    """A route configuration of these virtual hosts."""
    message = route_v3.RouteConfiguration(
        name=name,
        virtual_hosts=hosts,
        validate_clusters={"value": False},
        ignore_port_in_host_matching=ignore_port,
        max_direct_response_body_size_bytes={"value": _LARGEST_BODY},
    )
    return resource(ROUTES, name, message, sources)


# the routes of a virtual host


def body(q: Reader, scope: Scope, host: VirtualHost, port: int) -> Body:
    """The routes of one virtual host for requests that came to a port."""
    seen_by = scope.namespace, scope.labels
    if host.rule is None:
        hashed = q(routing_hashes.service_hash, *seen_by, host.service, host.port)
        made = q(service_body, host.service, host.port, hashed)
        return made, (host.source,) if host.source else ()
    caller = q(routing.narrowed, host.rule, routing_hosts.caller_of(scope))
    hashes = q(routing_hashes.rule_hashes, host.rule, *seen_by)
    sources = (*((host.source,) if host.source else ()), *q(http_sources, host.rule))
    return q(rule_body, host.rule, caller, port, hashes, False), sources


def rule_body(
    q: Reader, rule: Key, caller: Caller, port: int, hashes: routing_hashes.Hashes, tls: bool
) -> bytes:
    """The routes that a VirtualService makes for a caller and port."""
    table = routing.http_table(q, rule, caller, port, hashes)
    retries = q(world.settings).retries
    return _bytes([rule_route(said, tls=tls, retries=retries) for said in table])


def service_body(q: Reader, host: str, port: int, hashed: ConsistentHashLB | None) -> bytes:
    """The one route to a service that nobody routes."""
    return _bytes([default_route(naming.outbound(host, port), hashed, q(world.settings).retries)])


def _bytes(found: Sequence[route_components_v3.Route]) -> bytes:
    message = route_components_v3.VirtualHost(routes=found, include_request_attempt_count=True)
    made: bytes = message.SerializeToString(deterministic=True)
    return made


def _filled(host: VirtualHost, made: bytes) -> route_components_v3.VirtualHost:
    message = route_components_v3.VirtualHost.FromString(made)
    message.name = host.name
    message.domains.extend(host.domains)
    return message


def _only(hosts: Sequence[VirtualHost], host: str, name: str) -> Sequence[VirtualHost]:
    """The virtual host of one service, for whatever name the caller used: where it leads is known already."""
    bare = host.strip("[]")
    found = [h for h in hosts if not {name, host, bare}.isdisjoint(h.domains)][:1]
    return [VirtualHost(h.name, h.port, ("*",), h.rule, h.service, h.source) for h in found]


def _unclaimed(q: Reader, scope: Scope) -> route_components_v3.VirtualHost:
    outbound = q(scopes.outbound_policy, scope)
    if outbound is Outbound.ALLOW_ANY_DYNAMIC_DNS:
        return listeners_dynamic.anywhere_host()
    if outbound is Outbound.REGISTRY_ONLY:
        route = route_components_v3.Route(
            name="block_all", match={"prefix": "/"}, direct_response={"status": 502}
        )
        return _catch_all("block_all", route)
    proxy = q(scopes.egress_proxy, scope)
    cluster = naming.PASSTHROUGH
    if proxy is not None:
        host = services.full_host(q, proxy.host, scope.namespace)
        cluster = naming.outbound(host, proxy.port.number if proxy.port else 0, proxy.subset)
    route = route_components_v3.Route(
        name="allow_any",
        match={"prefix": "/"},
        route={"cluster": cluster, **time_limits()},
    )
    return _catch_all("allow_any", route)


def _catch_all(name: str, route: route_components_v3.Route) -> route_components_v3.VirtualHost:
    return route_components_v3.VirtualHost(
        name=name, domains=["*"], routes=[route], include_request_attempt_count=True
    )
