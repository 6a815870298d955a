"""What gRPC's own xDS client is given: names, routes, balancing, TLS."""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_v3
from google.protobuf.json_format import MessageToDict
from policy_world import rule, tls_context

from isthmus.envoy.manifest import manifest
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, HOST, LISTENER, ROUTES, SECRET, Manifest, ProxyId
from makers import BOOKINFO, World

REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"
PROGRAM = ProxyId("bookinfo", "productpage-1", "grpc")
CORS = "corsPolicy: {allowOrigins: [{exact: a}]}"


def resources(world: World, type_url: str) -> Manifest:
    return world.engine(manifest, type_url, PROGRAM)


def route(http: str) -> Any:
    text = (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        "metadata: {name: reviews, namespace: bookinfo}\n"
        f"spec: {{hosts: [reviews], http: [{{{http}, route: [{{destination: {{host: reviews}}}}]}}]}}\n"
    )
    found = resources(World().apply(BOOKINFO, text), ROUTES)[REVIEWS]
    (host,) = route_v3.RouteConfiguration.FromString(found.body).virtual_hosts
    assert list(host.domains) == ["*"]
    return host.routes[0]


def cluster(*texts: str) -> Any:
    return cluster_v3.Cluster.FromString(resources(World().apply(BOOKINFO, *texts), CLUSTER)[REVIEWS].body)


def test_listeners_have_every_spelling_and_lead_to_the_routes() -> None:
    found = resources(World().apply(BOOKINFO), LISTENER)
    spellings = ("reviews", "reviews.bookinfo", "reviews.bookinfo.svc", "reviews.bookinfo.svc.cluster.local")
    for spelling in spellings:
        message = listener_v3.Listener.FromString(found[f"{spelling}:9080"].body)
        manager = hcm_v3.HttpConnectionManager()
        assert message.api_listener.api_listener.Unpack(manager)
        assert manager.rds.route_config_name == REVIEWS
        assert [each.name for each in manager.http_filters][-1] == "envoy.filters.http.router"
    assert not any(name.endswith(":3306") for name in found), "MySQL is not called by gRPC"


def test_a_program_has_no_part_of_the_sidecars() -> None:
    world = World().apply(BOOKINFO)
    assert resources(world, HOST) == resources(world, SECRET) == {}
    assert REVIEWS in resources(world, ENDPOINTS)
    assert not any("|3306|" in name for name in resources(world, ENDPOINTS))
    assert resources(world, CLUSTER).keys() == resources(world, ENDPOINTS).keys()


def test_a_timeout_stands_where_grpc_reads_it() -> None:
    action = route("timeout: 2s").route
    assert action.max_stream_duration.max_stream_duration.seconds == 2
    assert not route("name: plain").route.HasField("max_stream_duration")


def test_filters_that_grpc_has_not_are_left_out() -> None:
    fault = "fault: {abort: {grpcStatus: ABORTED, percentage: {value: 100}}}"
    assert list(route(f"{CORS}, {fault}").typed_per_filter_config) == ["envoy.filters.http.fault"]


def test_plaintext_unless_a_rule_says_mutual() -> None:
    assert not cluster().HasField("transport_socket")
    assert not cluster(rule("{tls: {mode: DISABLE}}")).HasField("transport_socket")
    context = tls_context(cluster(rule("{tls: {mode: ISTIO_MUTUAL}}")).transport_socket)
    common = context["commonTlsContext"]
    assert common["tlsCertificateProviderInstance"] == {"instanceName": "default"}
    assert common["validationContext"]["caCertificateProviderInstance"] == {"instanceName": "default"}
    assert common["validationContext"]["matchSubjectAltNames"]


def test_balancing_is_round_robin_or_a_ring() -> None:
    assert cluster().lb_policy == cluster_v3.Cluster.ROUND_ROBIN
    ring = "{loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 7}}}}"
    made = cluster(rule(ring))
    assert made.lb_policy == cluster_v3.Cluster.RING_HASH
    assert MessageToDict(made.ring_hash_lb_config)["minimumRingSize"] == "7"


def test_every_place_has_a_name() -> None:
    found = resources(World().apply(BOOKINFO), ENDPOINTS)[REVIEWS]
    places = assignment_v3.ClusterLoadAssignment.FromString(found.body).endpoints
    assert places
    assert all(place.HasField("locality") and place.load_balancing_weight.value for place in places)
