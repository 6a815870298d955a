"""What a proxy should hold: names, versions, sharing; and how little a change wakes."""

from typing import Any

from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus._pb.isthmus.agent.v1 import agent_pb2
from isthmus.api.meta import Key
from isthmus.envoy.access import SLOTS
from isthmus.envoy.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    HOST,
    LISTENER,
    ROUTES,
    TYPES,
    Manifest,
)
from makers import BOOKINFO, World, service, workload

REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"
SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: bookinfo}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""


def _versions(world: World, workload: str = "productpage-1") -> dict[str, dict[str, str]]:
    return {
        t: {name: r.version for name, r in world.manifest(t, "bookinfo", workload).items()} for t in TYPES
    }


def _assignment(manifest: Manifest, name: str) -> Any:
    return assignment_v3.ClusterLoadAssignment.FromString(manifest[name].body)


def test_names_are_istios() -> None:
    versions = _versions(World().apply(BOOKINFO, SUBSETS))
    assert set(versions[LISTENER]) == {
        "virtualOutbound",
        "virtualInbound",
        "0.0.0.0_80",
        "0.0.0.0_9080",
        "240.240.0.5_3306",
    }
    assert set(versions[ROUTES]) == {"80", "9080"}
    assert {"PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster", "inbound|9080||"} <= set(
        versions[CLUSTER]
    )
    assert set(versions[ENDPOINTS]) == {name for name in versions[CLUSTER] if name.startswith("outbound|")}
    assert "outbound|9080|v2|reviews.bookinfo.svc.cluster.local" in versions[ENDPOINTS]
    assert set(versions[HOST]) == {"host"}


def test_an_unknown_proxy_gets_nothing() -> None:
    world = World().apply(BOOKINFO)
    assert all(world.manifest(t, "bookinfo", "nobody") == {} for t in TYPES)
    assert world.manifest("type.googleapis.com/other", "bookinfo", "mysqldb-1") == {}
    world.delete("WorkloadEntry", "bookinfo", "mysqldb-1")
    assert all(world.manifest(t, "bookinfo", "mysqldb-1") == {} for t in TYPES)


def test_health_touches_endpoints_only_and_runs_few_queries() -> None:
    world = World().apply(BOOKINFO)
    before = _versions(world)
    runs = world.engine.runs
    world.unhealthy("bookinfo", "reviews-2")
    after = _versions(world)
    assert world.engine.runs - runs <= 6
    assert {t for t in TYPES if after[t] != before[t]} == {ENDPOINTS}
    assert {n for n in after[ENDPOINTS] if after[ENDPOINTS][n] != before[ENDPOINTS][n]} == {REVIEWS}
    (place,) = _assignment(world.manifest(ENDPOINTS, "bookinfo", "mysqldb-1"), REVIEWS).endpoints
    health = {e.endpoint.address.socket_address.address: e.health_status for e in place.lb_endpoints}
    assert health == {"10.0.0.31": 1, "10.0.0.32": 2, "fd00::33": 1}


def test_a_label_that_selects_nothing_changes_nothing() -> None:
    world = World().apply(BOOKINFO)
    before, runs = _versions(world), world.engine.runs
    world.apply(workload("reviews-2", "10.0.0.32", version="v2-canary"))
    assert _versions(world) == before
    assert world.engine.runs - runs <= 15


def test_a_status_that_says_nothing_new_runs_almost_nothing() -> None:
    world = World().apply(BOOKINFO)
    before, runs = _versions(world), world.engine.runs
    conditions = [{"type": "Programmed", "status": "True"}]
    world.set_status("WorkloadEntry", "bookinfo", "reviews-2", {"conditions": conditions})
    assert _versions(world) == before
    assert world.engine.runs - runs <= 1


def test_a_moved_endpoint_touches_endpoints_only() -> None:
    world = World().apply(BOOKINFO)
    before = _versions(world)
    world.apply(workload("reviews-2", "10.0.0.99", version="v2"))
    after = _versions(world)
    assert {t for t in TYPES if after[t] != before[t]} == {ENDPOINTS}


