"""What the canary is shown: the fleet's bytes, under names of its own, and what they need around them.

    renamed(resource)   the same bytes, then the field `name` again: of one given twice the last counts
    stand_in            an empty cluster, endpoint list, route table or filter, so that nothing waits for ever
    start_file          the workloads' own bootstrap, with both of its servers behind one socket

Equally named resources of different scopes differ, so the canary knows none by its fleet name. Routes and
filters arrive only where a listener asks for them: it has a listener of its own that asks for `PLACES`.
"""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.core.v3 import extension_pb2 as extension_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpoint_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as rbac_v3
from envoy.extensions.filters.http.router.v3 import router_pb2 as router_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_v3,
)
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_secret_v3
from google.protobuf.json_format import MessageToDict

from isthmus.envoy import access, naming
from isthmus.envoy.bootstrap import bootstrap
from isthmus.envoy.message import from_ads, packed
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Resource, content_version
from isthmus.identity.spiffe import SpiffeId

PLACES = {
    ROUTES: tuple(f"canary-routes-{number}" for number in range(16)),
    EXTENSION: tuple(f"canary-access-{number}" for number in range(8)),
}
"""The names by which the canary takes route tables and filters, each again and again."""

_NAME = b"\x0a"
"""Field 1 of Cluster, Listener, RouteConfiguration and TypedExtensionConfig."""
_UNBOUND = b"\xd2\x01\x02\x08\x00"
"""`bind_to_port: false` of a Listener. Whether an address can be bound is a fact about the VM."""
_ROOTS_SUFFIXES = (naming.ROOTS_SECRET, "-cacert")


def renamed(resource: Resource, name: str) -> Resource:
    """The resource under another name; a listener also binds nothing."""
    assert len(name) < 128
    tail = _NAME + bytes([len(name)]) + name.encode()
    if resource.type_url == LISTENER:
        tail += _UNBOUND
    return Resource(resource.type_url, name, resource.version, resource.body + tail, resource.sources)


def stand_in(type_url: str, name: str) -> Resource | None:
    """Something of that name which changes nothing; None where there is no need of one."""
    if type_url == CLUSTER:
        message: Any = cluster_v3.Cluster(name=name, type=cluster_v3.Cluster.STATIC)
        message.connect_timeout.seconds = 1
    elif type_url == ENDPOINTS:
        message = endpoint_v3.ClusterLoadAssignment(cluster_name=name)
    elif type_url == ROUTES:
        message = route_v3.RouteConfiguration(name=name)
    elif type_url == EXTENSION:
        message = extension_v3.TypedExtensionConfig(name=name, typed_config=packed(rbac_v3.RBAC()))
    else:
        return None
    body = message.SerializeToString(deterministic=True)
    return Resource(type_url, name, content_version(body), body)


def secret(type_url: str, name: str, certificate: bytes, key: bytes) -> Resource:
    """A secret of that name; `certificate` is also whom to believe."""
    message = tls_secret_v3.Secret(name=name)
    if name.endswith(_ROOTS_SUFFIXES) or name.startswith("file-root:"):
        message.validation_context.trusted_ca.inline_bytes = certificate
    else:
        message.tls_certificate.certificate_chain.inline_bytes = certificate
        message.tls_certificate.private_key.inline_bytes = key
    body = message.SerializeToString(deterministic=True)
    return Resource(type_url, name, content_version(body), body)


def start_file(socket: str) -> dict[str, Any]:
    """The canary's bootstrap as JSON; everything it asks for comes from the socket."""
    made = bootstrap(
        node_id="canary",
        cluster="canary",
        metadata={},
        ads_addresses=[("127.0.0.1", 1)],
        control_plane_id=SpiffeId("canary", "canary", "canary"),
    )
    del made["admin"]
    members = [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}]
    clusters = made["static_resources"]["clusters"]
    tls_socket = clusters[0].pop("transport_socket")
    for cluster in clusters:
        cluster["load_assignment"]["endpoints"] = members
    # while it is there the secrets are, and a cluster that needs them is warm at once
    holder = {"name": "canary-secrets", "type": "STATIC", "connect_timeout": "1s"}
    clusters.append({**holder, "transport_socket": tls_socket})
    made["static_resources"]["listeners"] = [_asking_listener()]
    return made


def _asking_listener() -> dict[str, Any]:
    chains = []
    for number, name in enumerate(PLACES[ROUTES], start=1):
        manager = hcm_v3.HttpConnectionManager(stat_prefix="canary")
        manager.rds.route_config_name = name
        manager.rds.config_source.CopyFrom(from_ads())
        if number == 1:
            manager.http_filters.extend(access.discovered(place) for place in PLACES[EXTENSION])
        router = manager.http_filters.add(name="envoy.filters.http.router")
        router.typed_config.CopyFrom(packed(router_v3.Router()))
        each = {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": MessageToDict(packed(manager), preserving_proto_field_name=True),
        }
        chains.append({"filter_chain_match": {"destination_port": number}, "filters": [each]})
    address = {"socket_address": {"address": "127.73.64.1", "port_value": 1}}
    return {"name": "canary", "address": address, "bind_to_port": False, "filter_chains": chains}
