"""Bookinfo with a policy or an entry more -> a cluster, its options, its endpoints."""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http_options_v3
from google.protobuf.json_format import MessageToDict

from isthmus.envoy.pools import HTTP_OPTIONS
from isthmus.envoy.resource import CLUSTER, ENDPOINTS
from makers import BOOKINFO, World

REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"
MYSQL = "outbound|3306||mysqldb.bookinfo.svc.cluster.local"


def rule(policy: str, host: str = "reviews", more: str = "") -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        f"metadata: {{name: {host.replace('*', 'any')}, namespace: bookinfo}}\n"
        f"spec: {{host: '{host}', trafficPolicy: {policy}{more}}}\n"
    )


def entry(name: str, spec: str) -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
        f"metadata: {{name: {name}, namespace: bookinfo}}\nspec: {{{spec}}}\n"
    )


def cluster(world: World, name: str = REVIEWS, proxy: str = "productpage-1") -> Any:
    return cluster_v3.Cluster.FromString(world.manifest(CLUSTER, "bookinfo", proxy)[name].body)


def cluster_with(policy: str, host: str = "reviews", name: str = REVIEWS) -> Any:
    return cluster(World().apply(BOOKINFO, rule(policy, host)), name)


def http_options(cluster: Any) -> dict[str, Any]:
    options = http_options_v3.HttpProtocolOptions()
    assert cluster.typed_extension_protocol_options[HTTP_OPTIONS].Unpack(options)
    return MessageToDict(options)


def tls_context(socket: Any) -> dict[str, Any]:
    context = tls_v3.UpstreamTlsContext()
    assert socket.typed_config.Unpack(context)
    return MessageToDict(context)


def addresses(world: World, name: str = REVIEWS, proxy: str = "productpage-1") -> dict[str, int]:
    found = world.manifest(ENDPOINTS, "bookinfo", proxy)[name]
    message = assignment_v3.ClusterLoadAssignment.FromString(found.body)
    return {
        e.endpoint.address.socket_address.address: place.priority
        for place in message.endpoints
        for e in place.lb_endpoints
    }
