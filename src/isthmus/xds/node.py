"""What a client says it is (`node.id`) -> which workload's configuration it asks for."""

import re
from dataclasses import dataclass
from typing import Literal

from isthmus.envoy.resource import ProxyId

GRPC = "grpc"
_NODE_ID = re.compile(r"(sidecar|router|agent)~([^~]+)~([^~]+)\.([^~.]+)~\4\.svc\.[^~]+")


@dataclass(frozen=True, slots=True)
class Node:
    """One client of the stream door: a proxy, the host's agent, or a program with gRPC's own xDS client."""

    id: str
    role: Literal["proxy", "agent", "grpc"]
    address: str
    proxy: ProxyId


def parse_node(node_id: str, generator: str = "") -> Node:
    """The node that Istio's spelling names; ValueError for another spelling.

    A program spells the id as its workload's sidecar does, and differs by the generator that it asks for.
    """
    match = _NODE_ID.fullmatch(node_id)
    if match is None:
        raise ValueError(
            f"node id {node_id!r} is not sidecar~<ip>~<workload>.<namespace>~<namespace>.svc.<domain>"
            " (or router~…, agent~…)"
        )
    role, address, workload, namespace = match.groups()
    if role == "sidecar" and generator == GRPC:
        own_id = node_id.replace(role, GRPC, 1)
        return Node(own_id, "grpc", address, ProxyId(namespace, workload, generator))
    return Node(node_id, "agent" if role == "agent" else "proxy", address, ProxyId(namespace, workload))
