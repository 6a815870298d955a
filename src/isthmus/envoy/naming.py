"""The names of Envoy resources, exactly as Istio spells them, and back.

clusters   outbound|<port>|<subset>|<host>   inbound|<port>||
listeners  0.0.0.0_<port>   <vip>_<port>     routes  <port>   <host>:<port>
"""

from dataclasses import dataclass

PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
VIRTUAL_OUTBOUND = "virtualOutbound"
VIRTUAL_INBOUND = "virtualInbound"

OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
ADS_CLUSTER = "xds-grpc"
SDS_CLUSTER = "sds-grpc"
CERTIFICATE_SECRET = "default"
ROOTS_SECRET = "ROOTCA"

PROBE_ALPN = "isthmus-probe"
"""What the control plane offers when it proves that a captured port leads to this workload's Envoy."""


@dataclass(frozen=True, slots=True)
class ClusterName:
    """The parts of a cluster's name; `direction` is outbound or inbound."""

    direction: str
    port: int
    subset: str
    host: str


def outbound(host: str, port: int, subset: str = "") -> str:
    """The cluster of a host's port, or of one subset."""
    return f"outbound|{port}|{subset}|{host}"


def inbound(port: int) -> str:
    """The cluster of a workload's own port."""
    return f"inbound|{port}||"


def parse_cluster(name: str) -> ClusterName | None:
    """The parts of an outbound or inbound cluster's name; None for any other."""
    match name.split("|"):
        case ["outbound" | "inbound" as direction, port, subset, host] if port.isdigit():
            return ClusterName(direction, int(port), subset, host)
    return None


def sni(host: str, port: int, subset: str = "") -> str:
    """The server name that callers send for a cluster."""
    return f"outbound_.{port}_.{subset}_.{host}"
