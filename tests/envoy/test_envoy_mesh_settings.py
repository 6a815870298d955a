"""What the whole mesh says -> clusters and listeners of every proxy, as far as nobody says otherwise."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from google.protobuf.json_format import MessageToDict
from policy_world import addresses, rule

from isthmus.api.networking.destination_rule import TcpKeepalive
from isthmus.api.networking.load_balancing import LocalityLoadBalancerSetting
from isthmus.envoy.resource import CLUSTER, LISTENER
from isthmus.mesh.model import MeshSettings
from makers import BOOKINFO, World, service, workload

REVIEWS_1 = "reviews-1"


def _cluster(world: World, name: str) -> Any:
    return cluster_v3.Cluster.FromString(world.manifest(CLUSTER, "bookinfo", REVIEWS_1)[name].body)


def _listener(world: World, name: str, proxy: str = REVIEWS_1) -> dict[str, Any]:
    body = world.manifest(LISTENER, "bookinfo", proxy)[name].body
    return MessageToDict(listener_v3.Listener.FromString(body))


def test_labels_of_callers_decide_where_the_mesh_asks_for_them() -> None:
    mesh = MeshSettings(locality=LocalityLoadBalancerSetting(failover_priority=("version",)))
    world = World(mesh).apply(
        BOOKINFO.replace(workload("reviews-1", "10.0.0.31"), ""),
        workload("reviews-1", "10.0.0.31", app="reviews", version="v1"),
        workload("reviews-2", "10.0.0.32", app="reviews", version="v2"),
        workload("caller-1", "10.0.1.1", app="caller", version="v2"),
        rule("{outlierDetection: {}}"),
    )
    found = addresses(world, proxy="caller-1")
    assert (found["10.0.0.32"], found["10.0.0.31"]) == (0, 1)


@pytest.mark.parametrize("name", ["PassthroughCluster", "InboundPassthroughCluster", "inbound|9080||"])
def test_connections_of_every_kind(name: str) -> None:
    said = _cluster(World().apply(BOOKINFO), name)
    assert said.connect_timeout.seconds == 10
    # what nobody asked for is not done to connections that are somebody else's, or local
    assert not said.HasField("upstream_connection_options")
    mesh = MeshSettings(connect_timeout_s=3, keepalive=TcpKeepalive(probes=4, time="50s"))
    said = _cluster(World(mesh).apply(BOOKINFO), name)
    assert said.connect_timeout.seconds == 3
    assert MessageToDict(said.upstream_connection_options) == {
        "tcpKeepalive": {"keepaliveProbes": 4, "keepaliveTime": 50}
    }


@pytest.mark.parametrize(("said", "oldest"), [("TLS_AUTO", "TLSv1_2"), ("TLSV1_3", "TLSv1_3")])
def test_the_oldest_tls_between_proxies(said: str, oldest: str) -> None:
    inbound = _listener(World(MeshSettings(min_tls=said)).apply(BOOKINFO), "virtualInbound")
    contexts = [
        chain["transportSocket"]["typedConfig"]["commonTlsContext"]["tlsParams"]["tlsMinimumProtocolVersion"]
        for chain in inbound["filterChains"]
        if "transportSocket" in chain and "isthmus" not in str(chain["filterChainMatch"])
    ]
    assert contexts
    assert set(contexts) == {oldest}


@pytest.mark.parametrize(
    ("ports", "wanted"),
    [(["http"], False), (["grpc-web"], True), (["http", "grpc-web"], True), (["grpc"], False)],
)
def test_grpc_as_browsers_speak_it(ports: list[str], wanted: bool) -> None:
    """Services share a listener: the filter does nothing to requests that are not gRPC-Web."""
    services = [service(f"x{i}", 8088, port_name=name) for i, name in enumerate(ports)]
    taken = _listener(World().apply(BOOKINFO, *services), "0.0.0.0_8088", "productpage-1")
    names = [
        found["name"]
        for chain in taken["filterChains"]
        for each in chain["filters"]
        for found in each["typedConfig"].get("httpFilters", ())
    ]
    assert ("envoy.filters.http.grpc_web" in names) is wanted
    assert names[-1] == "envoy.filters.http.router"
