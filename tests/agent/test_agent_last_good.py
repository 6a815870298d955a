"""A dump of Envoy -> resources -> what an Envoy that has nothing is told; one that has something keeps it."""

import gzip
import io
import json

from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus.agent.paths import Paths
from isthmus.agent.relay import StandIn, through_agent
from isthmus.agent.thaw import thawed

TYPE = "type.googleapis.com/envoy.config"
CLUSTER, ENDPOINTS = f"{TYPE}.cluster.v3.Cluster", f"{TYPE}.endpoint.v3.ClusterLoadAssignment"
LISTENER, EXTENSION = f"{TYPE}.listener.v3.Listener", f"{TYPE}.core.v3.TypedExtensionConfig"
RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
DUMP = {
    "configs": [
        {
            "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "bootstrap": {"node": {"id": "n"}},
        },
        {
            "dynamic_active_clusters": [
                {"version_info": "c1", "cluster": {"@type": CLUSTER, "name": "db", "type": "EDS"}}
            ]
        },
        {
            "dynamic_endpoint_configs": [
                {
                    "endpoint_config": {
                        "@type": ENDPOINTS,
                        "cluster_name": "db",
                        "endpoints": [
                            {"priority": 1, "load_balancing_weight": 0},
                            {"load_balancing_weight": 3},
                        ],
                    }
                }
            ]
        },
        {
            "dynamic_listeners": [
                {
                    "name": "in",
                    "active_state": {"version_info": "l1", "listener": {"@type": LISTENER, "name": "in"}},
                },
                {"name": "bad", "error_state": {"details": "no"}},
            ]
        },
        {
            "ecds_filters": [
                {
                    "version_info": "e1",
                    "ecds_filter": {
                        "@type": EXTENSION,
                        "name": "access",
                        "typed_config": {"@type": RBAC, "rules": {"action": "DENY"}},
                    },
                }
            ]
        },
        {"dynamic_active_secrets": [{"name": "default"}]},
    ]
}


def request(*names: str, **held: str) -> discovery_v3.DeltaDiscoveryRequest:
    return discovery_v3.DeltaDiscoveryRequest(resource_names_subscribe=names, initial_resource_versions=held)


def names(response: discovery_v3.DeltaDiscoveryResponse | None) -> list[str] | None:
    return None if response is None else [each.name for each in response.resources]


def test_what_envoy_accepted_comes_out_with_its_versions() -> None:
    response = thawed(io.BytesIO(gzip.compress(json.dumps(DUMP).encode())))
    found = {(each.name, each.version, each.resource.type_url) for each in response.resources}
    clusters = {("db", "c1", CLUSTER), ("db", "", ENDPOINTS)}
    assert found == clusters | {("in", "l1", LISTENER), ("access", "e1", EXTENSION)}


def test_a_place_without_a_weight_has_none() -> None:
    from envoy.config.endpoint.v3 import endpoint_pb2 as endpoint_v3

    response = thawed(io.BytesIO(gzip.compress(json.dumps(DUMP).encode())))
    assignment = endpoint_v3.ClusterLoadAssignment()
    (found,) = (each.resource for each in response.resources if each.resource.type_url == ENDPOINTS)
    assert found.Unpack(assignment)
    first, second = assignment.endpoints
    assert (first.priority, first.HasField("load_balancing_weight")) == (1, False)
    assert second.load_balancing_weight.value == 3


def test_an_envoy_that_has_nothing_gets_everything() -> None:
    for first in (request(), request("*")):
        stand_in = StandIn(CLUSTER, {"a": ("1", b"a"), "b": ("2", b"b")})
        response = stand_in.respond(first)
        assert names(response) == ["a", "b"]
        assert response is not None
        assert [each.version for each in response.resources] == ["1", "2"]
        assert stand_in.respond(request()) is None


def test_an_envoy_that_has_something_keeps_it_and_nothing_else() -> None:
    stand_in = StandIn(CLUSTER, {"a": ("1", b"a"), "deleted since": ("2", b"b")})
    assert stand_in.respond(request("*", a="newer")) is None


def test_names_are_answered_and_those_that_are_not_kept_too() -> None:
    stand_in = StandIn(ENDPOINTS, {"a": ("", b"a"), "b": ("", b"b")})
    response = stand_in.respond(request("a", "c"))
    assert response is not None
    assert (names(response), list(response.removed_resources)) == (["a"], ["c"])
    assert names(stand_in.respond(request("b"))) == ["b"]


def test_an_envoy_without_ads_by_the_agents_side_is_left_alone() -> None:
    paths = Paths()
    assert through_agent(b"{}", paths) is None
    agent = {"endpoint": {"address": {"pipe": {"path": str(paths.sds_socket)}}}}
    document = {
        "dynamic_resources": {"ads_config": {"grpc_services": [{"envoy_grpc": {"cluster_name": "far"}}]}},
        "static_resources": {
            "clusters": [{"name": "near", "load_assignment": {"endpoints": [{"lb_endpoints": [agent]}]}}]
        },
    }
    made = through_agent(json.dumps(document).encode(), paths)
    assert made is not None
    assert json.loads(made) == json.loads(json.dumps(document).replace("far", "near"))
