"""The control plane's mTLS door, from the VM's side: channels, and one method a call.

The server must show a certificate of our trust bundle with the name that only a control plane's has; the VM
shows its own. Every call makes its channel anew from the credentials of the moment, since they rotate.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus._pb.istio.v1.auth import ca_pb2 as ca_v1
from isthmus.agent.membership import Credentials

CONTROL_PLANE_NAME = "isthmus.isthmus-system.svc"
_OPTIONS = (
    ("grpc.ssl_target_name_override", CONTROL_PLANE_NAME),
    # a mesh door is never behind the VM's web proxy
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    # a whole configuration may come in one message
    ("grpc.max_receive_message_length", -1),
)


class DoorClosed(Exception):
    """The control plane was not reached, or refused; the text holds where and its own words."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused
        """It was reached and said no: asking again will not help."""


@contextlib.asynccontextmanager
async def channel(address: str, credentials: Credentials) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to one address of the door."""
    tls = grpc.ssl_channel_credentials(credentials.roots, credentials.key, credentials.chain)
    async with grpc.aio.secure_channel(address, tls, options=_OPTIONS) as opened:
        yield opened


async def prove(
    addresses: Sequence[str], credentials: Credentials, ports: Sequence[int], timeout_s: float
) -> agent_v1.ProveResponse:
    """What the control plane sees when it connects back to these ports."""
    request = agent_v1.ProveRequest(ports=ports)
    answer = await _call(
        addresses, credentials, "/isthmus.agent.v1.Agent/Prove", request.SerializeToString(), timeout_s
    )
    return agent_v1.ProveResponse.FromString(answer)


async def report_health(
    addresses: Sequence[str], credentials: Credentials, report: agent_v1.HealthReport, timeout_s: float
) -> None:
    """Tells whether this VM's workload can take traffic."""
    method = "/isthmus.agent.v1.Agent/ReportHealth"
    await _call(addresses, credentials, method, report.SerializeToString(), timeout_s)


async def leave(
    addresses: Sequence[str], credentials: Credentials, unused_token: str, timeout_s: float
) -> agent_v1.LeaveResponse:
    """Takes this VM out of the mesh's registry; gives the token of a failed join back (none: empty)."""
    request = agent_v1.LeaveRequest(unused_token=unused_token).SerializeToString()
    return agent_v1.LeaveResponse.FromString(
        await _call(addresses, credentials, "/isthmus.agent.v1.Agent/Leave", request, timeout_s)
    )


async def certify(
    addresses: Sequence[str], credentials: Credentials, request_pem: str, timeout_s: float
) -> tuple[str, str]:
    """A new certificate for the key of the signing request, as (chain, roots)."""
    request = ca_v1.IstioCertificateRequest(csr=request_pem).SerializeToString()
    method = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
    answer = ca_v1.IstioCertificateResponse.FromString(
        await _call(addresses, credentials, method, request, timeout_s)
    )
    if len(answer.cert_chain) < 2:
        raise DoorClosed(f"the certificate came without its roots ({len(answer.cert_chain)} parts)")
    *chain, roots = answer.cert_chain
    return "".join(chain), roots


def reason(error: grpc.RpcError) -> str:
    """What went wrong with a call, in one line."""
    return f"{error.code().name.lower().replace('_', ' ')}: {error.details()}"


_REFUSALS = frozenset(
    {
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


async def _call(
    addresses: Sequence[str], credentials: Credentials, method: str, request: bytes, timeout_s: float
) -> bytes:
    failures = []
    for address in addresses:
        try:
            async with channel(address, credentials) as opened:
                call = opened.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
                answer: bytes = await call(request, timeout=timeout_s / len(addresses))
                return answer
        except grpc.RpcError as error:
            if error.code() in _REFUSALS:
                raise DoorClosed(f"the control plane refused: {error.details()}", refused=True) from None
            failures.append(f"{address}: {reason(error)}")
    raise DoorClosed("; ".join(failures) or "no address of the control plane is known")
