"""The whole translation: a proxy and a type -> the resources it should hold.

    manifest(type, proxy) = what its scope shares (clusters, endpoints, outbound listeners, routes)
                          + what is its own        (inbound clusters, virtualInbound, host config)

Outbound resources are made once for a scope, and clusters, endpoints and TCP listeners once for all scopes
that obey the same rules; only inbound is made for each workload.
"""

from collections.abc import Mapping
from dataclasses import replace

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import clusters, endpoints, inbound, listeners, routes
from isthmus.envoy.host import host_config
from isthmus.envoy.resource import (
    CLUSTER,
    ENDPOINTS,
    HOST,
    LISTENER,
    ROUTES,
    Manifest,
    ProxyId,
    Resource,
    content_version,
)
from isthmus.mesh import destinations, routing, services, workloads
from isthmus.mesh import scope as scopes
from isthmus.mesh.model import Labels, Protocol, Scope

_WORKLOAD_KIND = "WorkloadEntry"


def manifest(q: Reader, type_url: str, proxy: ProxyId) -> Manifest:
    """The resources of one type that a proxy should hold, by name; none for an unknown proxy or type."""
    scope = q(scope_of, proxy)
    if scope is None:
        return {}
    workload = Key(_WORKLOAD_KIND, proxy.namespace, proxy.workload)
    if type_url == CLUSTER:
        return {**q(outbound_clusters, scope), **q(inbound_clusters, workload)}
    if type_url == ENDPOINTS:
        return q(outbound_endpoints, scope)
    if type_url == LISTENER:
        return {**q(outbound_listeners, scope), **_by_name(q(inbound.virtual_inbound, workload))}
    if type_url == ROUTES:
        return q(outbound_routes, scope)
    if type_url == HOST:
        return _by_name(q(host_config, workload, scope))
    return {}


def scope_of(q: Reader, proxy: ProxyId) -> Scope | None:
    """The class of proxies that this one shares its outbound configuration with."""
    return q(scopes.scope_of, Key(_WORKLOAD_KIND, proxy.namespace, proxy.workload))


ClusterArguments = tuple[str, int, str, tuple[Key, ...]]


def outbound_clusters(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The clusters of everything that a scope can call."""
    found = (q(clusters.cluster, *arguments) for arguments in q(cluster_arguments, scope))
    return _by_name(*q(clusters.fixed_clusters), *(made for made in found if made))


def outbound_endpoints(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The endpoints of those clusters that do not find them by themselves."""
    found = (q(cluster_endpoints, *arguments) for arguments in q(cluster_arguments, scope))
    return _by_name(*(made for made in found if made))


def cluster_arguments(q: Reader, scope: Scope) -> tuple[ClusterArguments, ...]:
    """What each cluster of a scope is made from: host, port, subset, and the rules that callers obey."""
    found: list[ClusterArguments] = []
    for host in q(scopes.visible_hosts, scope):
        rules = q(destinations.rules_for, scope.namespace, host)
        names = ("", *(subset.name for subset in q(destinations.subsets, rules)))
        found += ((host, port, name, rules) for port in q(ports_of, host) for name in names)
    return tuple(found)


def ports_of(q: Reader, host: str) -> tuple[int, ...]:
    """The numbers of a host's ports, UDP left out."""
    service = q(services.service, host)
    return tuple(p.number for p in service.ports if p.protocol is not Protocol.UDP) if service else ()


def cluster_endpoints(
    q: Reader, host: str, port: int, subset: str, rules: tuple[Key, ...]
) -> Resource | None:
    """The endpoints of one cluster, in a version that covers the cluster's.

    Envoy warms a changed cluster until it gets the endpoints again and does not ask for them, so a changed
    cluster must make them be sent again.
    """
    cluster = q(clusters.cluster, host, port, subset, rules)
    if cluster is None or not q(clusters.sends_endpoints, host, port, subset, rules):
        return None
    assignment = q(endpoints.assignment, host, port, subset, q(_labels, rules, subset))
    version = content_version(assignment.body, cluster.version.encode())
    return replace(assignment, version=version)


def _labels(q: Reader, rules: tuple[Key, ...], subset: str) -> Labels:
    return next((s.labels for s in q(destinations.subsets, rules) if s.name == subset), ())


def outbound_listeners(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The listeners that take what a scope's programs send out."""
    http = (q(listeners.http_listener, scope, port) for port in q(routes.http_ports, scope))
    tcp = (
        q(listeners.tcp_listener, q(routing.governing, scope.namespace, host), host, port, vips)
        for host, port, vips in q(listeners.tcp_claims, scope)
    )
    return _by_name(q(listeners.virtual_outbound), *http, *tcp)


def outbound_routes(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The route configurations that a scope's HTTP listeners ask for."""
    return _by_name(*(q(routes.routes, scope, port) for port in q(routes.http_ports, scope)))


def inbound_clusters(q: Reader, workload: Key) -> Mapping[str, Resource]:
    """The clusters of a workload's own ports."""
    ports = q(workloads.inbound_ports, workload)
    found = (q(clusters.inbound_cluster, port.number, port.protocol) for port in ports)
    return _by_name(*found)


def _by_name(*resources: Resource) -> dict[str, Resource]:
    return {resource.name: resource for resource in sorted(resources, key=lambda r: r.name)}
