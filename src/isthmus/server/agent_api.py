"""What an enrolled VM may do at the mTLS door: renew, be proven from outside, tell its health, be let go,
and give its join token back when the join failed.

    istio.v1.auth.IstioCertificateService/CreateCertificate
    isthmus.agent.v1.Agent/Prove, /ReportHealth, /Leave

Who calls is what the client certificate says and nothing else; the caller's WorkloadEntry must still stand,
have the same service account, and have been enrolled before the certificate was signed. No request names a
workload, so none can ask for another's.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import grpc
from cryptography import x509
from google.protobuf.message import Message

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus._pb.istio.v1.auth import ca_pb2 as ca_v1
from isthmus.api.meta import Key, Object
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import GROUP_ANNOTATION
from isthmus.clock import rfc3339
from isthmus.identity.ca import Authority
from isthmus.identity.csr import RequestRefused, requested_key
from isthmus.identity.enrol import certificate_ttl, identity
from isthmus.identity.peer import Peer, certificate_identity, peer_identity
from isthmus.identity.serving import ServingIdentity
from isthmus.identity.times import enrolled_at, predates
from isthmus.identity.tokenuse import NotGivenBack, given_back
from isthmus.server.enrolment import RateLimit
from isthmus.server.health import reported
from isthmus.store.base import Conflict, Mutate, Store, StoreUnavailable, Write

_log = logging.getLogger(__name__)

PROBE_ALPN = "isthmus-probe"
PROBE_SNI = "probe.isthmus-system.svc"
PROBE_TIMEOUT_S = 1.5
MAX_PORTS = 64
_MAX_ANSWER = 8 * 1024

Context = Any
"""grpc.aio.ServicerContext, which ships no types."""
InboundPorts = Callable[[str, str], Mapping[int, bool]]
"""(namespace, workload) -> the ports at which the workload's proxy takes connections, each with whether the
proxy answers a proof there."""


class AgentApi:
    """The calls, each with the caller's identity already settled."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        serving: ServingIdentity,
        inbound_ports: InboundPorts,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._authority = authority
        self._now = now
        self._inbound_ports = inbound_ports
        self._calls = RateLimit(burst=120, per_second=5)
        self._probe_context = serving.client_context(alpn=[PROBE_ALPN])

    async def create_certificate(
        self, request: ca_v1.IstioCertificateRequest, context: Context
    ) -> ca_v1.IstioCertificateResponse:
        """A new certificate for the caller's own identity, for the key of the signing request."""
        _, entry = await self._caller(context)
        try:
            key = requested_key(request.csr)
        except RequestRefused as error:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if predates(self._now().astimezone(UTC), _enrolled(entry)):
            text = "the control plane's clock was set back to before this VM's enrolment: try again later"
            await _abort(context, grpc.StatusCode.UNAVAILABLE, text)
        ttl = certificate_ttl(await self._group(entry))
        if 0 < request.validity_duration < ttl.total_seconds():
            ttl = timedelta(seconds=request.validity_duration)
        spiffe = identity(entry, self._authority.trust_domain)
        issued = self._authority.sign(key, spiffe, common_name=entry.key.name, ttl=ttl)
        _log.info(
            "certificate renewed entry=%s serial=%x until=%s", entry.key, issued.serial, issued.not_after
        )
        return ca_v1.IstioCertificateResponse(cert_chain=[*_blocks(issued.chain), self._authority.roots])

    async def prove(self, request: agent_v1.ProveRequest, context: Context) -> agent_v1.ProveResponse:
        """Dials the caller's declared ports and tells whether its own Envoy answered there."""
        peer, entry = await self._caller(context)
        ports = sorted(set(request.ports))
        if len(ports) > MAX_PORTS:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"more than {MAX_PORTS} ports")
        declared = self._inbound_ports(entry.key.namespace, entry.key.name)
        spec = entry.spec
        assert isinstance(spec, WorkloadEntrySpec)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._proof(spec.address, port, peer, declared.get(port))) for port in ports
            ]
        return agent_v1.ProveResponse(ports=[task.result() for task in tasks])

    async def report_health(self, request: agent_v1.HealthReport, context: Context) -> agent_v1.HealthNoted:
        """Notes on the caller's WorkloadEntry whether it can take traffic."""
        _, entry = await self._caller(context)

        def note(now: Object | None) -> Object | None:
            if now is None or now.meta.uid != entry.meta.uid:
                return now  # it left, or was made anew: what was found out is not about that one
            return reported(now, healthy=request.healthy, message=request.message, now=rfc3339())

        try:
            await self._store.apply([Mutate(entry.key, note)])
        except StoreUnavailable:
            _log.exception("health not noted entry=%s", entry.key)
            await _abort(context, grpc.StatusCode.UNAVAILABLE, "nothing can be stored now")
        told = "healthy" if request.healthy else "unhealthy"
        _log.info("workload %s entry=%s %.200r", told, entry.key, request.message)
        return agent_v1.HealthNoted()

    async def leave(self, request: agent_v1.LeaveRequest, context: Context) -> agent_v1.LeaveResponse:
        """Deletes the caller's WorkloadEntry; fine when it is gone already. In the same write the token of a
        failed join becomes unused again, if it is bound to the key that the caller has just shown.
        """
        peer = await self._peer(context)
        entry = await self._store.get(_entry_key(peer))
        out: list[Write] = []
        if entry is not None:
            await self._check_standing(peer, entry, context)
            out.append(Mutate(entry.key, _gone(entry)))
        answer = agent_v1.LeaveResponse()
        if request.unused_token:
            token = Key("JoinToken", peer.spiffe.namespace, request.unused_token)
            try:
                await self._leave(
                    [Mutate(token, given_back(peer.pin, peer.workload, self._now)), *out], peer, context
                )
                _log.info("join token given back token=%s workload=%s", token, peer.workload)
                return agent_v1.LeaveResponse(token_given_back=True)
            except NotGivenBack as error:
                _log.warning(
                    "join token not given back token=%s workload=%s: %s", token, peer.workload, error
                )
                answer.detail = str(error)
        await self._leave(out, peer, context)
        return answer

    async def _leave(self, writes: Sequence[Write], peer: Peer, context: Context) -> None:
        where = _entry_key(peer)
        try:
            await self._store.apply(writes)
        except Conflict:
            await _abort(context, grpc.StatusCode.ABORTED, f"{where} was made anew meanwhile")
        except StoreUnavailable:
            _log.exception("leave failed entry=%s", where)
            await _abort(context, grpc.StatusCode.UNAVAILABLE, "nothing can be stored now")
        _log.info("workload left entry=%s", where)

    async def _peer(self, context: Context) -> Peer:
        try:
            peer = peer_identity(context.auth_context(), self._authority.trust_domain)
        except ValueError as error:
            _log.warning("call refused peer=%s: %s", context.peer(), error)
            await _abort(context, grpc.StatusCode.UNAUTHENTICATED, "no client certificate of this mesh")
        wait = self._calls.wait_s(f"{peer.spiffe.namespace}/{peer.workload}", time.monotonic())
        if wait:
            text = f"too many calls, try again in {wait:.1f} s"
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        return peer

    async def _caller(self, context: Context) -> tuple[Peer, Object]:
        """Who calls, and its WorkloadEntry, which must stand and be of the certificate's enrolment."""
        peer = await self._peer(context)
        entry = await self._store.get(_entry_key(peer))
        if entry is None:
            text = f"workload {peer.spiffe.namespace}/{peer.workload} is not registered (left?): join again"
            await _abort(context, grpc.StatusCode.PERMISSION_DENIED, text)
        await self._check_standing(peer, entry, context)
        return peer, entry

    async def _check_standing(self, peer: Peer, entry: Object, context: Context) -> None:
        expected = identity(entry, self._authority.trust_domain)
        if peer.spiffe != expected:
            text = (
                f"{entry.key} has the service account {expected.service_account!r} now, "
                f"the certificate says {peer.spiffe.service_account!r}: join again"
            )
            await _abort(context, grpc.StatusCode.PERMISSION_DENIED, text)
        if predates(peer.signed_at, _enrolled(entry)):
            text = f"{entry.key} was enrolled at {_enrolled(entry)}, after this certificate: join again"
            await _abort(context, grpc.StatusCode.PERMISSION_DENIED, text)

    async def _group(self, entry: Object) -> Object | None:
        name = entry.meta.annotations.get(GROUP_ANNOTATION)
        return await self._store.get(Key("WorkloadGroup", entry.key.namespace, name)) if name else None

    async def _proof(self, address: str, port: int, peer: Peer, provable: bool | None) -> agent_v1.PortProof:
        if provable is None:
            detail = "the port is not declared as one that this workload serves the mesh on"
            return agent_v1.PortProof(port=port, detail=detail)
        if not provable:
            return agent_v1.PortProof(port=port, detail="plaintext only, not proven", plaintext=True)
        ok, detail = await probe(address, port, peer, self._probe_context)
        return agent_v1.PortProof(port=port, ok=ok, detail=detail)


