"""Everything that one proxy should hold -> what is wrong with it that Envoy itself does not tell.

    resource --summary--> what it names and asks for    manifests --faults--> what is missing or cannot work

Envoy takes routes and TCP proxies to clusters that do not exist, a listener whose routes never come, matches
of TLS where nothing looks for TLS, and a connection manager without a router. A `fatal` fault is ours and
must not be sent; the others come from objects that name what is not there: those calls get 503, as in Istio.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_v3,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as tcp_proxy_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import inbound, inspectors, listeners_dynamic, local_clusters, naming, outbound
from isthmus.envoy.manifest import manifest, outbound_listeners, outbound_routes, own_clusters, scope_of
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Manifest, ProxyId, Resource
from isthmus.mesh.model import Scope

ROUTER = "envoy.filters.http.router"
_STATIC_CLUSTERS = frozenset({naming.ADS_CLUSTER, naming.SDS_CLUSTER})
_CHECKED = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a resource, and the objects that it was made from."""

    type_url: str
    name: str
    text: str
    fatal: bool
    sources: tuple[Key, ...] = ()

    def __str__(self) -> str:
        return f"{self.type_url.rpartition('.')[2]} {self.name}: {self.text}"


@dataclass(frozen=True, slots=True)
class Summary:
    """What one resource names and asks for."""

    clusters: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    endpoints: str = ""
    """The endpoints that it waits for."""
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    clusters: set[str] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def proxy_faults(q: Reader, proxy: ProxyId) -> tuple[Fault, ...]:
    """What is wrong with everything that a proxy should hold."""
    return _read(q, {type_url: q(manifest, type_url, proxy) for type_url in _CHECKED})


def scope_faults(q: Reader, scope: Scope) -> tuple[Fault, ...]:
    """What is wrong with what the proxies of a scope share."""
    shared = {
        CLUSTER: q(outbound.outbound_clusters, scope),
        ENDPOINTS: q(outbound.outbound_endpoints, scope),
        LISTENER: q(outbound_listeners, scope),
        ROUTES: q(outbound_routes, scope),
    }
    return _read(q, shared, {listeners_dynamic.ANYWHERE})


def _own_faults(q: Reader, scope: Scope, workload: Key) -> tuple[Fault, ...]:
    """What is wrong with what one proxy has for itself."""
    listeners = {each.name: each for each in q(inbound.inbound_listeners, workload)}
    fixed = {each.name for each in q(local_clusters.fixed_clusters)}
    return _read(q, {CLUSTER: q(own_clusters, scope, workload), LISTENER: listeners}, fixed)


def unsound(q: Reader, proxy: ProxyId) -> Mapping[tuple[str, str], str]:
    """What must not be sent to a proxy, and why, by type and name."""
    scope = q(scope_of, proxy)
    if scope is None:
        return {}
    workload = Key("WorkloadEntry", proxy.namespace, proxy.workload)
    if scope.router:
        found = q(proxy_faults, proxy)
    else:
        found = (*q(scope_faults, scope), *q(_own_faults, scope, workload))
    return {(fault.type_url, fault.name): fault.text for fault in found if fault.fatal}


def _read(q: Reader, manifests: Mapping[str, Manifest], elsewhere: Iterable[str] = ()) -> tuple[Fault, ...]:
    summaries = {r: q(_summary, r) for held in manifests.values() for r in held.values()}
    return _judged(manifests, summaries, elsewhere)


def faults(manifests: Mapping[str, Manifest]) -> tuple[Fault, ...]:
    """What is wrong with these resources, by type and name."""
    return _judged(manifests, {r: summary(r) for held in manifests.values() for r in held.values()})


def summary(resource: Resource) -> Summary:
    """What a resource names and asks for."""
    match resource.type_url:
        case t if t == CLUSTER:
            return _of_cluster(cluster_v3.Cluster.FromString(resource.body))
        case t if t == LISTENER:
            return _of_listener(listener_v3.Listener.FromString(resource.body))
        case t if t == ROUTES:
            found = _Found()
            _of_routes(route_v3.RouteConfiguration.FromString(resource.body), found)
            return Summary(clusters=tuple(sorted(found.clusters)))
    return Summary()


def _summary(_: Reader, resource: Resource) -> Summary:
    return summary(resource)


