"""Servers of Gateways + the VirtualServices bound to them -> the RouteConfiguration of a gateway's port.

    GatewayServer x VirtualService --hosts in common--> virtual hosts    http.80   https.443.…

Here rules of several VirtualServices for one host are put together, in their order: what matches everything
comes last. https://istio.io/latest/docs/ops/best-practices/traffic-management/#split-virtual-services
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from envoy.config.route.v3 import route_components_pb2 as route_components_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy.resource import Resource
from isthmus.envoy.routes import configuration, rule_body
from isthmus.mesh import routing, routing_hashes
from isthmus.mesh.model import Labels
from isthmus.mesh.routing_rules import http_sources
from isthmus.mesh.routing_table import Caller


@dataclass(frozen=True, slots=True)
class GatewayServer:
    """One server of a Gateway (`namespace/name`): its hosts, as `namespace/host`, `./host` or `host`."""

    gateway: str
    hosts: tuple[str, ...]
    port: int
    tls: bool = False
    """Whether it opens TLS."""
    https_redirect: bool = False


Maker = tuple[str, Key]
"""A gateway and a VirtualService, which make the same routes wherever they are asked."""


@dataclass(slots=True)
class _Merged:
    """A virtual host while it is put together."""

    port: int
    makers: list[Maker] = field(default_factory=list)
    redirects: bool = False


def gateway_routes(
    q: Reader, name: str, servers: tuple[GatewayServer, ...], viewer: str, labels: Labels
) -> Resource:
    """The route configuration of these servers, which share a port, for gateways in namespace `viewer`."""
    hosts: dict[str, _Merged] = {}
    made: dict[Maker, bytes] = {}
    sources: list[Key] = []
    for server in servers:
        caller = Caller(viewer, labels, server.gateway)
        for key in q(routing.visible_rules, viewer, server.gateway):
            shared = in_common(server.hosts, server.gateway, key.namespace, q(routing.hosts_of, key))
            if not shared or not q(routing.has_rules, key, caller, server.port):
                continue
            maker = (server.gateway, key)
            if maker not in made:
                hashes = q(routing_hashes.rule_hashes, key, viewer, labels)
                narrow = q(routing.narrowed, key, caller)
                made[maker] = q(rule_body, key, narrow, server.port, hashes, server.tls)
                sources += q(http_sources, key)
            for host in shared:
                merged = hosts.setdefault(host, _Merged(server.port))
                merged.makers.append(maker)
                merged.redirects |= server.https_redirect
        if server.https_redirect:
            for _, host in _places(server.hosts, server.gateway):
                hosts.setdefault(host, _Merged(server.port)).redirects = True
    found = [_virtual_host(names, merged, made) for names, merged in _joined(hosts)]
    if not found:
        port = servers[0].port if servers else 0
        # without routes, every request is answered with 404
        found = [route_components_v3.VirtualHost(name=f"blackhole:{port}", domains=["*"])]
    return configuration(name, sorted(found, key=lambda host: host.name), sources)


def in_common(
    server_hosts: Iterable[str], gateway: str, namespace: str, rule_hosts: Iterable[str]
) -> tuple[str, ...]:
    """The hosts that a server and a VirtualService of `namespace` have in common: the narrower of two."""
    allowed = [host for place, host in _places(server_hosts, gateway) if place in ("*", namespace)]
    pairs = ((mine, theirs) for mine in allowed for theirs in rule_hosts)
    return tuple(dict.fromkeys(host for mine, theirs in pairs for host in _narrower(mine, theirs)))


def _places(hosts: Iterable[str], gateway: str) -> Iterator[tuple[str, str]]:
    """Namespace (`*` for any) and host of each of a server's hosts."""
    own = gateway.partition("/")[0]
    for text in hosts:
        place, slash, host = text.rpartition("/")
        yield ((own if place == "." else place) if slash else "*"), host.lower()


def _narrower(one: str, other: str) -> Iterator[str]:
    for narrow, wide in ((one, other), (other, one)):
        if narrow == wide or (
            wide.startswith("*") and narrow.removeprefix("*").endswith(wide[1:]) and len(narrow) >= len(wide)
        ):
            yield narrow
            return


def _joined(hosts: dict[str, _Merged]) -> Iterator[tuple[list[str], _Merged]]:
    """Hosts with the same routes share one virtual host, which has the name of the first."""
    together: dict[tuple[tuple[Maker, ...], bool], list[str]] = {}
    # the longest name first, wildcards last
    for host in sorted(hosts, key=lambda host: (host.startswith("*"), -len(host), host)):
        merged = hosts[host]
        together.setdefault((tuple(merged.makers), merged.redirects), []).append(host)
    return ((names, hosts[names[0]]) for names in together.values())


def _virtual_host(
    domains: list[str], merged: _Merged, made: Mapping[Maker, bytes]
) -> route_components_v3.VirtualHost:
    message = route_components_v3.VirtualHost(
        name=f"{domains[0]}:{merged.port}",
        domains=domains,
        include_request_attempt_count=True,
        require_tls=route_components_v3.VirtualHost.ALL if merged.redirects else 0,
    )
    found = [
        route
        for maker in merged.makers
        for route in route_components_v3.VirtualHost.FromString(made[maker]).routes
    ]
    message.routes.extend(sorted(found, key=_takes_all))
    return message


def _takes_all(route: route_components_v3.Route) -> bool:
    match = route.match
    everywhere = match.prefix == "/" or match.safe_regex.regex == ".*"
    return everywhere and not match.headers and not match.query_parameters and not match.dynamic_metadata
