"""What a VM must do beside its Envoy -> HostConfig: connections to capture, names to answer."""

from isthmus._pb.isthmus.agent.v1 import agent_pb2
from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy.message import resource
from isthmus.envoy.probes import probe
from isthmus.envoy.resource import HOST, Resource
from isthmus.mesh import capture, names
from isthmus.mesh.model import Scope

HOST_NAME = "host"


def host_config(q: Reader, workload: Key, scope: Scope) -> Resource:
    """The one resource that an agent subscribes to."""
    inward = q(capture.inbound_capture, workload)
    outward = q(capture.outbound_capture, workload, scope)
    table = q(names.name_table, scope)
    message = agent_pb2.HostConfig(
        inbound_ports=inward.ports,
        every_inbound_port=inward.every,
        inbound_exempt_ports=inward.exempt,
        capture_prefixes=outward.prefixes,
        wide_prefixes=outward.wide,
        outbound_ports=outward.ports,
        exempt_prefixes=outward.exempt,
        exempt_ports=outward.exempt_ports,
        probe=probe(q, workload),
        names=[agent_pb2.Name(host=host, addresses=addresses) for host, addresses in table],
    )
    return resource(HOST, HOST_NAME, message, (workload,))