def _judged(
    manifests: Mapping[str, Manifest], known: Mapping[Resource, Summary], elsewhere: Iterable[str] = ()
) -> tuple[Fault, ...]:
    """What is wrong, where the clusters named `elsewhere` are there as well."""
    clusters = {*manifests.get(CLUSTER, {}), *_STATIC_CLUSTERS, *elsewhere}
    routes, assigned = manifests.get(ROUTES, {}), manifests.get(ENDPOINTS, {})
    taken: dict[str, str] = {}
    found: list[Fault] = []

    def fault(resource: Resource, text: str, *, fatal: bool) -> None:
        found.append(Fault(resource.type_url, resource.name, text, fatal, resource.sources))

    for resource in (r for type_url in _CHECKED for r in manifests.get(type_url, {}).values()):
        said = known[resource]
        for text in said.faults:
            fault(resource, text, fatal=True)
        for name in said.clusters:
            if name not in clusters:
                fault(resource, f"leads to cluster {name}, which there is not", fatal=_is_ours(name))
        for name in said.routes:
            if name not in routes:
                fault(resource, f"waits for routes {name}, which never come", fatal=True)
        if said.endpoints and said.endpoints not in assigned:
            fault(resource, f"waits for endpoints {said.endpoints}, which never come", fatal=True)
        for address in said.addresses:
            other = taken.setdefault(address, resource.name)
            if other != resource.name:
                fault(resource, f"has address {address}, which listener {other} has", fatal=True)
    return tuple(found)


def _is_ours(cluster: str) -> bool:
    """Whether nobody's object names this cluster: then its absence is a mistake of the translation."""
    return not cluster.startswith("outbound|")


def _of_cluster(message: cluster_v3.Cluster) -> Summary:
    waits = message.HasField("type") and message.type == cluster_v3.Cluster.EDS
    return Summary(endpoints=(message.eds_cluster_config.service_name or message.name) if waits else "")


def _of_listener(message: listener_v3.Listener) -> Summary:
    found = _Found()
    inspected = {each.name for each in message.listener_filters}
    chains = list(message.filter_chains)
    if message.HasField("default_filter_chain"):
        chains.append(message.default_filter_chain)
    seen: set[bytes] = set()
    for chain in chains:
        _of_match(chain.filter_chain_match, inspected, found)
        matched = chain.filter_chain_match.SerializeToString(deterministic=True)
        if chain is not message.default_filter_chain and matched in seen:
            found.faults.append(f"chain {chain.name or '(no name)'} matches what another one matches")
        seen.add(matched)
        for each in chain.filters:
            _of_filter(each, found)
    sockets = [message.address, *(each.address for each in message.additional_addresses)]
    return Summary(
        clusters=tuple(sorted(found.clusters)),
        routes=tuple(sorted(found.routes)),
        addresses=tuple(
            each.pipe.path or f"{each.socket_address.address} port {each.socket_address.port_value}"
            for each in sockets
        ),
        faults=tuple(found.faults),
    )


def _of_match(match: listener_components_v3.FilterChainMatch, inspected: set[str], found: _Found) -> None:
    tls_only = match.transport_protocol == inspectors.TLS or bool(match.server_names)
    if tls_only and inspectors.TLS_INSPECTOR not in inspected:
        found.faults.append("a chain matches TLS, and nothing looks for TLS")
    looked = {inspectors.TLS_INSPECTOR, inspectors.HTTP_INSPECTOR} & inspected
    if match.application_protocols and not looked:
        found.faults.append("a chain matches application protocols, and nothing looks for them")


def _of_filter(each: listener_components_v3.Filter, found: _Found) -> None:
    config = each.typed_config
    if config.Is(tcp_proxy_v3.TcpProxy.DESCRIPTOR):
        proxy = tcp_proxy_v3.TcpProxy.FromString(config.value)
        found.clusters.update(
            filter(None, (proxy.cluster, *(w.name for w in proxy.weighted_clusters.clusters)))
        )
    elif config.Is(hcm_v3.HttpConnectionManager.DESCRIPTOR):
        manager = hcm_v3.HttpConnectionManager.FromString(config.value)
        if not manager.http_filters or manager.http_filters[-1].name != ROUTER:
            found.faults.append("a connection manager does not end with the router")
        if manager.HasField("rds"):
            found.routes.add(manager.rds.route_config_name)
        _of_routes(manager.route_config, found)


def _of_routes(message: route_v3.RouteConfiguration, found: _Found) -> None:
    for host in message.virtual_hosts:
        for route in host.routes:
            found.clusters.update(_clusters_of(route.route))


def _clusters_of(action: route_components_v3.RouteAction) -> Iterable[str]:
    yield from filter(None, (action.cluster,))
    yield from (each.name for each in action.weighted_clusters.clusters if each.name)
    yield from (each.cluster for each in action.request_mirror_policies if each.cluster)