def test_a_changed_cluster_sends_its_endpoints_again() -> None:
    world = World().apply(BOOKINFO)
    before = _versions(world)
    world.apply(SUBSETS + "  trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}\n")
    after = _versions(world)
    assert after[CLUSTER][REVIEWS] != before[CLUSTER][REVIEWS]
    assert after[ENDPOINTS][REVIEWS] != before[ENDPOINTS][REVIEWS]
    other = REVIEWS.replace("reviews", "ratings")
    assert after[ENDPOINTS][other] == before[ENDPOINTS][other]


def test_a_new_identity_changes_the_cluster() -> None:
    world = World().apply(BOOKINFO)
    before = _versions(world)
    world.apply(workload("reviews-2", "10.0.0.32", version="v2", account="other"))
    after = _versions(world)
    assert after[CLUSTER][REVIEWS] != before[CLUSTER][REVIEWS]
    assert b"sa/other" in world.manifest(CLUSTER, "bookinfo", "mysqldb-1")[REVIEWS].body


def test_proxies_of_a_namespace_share_what_goes_out() -> None:
    world = World().apply(BOOKINFO)
    for type_url in (ENDPOINTS, ROUTES):
        one, other = (world.manifest(type_url, "bookinfo", name) for name in ("mysqldb-1", "ratings-1"))
        assert one is other
    _versions(world, "ratings-1")
    runs = world.engine.runs
    for name in ("reviews-1", "details-1"):
        _versions(world, name)
    assert world.engine.runs - runs < 100


def test_sources_name_the_objects_that_a_resource_was_made_from() -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bookinfo}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}
"""
    world = World().apply(BOOKINFO, SUBSETS, rule)

    def sources(type_url: str, name: str) -> set[str]:
        return {str(key) for key in world.manifest(type_url, "bookinfo", "reviews-1")[name].sources}

    assert "VirtualService/bookinfo/reviews" in sources(ROUTES, "9080")
    assert sources(CLUSTER, REVIEWS) == {"Service/bookinfo/reviews", "DestinationRule/bookinfo/reviews"}
    assert {"Service/bookinfo/reviews", "WorkloadEntry/bookinfo/reviews-2"} <= sources(ENDPOINTS, REVIEWS)
    assert {"WorkloadEntry/bookinfo/reviews-1", "Service/bookinfo/reviews"} == sources(
        LISTENER, "virtualInbound"
    )


def test_the_host_config() -> None:
    world = World().apply(BOOKINFO)
    resource = world.manifest(HOST, "bookinfo", "mysqldb-2")["host"]
    config = agent_pb2.HostConfig.FromString(resource.body)
    assert list(config.inbound_ports) == [3306]
    assert list(config.capture_prefixes) == ["240.240.0.0/16", "2001:2::/48"]
    names = {name.host: list(name.addresses) for name in config.names}
    assert names["productpage.bookinfo"] == ["240.240.0.1"]
    assert [name.host for name in config.names] == sorted(names)


PROBED = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: sql, namespace: bookinfo}
spec: {template: {}, probe: PROBE}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: sql-1, namespace: bookinfo, annotations: {istio.io/autoRegistrationGroup: sql}}
spec: {address: 10.0.0.77}
"""


def _probe(said: str) -> agent_pb2.Probe:
    world = World().apply(BOOKINFO, PROBED.replace("PROBE", said))
    config = agent_pb2.HostConfig.FromString(world.manifest(HOST, "bookinfo", "sql-1")["host"].body)
    assert config.HasField("probe")
    return config.probe


def test_a_probe_reaches_the_agent_with_nothing_left_to_defaults() -> None:
    made = _probe("{httpGet: {port: 80}}")
    times = (made.initial_delay_s, made.timeout_s, made.period_s, made.success_threshold)
    assert (*times, made.failure_threshold) == (0, 1, 10, 1, 3)
    assert (made.http_get.path, made.http_get.tls, made.http_get.host) == ("/", False, "")
    full = _probe(
        "{initialDelaySeconds: 1, timeoutSeconds: 2, periodSeconds: 3, successThreshold: 4,"
        " failureThreshold: 5, httpGet:"
        " {host: h, port: 81, path: /x, scheme: HTTPS, httpHeaders: [{name: a, value: b}]}}"
    )
    times = (full.initial_delay_s, full.timeout_s, full.period_s, full.success_threshold)
    assert (*times, full.failure_threshold) == (1, 2, 3, 4, 5)
    get = full.http_get
    assert (get.host, get.port, get.path, get.tls) == ("h", 81, "/x", True)
    assert [(header.name, header.value) for header in get.headers] == [("a", "b")]
    assert _probe("{tcpSocket: {host: h, port: 82}}").tcp_socket.port == 82
    assert list(_probe("{exec: {command: [a, b]}}").exec.command) == ["a", "b"]
    assert _probe("{grpc: {port: 83, service: s}}").grpc.service == "s"


