"""What Envoy takes without a word and cannot work is told by us."""

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_v3,
)
from google.protobuf.message import Message
from test_envoy_accepts import RULES, STRICT

from isthmus.envoy import filters, inspectors
from isthmus.envoy.accesslog import LogStyle
from isthmus.envoy.message import packed, resource
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Manifest, ProxyId
from isthmus.envoy.soundness import faults, proxy_faults, unsound
from makers import BOOKINFO, World

STYLE = filters.Manner(LogStyle())


def _manifest(type_url: str, *messages: Message) -> Manifest:
    return {m.name: resource(type_url, m.name, m) for m in messages}  # type: ignore[attr-defined]


def _listener(name: str, *chains: listener_components_v3.FilterChain, port: int = 80) -> listener_v3.Listener:
    return listener_v3.Listener(
        name=name,
        address={"socket_address": {"address": "0.0.0.0", "port_value": port}},
        filter_chains=chains,
    )


def _texts(*listeners: listener_v3.Listener) -> list[tuple[str, bool]]:
    return [(fault.text, fault.fatal) for fault in faults({LISTENER: _manifest(LISTENER, *listeners)})]


def test_whole_worlds_are_sound() -> None:
    world = World().apply(BOOKINFO, RULES, STRICT)
    for name in ("productpage-1", "mysqldb-1"):
        found = world.engine(proxy_faults, ProxyId("bookinfo", name))
        assert [str(fault) for fault in found if fault.fatal] == []
        # a route to a subset of a host that there is not: those calls get 503, and the rule's author is told
        missing = "leads to cluster outbound|9080|none|nowhere.bookinfo, which there is not"
        assert missing in {fault.text for fault in found}
        assert any(key.kind == "VirtualService" for fault in found for key in fault.sources)


def test_clusters_and_routes_that_never_come() -> None:
    chain = listener_components_v3.FilterChain
    to_service = chain(filters=[filters.tcp(STYLE, "x", [("outbound|1||gone", 1), ("outbound|2||gone", 1)])])
    to_ours = chain(filters=[filters.tcp(STYLE, "x", [("PassthroughCluster", 1)])])
    by_routes = chain(filters=[filters.outbound_http(STYLE, "x", "80")])
    assert _texts(_listener("a", to_service)) == [
        ("leads to cluster outbound|1||gone, which there is not", False),
        ("leads to cluster outbound|2||gone, which there is not", False),
    ]
    assert _texts(_listener("a", to_ours)) == [
        ("leads to cluster PassthroughCluster, which there is not", True)
    ]
    assert _texts(_listener("a", by_routes)) == [("waits for routes 80, which never come", True)]
    eds = _manifest(CLUSTER, cluster_v3.Cluster(name="c", type=cluster_v3.Cluster.EDS))
    assert [fault.text for fault in faults({CLUSTER: eds, ENDPOINTS: {}, ROUTES: {}})] == [
        "waits for endpoints c, which never come"
    ]


def test_matches_of_what_nothing_looks_for() -> None:
    chain = listener_components_v3.FilterChain(
        filter_chain_match={"transport_protocol": "tls", "application_protocols": ["istio"]},
        filters=[filters.tcp(STYLE, "x", [("xds-grpc", 1)])],
    )
    blind = _listener("a", chain)
    assert [text for text, _ in _texts(blind)] == [
        "a chain matches TLS, and nothing looks for TLS",
        "a chain matches application protocols, and nothing looks for them",
    ]
    blind.listener_filters.append(inspectors.tls())
    assert _texts(blind) == []


def test_two_that_want_the_same() -> None:
    chain = listener_components_v3.FilterChain(filters=[filters.tcp(STYLE, "x", [("xds-grpc", 1)])])
    assert _texts(_listener("a", chain), _listener("b", chain), _listener("c", chain, port=81)) == [
        ("has address 0.0.0.0 port 80, which listener a has", True)
    ]
    assert _texts(_listener("a", chain, chain)) == [
        ("chain (no name) matches what another one matches", True)
    ]


def test_a_connection_manager_without_router() -> None:
    manager = hcm_v3.HttpConnectionManager(stat_prefix="x", route_config={"name": "x"})
    chain = listener_components_v3.FilterChain(
        filters=[{"name": "envoy.filters.network.http_connection_manager", "typed_config": packed(manager)}]
    )
    assert _texts(_listener("a", chain)) == [("a connection manager does not end with the router", True)]


def test_nothing_of_a_sound_world_is_held_back() -> None:
    world = World().apply(BOOKINFO, RULES, STRICT)
    assert world.engine(unsound, ProxyId("bookinfo", "mysqldb-1")) == {}
    assert world.engine(unsound, ProxyId("bookinfo", "nobody")) == {}
