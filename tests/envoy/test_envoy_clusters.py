"""Clusters: how endpoints are found, who they must be, what limits there are."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3
from google.protobuf.json_format import MessageToDict

from isthmus.envoy import tls
from isthmus.envoy.resource import CLUSTER
from makers import BOOKINFO, World, service, workload

MYSQL = "outbound|3306||mysqldb.bookinfo.svc.cluster.local"
REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"


def _cluster(world: World, name: str) -> Any:
    found = world.manifest(CLUSTER, "bookinfo", "productpage-1")[name]
    return cluster_v3.Cluster.FromString(found.body)


def _context(socket: Any) -> Any:
    context = tls_v3.UpstreamTlsContext()
    assert socket.typed_config.Unpack(context)
    return context


def _peers(context: Any) -> list[str]:
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    return [san.matcher.exact or san.matcher.prefix for san in validation.match_typed_subject_alt_names]


def _rule(policy: str, host: str = "reviews") -> str:
    return (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        f"metadata: {{name: r, namespace: bookinfo}}\nspec: {{host: {host}, trafficPolicy: {policy}}}\n"
    )


def test_mutual_tls_where_a_proxy_is_and_plaintext_elsewhere() -> None:
    cluster = _cluster(World().apply(BOOKINFO), REVIEWS)
    first, second = cluster.transport_socket_matches
    assert (first.name, MessageToDict(first.match)) == ("tlsMode-istio", {"tlsMode": "istio"})
    assert (second.name, MessageToDict(second.match)) == ("tlsMode-disabled", {})
    context = _context(first.transport_socket)
    assert _peers(context) == ["spiffe://cluster.local/ns/bookinfo/sa/reviews"]
    assert context.sni == "outbound_.9080_._.reviews.bookinfo.svc.cluster.local"
    assert list(context.common_tls_context.alpn_protocols) == ["istio-http/1.1", "istio", "http/1.1"]


def test_tcp_offers_nothing_that_would_change_the_bytes() -> None:
    cluster = _cluster(World().apply(BOOKINFO), MYSQL)
    context = _context(cluster.transport_socket_matches[0].transport_socket)
    assert list(context.common_tls_context.alpn_protocols) == ["istio"]
    assert not cluster.typed_extension_protocol_options


def test_no_identity_means_plaintext_never_an_empty_list() -> None:
    world = World().apply(BOOKINFO, service("bare", 80), "")
    world.apply(workload("bare-1", "10.0.0.7").replace("serviceAccount: bare, ", ""))
    cluster = _cluster(world, "outbound|80||bare.bookinfo.svc.cluster.local")
    assert not cluster.transport_socket_matches
    assert not cluster.HasField("transport_socket")
    with pytest.raises(AssertionError, match="any certificate"):
        tls.client([], tls.TCP_ALPN, "x")


def test_a_destination_rule_may_switch_mutual_tls_off_or_insist_on_it() -> None:
    cluster = _cluster(World().apply(BOOKINFO, _rule("{tls: {mode: DISABLE}}")), REVIEWS)
    assert not cluster.transport_socket_matches
    cluster = _cluster(World().apply(BOOKINFO, _rule("{tls: {mode: ISTIO_MUTUAL}}")), REVIEWS)
    assert not cluster.transport_socket_matches
    assert _peers(_context(cluster.transport_socket)) == ["spiffe://cluster.local/ns/bookinfo/sa/reviews"]
    world = World().apply(BOOKINFO, service("empty", 80), _rule("{tls: {mode: ISTIO_MUTUAL}}", "empty"))
    cluster = _cluster(world, "outbound|80||empty.bookinfo.svc.cluster.local")
    assert _peers(_context(cluster.transport_socket)) == ["spiffe://cluster.local/ns/bookinfo/sa/"]


def test_limits_and_outliers() -> None:
    policy = """{
      loadBalancer: {simple: ROUND_ROBIN},
      connectionPool: {tcp: {maxConnections: 7, connectTimeout: 500ms},
                       http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, maxRetries: 3,
                              maxRequestsPerConnection: 1, idleTimeout: 2s}},
      outlierDetection: {consecutive5xxErrors: 4, interval: 1s, baseEjectionTime: 2s,
                         maxEjectionPercent: 50}}"""
    cluster = _cluster(World().apply(BOOKINFO, _rule(policy)), REVIEWS)
    (limits,) = cluster.circuit_breakers.thresholds
    assert limits.max_connections.value == 7
    assert limits.max_pending_requests.value == 8
    assert limits.max_requests.value == 9
    assert limits.max_retries.value == 3
    assert cluster.connect_timeout.ToMilliseconds() == 500
    assert cluster.lb_policy == cluster_v3.Cluster.ROUND_ROBIN
    assert cluster.outlier_detection.consecutive_5xx.value == 4
    assert cluster.outlier_detection.max_ejection_percent.value == 50


def test_panic_is_off_and_limits_are_wide_by_default() -> None:
    cluster = _cluster(World().apply(BOOKINFO), REVIEWS)
    assert cluster.common_lb_config.healthy_panic_threshold.value == 0
    assert cluster.common_lb_config.HasField("healthy_panic_threshold")
    assert cluster.circuit_breakers.thresholds[0].max_connections.value == 2**32 - 1
    assert cluster.lb_policy == cluster_v3.Cluster.LEAST_REQUEST


def test_an_external_service_is_called_as_it_is() -> None:
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: bookinfo}
spec:
  hosts: [api.example.com]
  ports: [{number: 443, name: tls}, {number: 80, name: http}]
  resolution: DNS
"""
    world = World().apply(BOOKINFO, entry)
    cluster = _cluster(world, "outbound|443||api.example.com")
    assert cluster.cluster_type.name == "envoy.clusters.dns"
    (endpoint,) = cluster.load_assignment.endpoints[0].lb_endpoints
    assert endpoint.endpoint.address.socket_address.address == "api.example.com"
    assert not cluster.transport_socket_matches


def test_what_a_vm_serves_is_dialled_from_known_sources() -> None:
    cluster = _cluster(World().apply(BOOKINFO), "inbound|9080||")
    assert cluster.type == cluster_v3.Cluster.ORIGINAL_DST
    bind = cluster.upstream_bind_config
    assert bind.source_address.address == "127.0.0.6"
    assert [extra.address.address for extra in bind.extra_source_addresses] == ["::6"]