def test_a_gateways_agent_is_told_of_its_probe_too() -> None:
    gateway = PROBED.replace("PROBE", "{tcpSocket: {port: 80}}").replace(
        "autoRegistrationGroup: sql", "autoRegistrationGroup: sql, isthmus.dev/proxy: gateway"
    )
    world = World().apply(BOOKINFO, gateway)
    config = agent_pb2.HostConfig.FromString(world.manifest(HOST, "bookinfo", "sql-1")["host"].body)
    assert not config.capture_prefixes
    assert config.probe.tcp_socket.port == 80


def test_without_a_probe_the_agent_is_told_of_none() -> None:
    world = World().apply(BOOKINFO)
    config = agent_pb2.HostConfig.FromString(world.manifest(HOST, "bookinfo", "mysqldb-2")["host"].body)
    assert not config.HasField("probe")


def test_one_name_in_two_spellings_is_not_given_twice() -> None:
    short = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: short, namespace: bookinfo}
spec:
  hosts: [reviews, reviews.bookinfo]
  addresses: [240.240.0.3]
  ports: [{number: 9080, name: http}, {number: 3306, name: mysql}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
"""
    twice = service("mysql2", 3306, vip="240.240.0.5", port_name="mysql")
    world = World().apply(BOOKINFO, short, twice)
    manifest = world.manifest(LISTENER, "bookinfo", "reviews-1")
    assert manifest["240.240.0.5_3306"].sources[0] == Key("Service", "bookinfo", "mysql2")
    assert "2001:2::5_3306" in manifest


_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["reviews-1", "reviews-2", "ratings-1", "new-1"]),
        st.sampled_from(["add", "delete", "sick", "well", "rule", "unrule", "service"]),
        st.sampled_from(["v1", "v2"]),
    ),
    max_size=12,
)


@given(_CHANGES)
@settings(max_examples=25, deadline=None)
def test_every_history_ends_where_a_fresh_start_ends(changes: list[tuple[str, str, str]]) -> None:
    world = World().apply(BOOKINFO)
    sick: set[str] = set()
    for name, change, version in changes:
        present = Key("WorkloadEntry", "bookinfo", name) in world.objects
        if change == "add":
            world.apply(workload(name, "10.0.1.1", app="reviews", version=version))
        elif change == "delete" and present:
            world.delete("WorkloadEntry", "bookinfo", name)
            sick.discard(name)
        elif change == "sick" and present:
            world.unhealthy("bookinfo", name)
            sick.add(name)
        elif change == "well" and present:
            world.set_status("WorkloadEntry", "bookinfo", name, {})
            sick.discard(name)
        elif change == "rule":
            world.apply(SUBSETS.replace("name: v1,", f"name: x{version},"))
        elif change == "unrule" and Key("DestinationRule", "bookinfo", "reviews") in world.objects:
            world.delete("DestinationRule", "bookinfo", "reviews")
        elif change == "service":
            world.apply(service(f"new-{version}", vip="240.240.0.3"))
        _versions(world)
    fresh = World()
    fresh.objects = world.objects
    fresh.apply("")
    for name in sick:
        fresh.unhealthy("bookinfo", name)
    assert _versions(world) == _versions(fresh)


def test_filters_are_sent_where_a_listener_asks_for_them() -> None:
    """What is wanted and never asked for would keep every answer waiting."""
    gateway = workload("ingress-1", "10.0.0.9", namespace="edge").replace(
        "namespace: edge}", "namespace: edge, annotations: {isthmus.dev/proxy: gateway}}"
    )
    world = World().apply(BOOKINFO, gateway)
    assert set(world.manifest(EXTENSION, "bookinfo", "productpage-1")) == set(SLOTS)
    assert world.manifest(EXTENSION, "edge", "ingress-1") == {}
