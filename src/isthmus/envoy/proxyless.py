"""What Envoys of a scope get -> what gRPC's own xDS client takes: programs that need no proxy.

    xds:///<host>:<port>   Listener <host>:<port> (for every spelling of the host), which names the routes
                           RouteConfiguration outbound|<port>||<host>: one virtual host, with faults
                           Cluster, ClusterLoadAssignment: those of the scope, without what gRPC refuses

As in Istio, such a program calls in plaintext unless a DestinationRule says ISTIO_MUTUAL: its certificate and
roots are then those of the provider `default` of its bootstrap.
https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md
"""

from collections.abc import Iterable, Mapping

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as fault_v3
from envoy.extensions.filters.http.router.v3 import router_pb2 as router_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_v3
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_common_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3

from isthmus.engine import Reader
from isthmus.envoy import clusters as envoy_clusters
from isthmus.envoy import naming, outbound, routes
from isthmus.envoy.filters import FAULT_FILTER
from isthmus.envoy.message import from_ads, packed, resource
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Manifest, Resource
from isthmus.envoy.targets import Target
from isthmus.mesh import destinations, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.hosts import short_forms
from isthmus.mesh.model import Protocol, Scope

GENERATOR = "grpc"
"""What such a client says of itself in `node.metadata.GENERATOR`."""
_PROVIDER = "default"


def manifest(q: Reader, type_url: str, scope: Scope) -> Manifest:
    """The resources of one type that a program may ask for, by name."""
    making = {LISTENER: listeners, ROUTES: configurations, CLUSTER: clusters, ENDPOINTS: assignments}
    return q(making[type_url], scope) if type_url in making else {}


def called(q: Reader, scope: Scope) -> tuple[tuple[str, int], ...]:
    """The hosts and ports that speak HTTP, or may."""
    found = []
    for seen in q(scopes.imported, scope):
        service = q(services.merged, seen.host, seen.sources)
        for number in seen.ports if service else ():
            port = service.port(number) if service else None
            if port is not None and (port.protocol.is_http or port.protocol is Protocol.AUTO):
                found.append((seen.host, number))
    return tuple(found)


def listeners(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """What programs ask for first: `host:port`, in every spelling that they may use."""
    domain = q(world.settings).dns_domain
    found: dict[str, Resource] = {}
    for host, port in q(called, scope):
        manager = packed(_manager(naming.outbound(host, port)))
        for name in (host, *short_forms(host, scope.namespace, domain)):
            spelled = f"{name}:{port}"
            message = listener_v3.Listener(name=spelled, api_listener={"api_listener": manager})
            found.setdefault(spelled, resource(LISTENER, spelled, message))
    return found


def _manager(route_name: str) -> hcm_v3.HttpConnectionManager:
    return hcm_v3.HttpConnectionManager(
        stat_prefix=route_name,
        rds=hcm_v3.Rds(config_source=from_ads(), route_config_name=route_name),
        http_filters=[
            hcm_v3.HttpFilter(name=FAULT_FILTER, typed_config=packed(fault_v3.HTTPFault())),
            hcm_v3.HttpFilter(name="envoy.filters.http.router", typed_config=packed(router_v3.Router())),
        ],
    )


def configurations(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The routes of each host and port."""
    return _by_name(_configuration(q, scope, host, port) for host, port in q(called, scope))


def _configuration(q: Reader, scope: Scope, host: str, port: int) -> Resource:
    made = q(routes.routes, scope, f"{host}:{port}")
    message = route_v3.RouteConfiguration.FromString(made.body)
    name = naming.outbound(host, port)
    hosts = [
        route_components_v3.VirtualHost(name=name, domains=["*"], routes=map(_route, virtual_host.routes))
        for virtual_host in message.virtual_hosts[:1]
    ]
    stripped = route_v3.RouteConfiguration(name=name, virtual_hosts=hosts)
    return resource(ROUTES, name, stripped, made.sources)


def _route(said: route_components_v3.Route) -> route_components_v3.Route:
    """The route without filters that gRPC has not, and with its timeout where gRPC looks for one."""
    made = route_components_v3.Route()
    made.CopyFrom(said)
    for name in [name for name in made.typed_per_filter_config if name != FAULT_FILTER]:
        del made.typed_per_filter_config[name]
    if made.HasField("route"):
        limit = made.route.timeout
        made.route.ClearField("max_grpc_timeout")
        if limit.seconds or limit.nanos:
            made.route.max_stream_duration.max_stream_duration.CopyFrom(limit)
    return made


def clusters(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The clusters of those hosts and ports, and of their subsets."""
    return _by_name(q(_cluster, target) for target in q(_targets, scope))


def assignments(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The endpoints of those clusters."""
    made = (q(outbound.cluster_endpoints, target) for target in q(_targets, scope))
    return _by_name(_assignment(each) for each in made if each)


def _targets(q: Reader, scope: Scope) -> tuple[Target, ...]:
    """What clusters lead to whose endpoints we know."""
    wanted = set(q(called, scope))
    return tuple(
        target
        for target in q(outbound.targets, scope)
        if (target.host, target.port) in wanted and q(outbound.cluster_endpoints, target)
    )


def _cluster(q: Reader, target: Target) -> Resource:
    """The cluster with the balancing and the TLS that gRPC knows."""
    made = q(envoy_clusters.cluster, target)
    assert made is not None, target
    said = cluster_v3.Cluster.FromString(made.body)
    message = cluster_v3.Cluster(
        name=said.name,
        type=cluster_v3.Cluster.EDS,
        eds_cluster_config={"eds_config": from_ads(), "service_name": said.eds_cluster_config.service_name},
    )
    if said.lb_policy == cluster_v3.Cluster.RING_HASH:
        message.lb_policy = said.lb_policy
        message.ring_hash_lb_config.CopyFrom(said.ring_hash_lb_config)
    if said.HasField("circuit_breakers"):
        message.circuit_breakers.CopyFrom(said.circuit_breakers)
    tls = q(destinations.policy, target.rules, target.subset, target.port).tls
    context = tls_v3.UpstreamTlsContext()
    if tls and tls.mode == "ISTIO_MUTUAL" and said.transport_socket.typed_config.Unpack(context):
        message.transport_socket.CopyFrom(_mutual(context))
    return resource(CLUSTER, said.name, message, made.sources)


def _mutual(said: tls_v3.UpstreamTlsContext) -> base_v3.TransportSocket:
    """The same peers, with certificate and roots of the program's own provider."""
    expected = said.common_tls_context.combined_validation_context.default_validation_context
    context = tls_v3.UpstreamTlsContext(
        common_tls_context=tls_v3.CommonTlsContext(
            tls_certificate_provider_instance={"instance_name": _PROVIDER},
            validation_context=tls_common_v3.CertificateValidationContext(
                ca_certificate_provider_instance={"instance_name": _PROVIDER},
                # gRPC reads the older of the two fields only
                match_subject_alt_names=[
                    matcher.matcher for matcher in expected.match_typed_subject_alt_names
                ],
            ),
        ),
        sni=said.sni,
    )
    return base_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _assignment(made: Resource) -> Resource:
    """The endpoints, every place with a name: gRPC refuses one without."""
    message = assignment_v3.ClusterLoadAssignment.FromString(made.body)
    for place in message.endpoints:
        place.locality.SetInParent()
    return resource(ENDPOINTS, made.name, message, made.sources)


def _by_name(found: Iterable[Resource]) -> dict[str, Resource]:
    return {each.name: each for each in sorted(found, key=lambda each: each.name)}
