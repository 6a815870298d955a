"""Traffic policies -> how endpoints are chosen and dropped, limits, versions of HTTP."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.core.v3 import health_check_pb2 as health_check_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3
from google.protobuf.json_format import MessageToDict
from policy_world import REVIEWS, addresses, cluster, cluster_with, http_options, rule, tls_context

from isthmus.api.networking.destination_rule import TcpKeepalive
from isthmus.envoy.resource import ENDPOINTS
from isthmus.mesh.model import MeshSettings
from makers import BOOKINFO, World, service, workload

# choosing endpoints


@pytest.mark.parametrize(
    ("said", "policy", "config"),
    [
        ("{}", "LEAST_REQUEST", {}),
        ("{simple: UNSPECIFIED}", "LEAST_REQUEST", {}),
        ("{simple: LEAST_CONN}", "LEAST_REQUEST", {}),
        ("{simple: RANDOM}", "RANDOM", {}),
        ("{simple: ROUND_ROBIN}", "ROUND_ROBIN", {}),
        (
            "{consistentHash: {httpHeaderName: x}}",
            "RING_HASH",
            {"ringHashLbConfig": {"minimumRingSize": "1024"}},
        ),
        (
            "{consistentHash: {useSourceIp: true, minimumRingSize: 9}}",
            "RING_HASH",
            {"ringHashLbConfig": {"minimumRingSize": "9"}},
        ),
        ("{consistentHash: {httpHeaderName: x, ringHash: {}}}", "RING_HASH", {}),
        ("{consistentHash: {httpQueryParameterName: x, maglev: {}}}", "MAGLEV", {}),
        (
            "{consistentHash: {httpHeaderName: x, maglev: {tableSize: 11}}}",
            "MAGLEV",
            {"maglevLbConfig": {"tableSize": "11"}},
        ),
        (
            "{simple: ROUND_ROBIN, warmup: {duration: 10s}}",
            "ROUND_ROBIN",
            {
                "roundRobinLbConfig": {
                    "slowStartConfig": {
                        "slowStartWindow": "10s",
                        "aggression": {"defaultValue": 1.0, "runtimeKey": "("},
                        "minWeightPercent": {"value": 10.0},
                    }
                }
            },
        ),
        (
            "{warmupDurationSecs: 5s}",
            "LEAST_REQUEST",
            {"leastRequestLbConfig": {"slowStartConfig": {"slowStartWindow": "5s"}}},
        ),
    ],
)
def test_load_balancers(said: str, policy: str, config: dict[str, Any]) -> None:
    found = MessageToDict(cluster_with(f"{{loadBalancer: {said}}}"))
    assert found.get("lbPolicy", "ROUND_ROBIN") == policy
    assert {
        name: value for name, value in found.items() if name.endswith("LbConfig") and name[:6] != "common"
    } == config


def test_passing_through() -> None:
    found = cluster_with("{loadBalancer: {simple: PASSTHROUGH}}")
    assert found.type == cluster_v3.Cluster.ORIGINAL_DST
    assert found.lb_policy == cluster_v3.Cluster.CLUSTER_PROVIDED
    # everybody has a proxy, so mutual TLS holds for all
    assert found.HasField("transport_socket")
    world = World().apply(BOOKINFO, rule("{loadBalancer: {simple: PASSTHROUGH}}"))
    assert REVIEWS not in world.manifest(ENDPOINTS, "bookinfo", "productpage-1")
    world.apply(workload("reviews-9", "10.9.9.9").replace("serviceAccount: reviews, ", ""))
    assert not cluster(world).HasField("transport_socket")


def test_outliers() -> None:
    said = """{outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, interval: 1s,
      baseEjectionTime: 2s, maxEjectionPercent: 50, minHealthPercent: 30,
      splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4,
      outlierDetectionHttpErrorCodes: [429, 503]}}"""
    found = cluster_with(said)
    assert MessageToDict(found.outlier_detection) == {
        "consecutive5xx": 0,
        "enforcingConsecutive5xx": 0,
        "consecutiveGatewayFailure": 3,
        "enforcingConsecutiveGatewayFailure": 100,
        "enforcingSuccessRate": 0,
        "interval": "1s",
        "baseEjectionTime": "2s",
        "maxEjectionPercent": 50,
        "splitExternalLocalOriginErrors": True,
        "consecutiveLocalOriginFailure": 4,
        "enforcingConsecutiveLocalOriginFailure": 100,
        "enforcingLocalOriginSuccessRate": 0,
    }
    assert found.common_lb_config.healthy_panic_threshold.value == 30
    rules = http_options(found)["outlierDetection"]["errorMatcher"]["orMatch"]["rules"]
    assert [r["httpResponseHeadersMatch"]["headers"][0]["stringMatch"]["exact"] for r in rules] == [
        "429",
        "503",
    ]
    assert MessageToDict(cluster_with("{outlierDetection: {}}").outlier_detection) == {
        "enforcingSuccessRate": 0
    }


def test_endpoints_that_are_down_are_left_out_where_panic_could_choose_them() -> None:
    world = World().apply(BOOKINFO, rule("{outlierDetection: {minHealthPercent: 50}}"))
    world.unhealthy("bookinfo", "reviews-2")
    assert addresses(world) == {"10.0.0.31": 0, "fd00::33": 0}


def test_health_does_not_count_for_a_service_that_publishes_what_is_not_ready() -> None:
    world = World().apply(BOOKINFO)
    world.unhealthy("bookinfo", "reviews-2")
    assert _states(world) == [health_check_v3.HEALTHY, health_check_v3.UNHEALTHY, health_check_v3.HEALTHY]
    said = service("reviews", 9080).replace("spec:\n", "spec:\n  publishNotReadyAddresses: true\n")
    assert _states(world.apply(said)) == [health_check_v3.HEALTHY] * 3


def _states(world: World) -> list[int]:
    """The health of the endpoints of `reviews`, by address."""
    message = assignment_v3.ClusterLoadAssignment.FromString(
        world.manifest(ENDPOINTS, "bookinfo", "productpage-1")[REVIEWS].body
    )
    found = [each for group in message.endpoints for each in group.lb_endpoints]
    found.sort(key=lambda each: each.endpoint.address.socket_address.address)
    return [each.health_status for each in found]


# places


def _at(name: str, address: str, locality: str, app: str = "reviews") -> str:
    return workload(name, address, app=app).replace("spec: {", f"spec: {{locality: {locality}, ")


def test_callers_in_different_places_prefer_different_endpoints() -> None:
    world = World().apply(
        BOOKINFO.replace(workload("reviews-1", "10.0.0.31"), ""),
        _at("reviews-1", "10.0.0.31", "eu/a"),
        _at("reviews-2", "10.0.0.32", "us/a"),
        _at("reviews-3", "10.0.0.33", "eu/b"),
        _at("caller-eu", "10.0.1.1", "eu/b", app="caller"),
        _at("caller-us", "10.0.1.2", "us/a", app="caller"),
        rule("{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: true}}}"),
    )
    assert addresses(world, proxy="caller-eu") == {"10.0.0.33": 0, "10.0.0.31": 1, "10.0.0.32": 2}
    assert addresses(world, proxy="caller-us") == {"10.0.0.32": 0, "10.0.0.31": 1, "10.0.0.33": 1}
    # what does not depend on the place is made once
    other = REVIEWS.replace("reviews", "ratings")
    eu, us = (world.manifest(ENDPOINTS, "bookinfo", name)[other] for name in ("caller-eu", "caller-us"))
    assert eu is us


def test_the_labels_of_callers_decide_where_failover_asks_for_them() -> None:
    world = World().apply(
        BOOKINFO,
        rule("{outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [version]}}}"),
        workload("caller-1", "10.0.1.1", app="caller", version="v2"),
    )
    assert addresses(world, proxy="caller-1") == {"10.0.0.32": 0, "10.0.0.31": 1, "fd00::33": 1}
    assert cluster(world).common_lb_config.HasField("locality_weighted_lb_config")


def test_a_rule_for_some_callers() -> None:
    more = ", workloadSelector: {matchLabels: {app: ratings}}"
    world = World().apply(BOOKINFO, rule("{connectionPool: {tcp: {maxConnections: 5}}}", more=more))

    def limit(proxy: str) -> int:
        return int(cluster(world, proxy=proxy).circuit_breakers.thresholds[0].max_connections.value)

    assert (limit("ratings-1"), limit("productpage-1")) == (5, 2**32 - 1)


# connections


def test_pools() -> None:
    said = """{connectionPool: {tcp: {maxConnectionDuration: 9s, idleTimeout: 8s,
                                      tcpKeepalive: {probes: 3, time: 60s, interval: 5s}},
                                http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 7,
                                       http2KeepAlive: {interval: 1s, timeout: 2s}}},
               retryBudget: {percent: 30, minRetryConcurrency: 4}}"""
    found = cluster_with(said)
    assert MessageToDict(found.upstream_connection_options.tcp_keepalive) == {
        "keepaliveProbes": 3, "keepaliveTime": 60, "keepaliveInterval": 5,
    }  # fmt: skip
    assert http_options(found) == {
        "commonHttpProtocolOptions": {"idleTimeout": "8s", "maxConnectionDuration": "9s"},
        "explicitHttpConfig": {
            "http2ProtocolOptions": {
                "maxConcurrentStreams": 7,
                "connectionKeepalive": {"interval": "1s", "timeout": "2s"},
            }
        },
    }
    assert MessageToDict(found.circuit_breakers.thresholds[0].retry_budget) == {
        "budgetPercent": {"value": 30.0}, "minRetryConcurrency": 4,
    }  # fmt: skip
    alpn = tls_context(found.transport_socket_matches[0].transport_socket)["commonTlsContext"][
        "alpnProtocols"
    ]
    assert alpn == ["istio-h2", "istio", "h2"]


@pytest.mark.parametrize(
    ("port_name", "http", "mesh", "version"),
    [
        ("http", "{}", False, "explicit1"),
        ("http", "{}", True, "explicit2"),
        ("http", "{h2UpgradePolicy: DO_NOT_UPGRADE}", True, "explicit1"),
        ("http", "{h2UpgradePolicy: UPGRADE, useClientProtocol: true}", False, "downstream"),
        ("grpc", "{}", False, "explicit2"),
        ("any", "{}", True, "downstream"),
        ("any", "{h2UpgradePolicy: UPGRADE}", False, "downstream"),
        ("tcp", "{h2UpgradePolicy: UPGRADE}", False, "explicit2"),
        ("tcp", "{}", True, ""),
    ],
)
def test_versions_of_http(port_name: str, http: str, mesh: bool, version: str) -> None:
    world = World(MeshSettings(h2_upgrade=mesh)).apply(
        BOOKINFO, service("x", 80, port_name=port_name), rule(f"{{connectionPool: {{http: {http}}}}}", "x")
    )
    found = cluster(world, "outbound|80||x.bookinfo.svc.cluster.local")
    if not version:
        assert not found.typed_extension_protocol_options
        return
    options = http_options(found)
    explicit = options.get("explicitHttpConfig", {})
    seen = "downstream" if "useDownstreamProtocolConfig" in options else "explicit1"
    assert ("explicit2" if "http2ProtocolOptions" in explicit else seen) == version


def test_settings_of_the_mesh() -> None:
    settings = MeshSettings(connect_timeout_s=3, keepalive=TcpKeepalive(time="20s"), auto_mtls=False)
    found = cluster(World(settings).apply(BOOKINFO))
    assert found.connect_timeout.seconds == 3
    assert found.upstream_connection_options.tcp_keepalive.keepalive_time.value == 20
    assert not found.transport_socket_matches
