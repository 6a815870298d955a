"""A gateway and a type -> the resources it should hold; gateways that obey the same Gateways share all.

clusters, endpoints   of everything that it sees; and their twins for TLS that passes through
listeners, routes     of the Gateways that it obeys             secrets   that these name
"""

from collections.abc import Mapping

from isthmus._pb.isthmus.agent.v1 import agent_pb2
from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import access, gateway_dnat, outbound
from isthmus.envoy.gateway_listeners import edge_listeners
from isthmus.envoy.gateway_secrets import secrets
from isthmus.envoy.host import HOST_NAME
from isthmus.envoy.message import resource
from isthmus.envoy.naming import BLACK_HOLE
from isthmus.envoy.probes import probe
from isthmus.envoy.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    HOST,
    LISTENER,
    ROUTES,
    SECRET,
    Manifest,
    Resource,
)
from isthmus.envoy.routes_gateway import GatewayServer, gateway_routes
from isthmus.mesh.gateways import Edge
from isthmus.mesh.gateways_listeners import WILDCARDS, listeners
from isthmus.mesh.gateways_plan import Server, plan


def edge_manifest(q: Reader, type_url: str, edge: Edge) -> Manifest:
    """The resources of one type that the gateways of an edge should hold, by name."""
    if type_url == CLUSTER:
        return {**q(clusters, edge), **q(gateway_dnat.dnat_clusters, edge)}
    if type_url == ENDPOINTS:
        return {**q(outbound.outbound_endpoints, edge.scope), **q(gateway_dnat.dnat_endpoints, edge)}
    if type_url == LISTENER:
        return q(edge_listeners, edge)
    if type_url == ROUTES:
        return q(routes, edge)
    if type_url == EXTENSION:
        return access.extensions(q, edge.policies, q(edge_listeners, edge).values())
    if type_url == SECRET:
        return {**q(outbound.credentials, edge.scope), **q(secrets, edge)}
    return {}


def host(q: Reader, edge: Edge, workload: Key) -> Resource:
    """What the agent of a gateway is told: the ports that its Envoy listens on, and nothing to capture."""
    bound = q(listeners, edge).listeners
    ports = sorted({each.port for each in bound if each.binds[0] in WILDCARDS})
    message = agent_pb2.HostConfig(inbound_ports=ports, probe=probe(q, workload))
    return resource(HOST, HOST_NAME, message, (workload, *(bound.gateway for bound in edge.gateways)))


def clusters(q: Reader, edge: Edge) -> Mapping[str, Resource]:
    """The clusters of everything that an edge sees; nothing is passed to where a caller was going."""
    found = q(outbound.outbound_clusters, edge.scope)
    return {name: made for name, made in found.items() if "|" in name or name == BLACK_HOLE}


def routes(q: Reader, edge: Edge) -> Mapping[str, Resource]:
    """The route configurations of an edge."""
    found = (q(_routes, edge, name) for name, _ in q(plan, edge.gateways).routes)
    return {made.name: made for made in found}


def _routes(q: Reader, edge: Edge, name: str) -> Resource:
    servers = next(found for known, found in q(plan, edge.gateways).routes if known == name)
    asked = tuple(_asked(server) for server in servers)
    return q(gateway_routes, name, asked, edge.namespace, edge.scope.labels)


def _asked(server: Server) -> GatewayServer:
    return GatewayServer(
        gateway=server.gateway_name,
        hosts=server.hosts,
        port=server.number,
        tls=server.tls is not None,
        https_redirect=server.tls is not None and server.tls.https_redirect,
    )
