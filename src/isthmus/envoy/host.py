"""What a VM must do beside its Envoy -> HostConfig: ports and addresses to capture, names to answer."""

from isthmus._pb.isthmus.agent.v1 import agent_pb2
from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy.message import resource
from isthmus.envoy.resource import HOST, Resource
from isthmus.mesh import names, scope_inbound
from isthmus.mesh.model import Scope

HOST_NAME = "host"


def host_config(q: Reader, workload: Key, scope: Scope) -> Resource:
    """The one resource that an agent subscribes to."""
    ports = q(scope_inbound.captured_ports, workload)
    table = q(names.name_table, scope)
    message = agent_pb2.HostConfig(
        inbound_ports=ports,
        capture_prefixes=q(names.capture_prefixes, scope),
        names=[agent_pb2.Name(host=host, addresses=addresses) for host, addresses in table],
    )
    return resource(HOST, HOST_NAME, message, (workload,))
