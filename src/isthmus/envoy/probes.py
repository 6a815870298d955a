"""A WorkloadGroup's probe -> the same for an agent, with nothing left to defaults.

https://istio.io/latest/docs/reference/config/networking/workload-group/#ReadinessProbe
"""

from isthmus._pb.isthmus.agent.v1 import agent_pb2
from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.mesh import workloads

_TIMEOUT_S, _PERIOD_S, _SUCCESSES, _FAILURES = 1, 10, 1, 3


def probe(q: Reader, workload: Key) -> agent_pb2.Probe | None:
    """How the health of a workload is found out; None when it always counts as healthy."""
    said = q(workloads.probe, workload)
    if said is None:
        return None
    message = agent_pb2.Probe(
        initial_delay_s=said.initial_delay_seconds,
        timeout_s=said.timeout_seconds or _TIMEOUT_S,
        period_s=said.period_seconds or _PERIOD_S,
        success_threshold=said.success_threshold or _SUCCESSES,
        failure_threshold=said.failure_threshold or _FAILURES,
    )
    if said.http_get is not None:
        message.http_get.host = said.http_get.host
        message.http_get.port = said.http_get.port
        message.http_get.path = said.http_get.path or "/"
        message.http_get.tls = said.http_get.scheme == "HTTPS"
        for header in said.http_get.http_headers:
            message.http_get.headers.add(name=header.name, value=header.value)
    elif said.tcp_socket is not None:
        message.tcp_socket.host = said.tcp_socket.host
        message.tcp_socket.port = said.tcp_socket.port
    elif said.exec is not None:
        message.exec.command.extend(said.exec.command)
    elif said.grpc is not None:
        message.grpc.port = said.grpc.port or 0
        message.grpc.service = said.grpc.service
    return message