async def probe(address: str, port: int, peer: Peer, context: ssl.SSLContext) -> tuple[bool, str]:
    """Whether the peer's own Envoy answers at the port, and in words what was seen."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await _probe(address, port, peer, context)
    except TimeoutError:
        return False, f"no answer in {PROBE_TIMEOUT_S} s: does a firewall drop connections to the port?"
    except ssl.SSLCertVerificationError:
        return False, "what answered has no certificate of this mesh"
    except ssl.SSLError as error:
        return False, f"what answered speaks no TLS, so not Envoy ({error.reason}): is capture in place?"
    except ConnectionRefusedError:
        return False, "connection refused: neither capture nor a program takes connections to the port"
    except ConnectionError as error:
        return False, f"the connection broke ({error}): does Envoy have its listeners yet?"
    except OSError as error:
        return False, f"not reached: {error.strerror or error}"


async def _probe(address: str, port: int, peer: Peer, context: ssl.SSLContext) -> tuple[bool, str]:
    reader, writer = await asyncio.open_connection(
        address, port, ssl=context, server_hostname=PROBE_SNI, limit=_MAX_ANSWER
    )
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        try:
            shown = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
            other = certificate_identity(shown, peer.spiffe.trust_domain)
        except ValueError as error:
            return False, f"what answered is no workload: {error}"
        if other != peer:
            # the caller may not learn who else is there
            return False, "another workload answered at the address"
        writer.write(f"GET / HTTP/1.1\r\nhost: {PROBE_SNI}\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read(_MAX_ANSWER)
        while b"\r\n\r\n" not in answer and len(answer) < _MAX_ANSWER and not reader.at_eof():
            answer += await reader.read(_MAX_ANSWER)
        expected = f"{PROBE_ALPN} {peer.spiffe.namespace}/{peer.workload}"
        return await _judged(reader, answer, expected)
    finally:
        writer.transport.abort()


async def _judged(reader: asyncio.StreamReader, answer: bytes, expected: str) -> tuple[bool, str]:
    """The verdict on an answer whose body may still be arriving."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0]
    if not status.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        return False, f"Envoy answered {status[:80].decode('latin-1')!r} instead of its probe answer"
    while len(body) < len(expected) and not reader.at_eof():
        body += await reader.read(_MAX_ANSWER)
    if body.decode("latin-1").strip() != expected:
        return False, "the answer came from past Envoy: the port's traffic reaches the application unguarded"
    return True, "Envoy answered with this workload's identity"


