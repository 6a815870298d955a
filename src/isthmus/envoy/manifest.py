"""The whole translation: a proxy and a type -> the resources it should hold.

    manifest(type, proxy) = what its scope shares (clusters, endpoints, outbound listeners, routes)
                          + what is its own        (inbound clusters, virtualInbound, host config)

Outbound resources are made once for a scope, and clusters, endpoints and TCP listeners once for all scopes
that obey the same rules; only inbound is made for each workload.
"""

from collections.abc import Mapping

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import access, inbound, listeners, outbound, proxyless, routes
from isthmus.envoy.gateway import edge_manifest
from isthmus.envoy.gateway import host as gateway_host
from isthmus.envoy.host import host_config
from isthmus.envoy.inbound_clusters import inbound_cluster
from isthmus.envoy.listeners_dynamic import anywhere_cluster
from isthmus.envoy.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    HOST,
    LISTENER,
    ROUTES,
    SECRET,
    Manifest,
    ProxyId,
    Resource,
)
from isthmus.mesh import authorization, gateways, scope_inbound, scope_listeners
from isthmus.mesh import scope as scopes
from isthmus.mesh.model import Outbound, Scope

_WORKLOAD_KIND = "WorkloadEntry"


def manifest(q: Reader, type_url: str, proxy: ProxyId) -> Manifest:
    """The resources of one type that a proxy should hold, by name; none for an unknown proxy or type."""
    scope = q(scope_of, proxy)
    if scope is None:
        return {}
    workload = Key(_WORKLOAD_KIND, proxy.namespace, proxy.workload)
    if proxy.generator == proxyless.GENERATOR:
        return proxyless.manifest(q, type_url, scope)
    if scope.router:
        edge = q(gateways.edge_of, workload)
        return (
            _by_name(q(gateway_host, edge, workload))
            if type_url == HOST
            else edge_manifest(q, type_url, edge)
        )
    if type_url == CLUSTER:
        return {**q(outbound.outbound_clusters, scope), **q(own_clusters, scope, workload)}
    if type_url == ENDPOINTS:
        return q(outbound.outbound_endpoints, scope)
    if type_url == SECRET:
        return q(outbound.credentials, scope)
    if type_url == LISTENER:
        return {**q(outbound_listeners, scope), **_by_name(*q(inbound.inbound_listeners, workload))}
    if type_url == ROUTES:
        return q(outbound_routes, scope)
    if type_url == EXTENSION:
        own = q(inbound.inbound_listeners, workload)
        return access.extensions(q, q(authorization.enforced, workload), own)
    if type_url == HOST:
        return _by_name(q(host_config, workload, scope))
    return {}


def scope_of(q: Reader, proxy: ProxyId) -> Scope | None:
    """The class of proxies that this one shares its outbound configuration with."""
    return q(scopes.scope_of, Key(_WORKLOAD_KIND, proxy.namespace, proxy.workload))


def outbound_listeners(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The listeners that take what a scope's programs send out."""
    planned = (listeners.listener(q, scope, said) for said in q(scope_listeners.plan, scope).listeners)
    return _by_name(q(listeners.virtual_outbound, scope), *planned)


def outbound_routes(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The route configurations that a scope's listeners ask for."""
    return _by_name(*(q(routes.routes, scope, name) for name in q(listeners.route_names, scope)))


def own_clusters(q: Reader, scope: Scope, workload: Key) -> Mapping[str, Resource]:
    """The clusters of a workload's own ports, and of hosts that nobody declared."""
    found = [q(inbound_cluster, workload, one) for one in q(scope_inbound.served, workload)]
    if q(scopes.outbound_policy, scope) is Outbound.ALLOW_ANY_DYNAMIC_DNS:
        found.append(q(anywhere_cluster))
    return _by_name(*found)


def _by_name(*resources: Resource) -> dict[str, Resource]:
    return {resource.name: resource for resource in sorted(resources, key=lambda r: r.name)}
