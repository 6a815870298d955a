"""What a client says it is (`node.id`) -> which workload's configuration it asks for."""

import re
from dataclasses import dataclass
from typing import Literal

from isthmus.envoy.resource import ProxyId

_NODE_ID = re.compile(r"(sidecar|router|agent)~([^~]+)~([^~]+)\.([^~.]+)~\4\.svc\.[^~]+")


@dataclass(frozen=True, slots=True)
class Node:
    """One client of the stream door. An `agent` takes the host's configuration, the others Envoy's."""

    id: str
    role: Literal["proxy", "agent"]
    address: str
    proxy: ProxyId


def parse_node(node_id: str) -> Node:
    """The node that Istio's spelling names; ValueError for another spelling."""
    match = _NODE_ID.fullmatch(node_id)
    if match is None:
        raise ValueError(
            f"node id {node_id!r} is not sidecar~<ip>~<workload>.<namespace>~<namespace>.svc.<domain>"
            " (or router~…, agent~…)"
        )
    role, address, workload, namespace = match.groups()
    return Node(node_id, "agent" if role == "agent" else "proxy", address, ProxyId(namespace, workload))