def agent_rpc_handlers(
    store: Store,
    authority: Authority,
    serving: ServingIdentity,
    inbound_ports: InboundPorts,
    *,
    now: Callable[[], datetime],
) -> grpc.GenericRpcHandler:  # type: ignore[type-arg]  # generic in its stub only
    """The door's calls, to be added to the mTLS server that also serves the ADS stream."""
    api = AgentApi(store, authority, serving, inbound_ports, now=now)
    return _Handlers(
        {
            "/istio.v1.auth.IstioCertificateService/CreateCertificate": _unary(
                api.create_certificate, ca_v1.IstioCertificateRequest
            ),
            "/isthmus.agent.v1.Agent/Prove": _unary(api.prove, agent_v1.ProveRequest),
            "/isthmus.agent.v1.Agent/ReportHealth": _unary(api.report_health, agent_v1.HealthReport),
            "/isthmus.agent.v1.Agent/Leave": _unary(api.leave, agent_v1.LeaveRequest),
        }
    )


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stub only
    """Finds a call by its full name."""

    def __init__(self, by_method: Mapping[str, Any]) -> None:
        self._by_method = by_method

    def service(self, handler_call_details: Any) -> Any:
        """The handler of the call, None when it is not one of ours."""
        return self._by_method.get(handler_call_details.method)


def _unary(call: Callable[[Any, Context], Awaitable[Message]], request: type[Message]) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


async def _abort(context: Context, code: grpc.StatusCode, text: str) -> NoReturn:
    await context.abort(code, text)
    raise AssertionError("abort returned")


def _entry_key(peer: Peer) -> Key:
    return Key("WorkloadEntry", peer.spiffe.namespace, peer.workload)


def _gone(seen: Object) -> Callable[[Object | None], Object | None]:
    def change(entry: Object | None) -> None:
        if entry is not None and entry.meta.uid != seen.meta.uid:
            raise Conflict(seen.key, "was made anew")

    return change


def _enrolled(entry: Object) -> str:
    return enrolled_at(entry.meta.annotations, entry.meta.creation_timestamp)


def _blocks(chain: str) -> list[str]:
    """Each certificate of a PEM chain as a text of its own."""
    end = "-----END CERTIFICATE-----\n"
    return [block + end for block in chain.split(end) if block]
