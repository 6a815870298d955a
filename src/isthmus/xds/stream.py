"""gRPC on the wire <-> one stream of the fleet: the door where Envoys and agents get their configuration.

    client --- mTLS ---> serve: who is it (certificate) = who it says it is (node) ? --> fleet.open
                         reader: bytes -> Request -> fleet.receive      wake
                         writer: fleet.advance -> bytes                 <----- engine commit, request, time

One event wakes the writer, and it writes what is due by then: a slow client gets fewer, larger responses, and
no queue grows.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import grpc

from isthmus.identity.peer import Peer, peer_identity
from isthmus.xds.fleet import Fleet, Unregistered
from isthmus.xds.node import Node, parse_node
from isthmus.xds.session import TooMuch
from isthmus.xds.sotw import StateOfTheWorld
from isthmus.xds.standing import Shown, Stream
from isthmus.xds.wire import Malformed, Request, parse

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = f"{_SERVICE}/DeltaAggregatedResources"
SOTW_METHOD = f"{_SERVICE}/StreamAggregatedResources"
FIRST_REQUEST_S = 15.0

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)
"""Options of the server that carries the door: large responses, dead peers found within 40 s."""

_log = logging.getLogger(__name__)


class _Ended(Exception):
    """The stream is over; `code` is None when its client ended it."""

    def __init__(self, code: grpc.StatusCode | None, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Dialect(Protocol):
    """How a client spells the protocol."""

    def request(self, data: bytes) -> Request:
        """What the client's bytes mean; Malformed when they mean nothing."""

    def responses(self, deltas: list[bytes]) -> tuple[list[bytes], list[Request]]:
        """The client's spelling of delta responses, and answers that it cannot give itself."""


class Delta:
    """Delta xDS, which is what the fleet speaks."""

    def request(self, data: bytes) -> Request:
        """The request in `data`."""
        return parse(data)

    def responses(self, deltas: list[bytes]) -> tuple[list[bytes], list[Request]]:
        """The responses as they are."""
        return deltas, []


_DIALECTS: Mapping[str, Callable[[], Dialect]] = {METHOD: Delta, SOTW_METHOD: StateOfTheWorld}


class AdsDoor(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stub only
    """Serves ADS, delta and state of the world. Its `grpc.aio` server must demand client certificates."""

    def __init__(self, fleet: Fleet, trust_domain: str) -> None:
        self._fleet = fleet
        self._trust_domain = trust_domain

    def service(self, handler_call_details: Any) -> Any:
        """gRPC asks for the handler of each call; None means that another may have it."""
        spoken = _DIALECTS.get(handler_call_details.method)
        if spoken is None:
            return None

        async def serve(_: Any, context: Any) -> None:
            await self._serve(context, spoken())

        return grpc.stream_stream_rpc_method_handler(serve, None, None)

    async def _serve(self, context: Any, dialect: Dialect) -> None:
        ended: _Ended | None = None
        try:
            await self._run(context, dialect)
        except* _Ended as group:
            leaf: BaseException = group
            while isinstance(leaf, BaseExceptionGroup):
                leaf = leaf.exceptions[0]
            assert isinstance(leaf, _Ended)
            ended = leaf
        if ended is not None and ended.code is not None:
            _log.info("stream refused peer=%s: %s", context.peer(), ended.text)
            await context.abort(ended.code, ended.text)

    async def _run(self, context: Any, dialect: Dialect) -> None:
        try:
            peer = peer_identity(context.auth_context(), self._trust_domain)
        except ValueError as error:
            raise _Ended(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
        try:
            async with asyncio.timeout(FIRST_REQUEST_S):
                request = await _read(context, dialect)
        except TimeoutError:
            text = f"no request within {FIRST_REQUEST_S:.0f} s"
            raise _Ended(grpc.StatusCode.DEADLINE_EXCEEDED, text) from None
        node = _identified(request, peer)
        wake = asyncio.Event()
        try:
            stream = self._fleet.open(node, Shown(peer.spiffe.service_account, peer.signed_at), wake.set)
        except Unregistered as error:
            raise _Ended(grpc.StatusCode.PERMISSION_DENIED, str(error)) from None
        except TooMuch as error:
            raise _Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from None
        _log.info("stream opened node=%s peer=%s", node.id, context.peer())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(stream, wake, context, dialect))
                while True:
                    try:
                        self._fleet.receive(stream, request)
                    except Unregistered as error:
                        raise _Ended(grpc.StatusCode.PERMISSION_DENIED, str(error)) from None
                    except TooMuch as error:
                        raise _Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from None
                    request = await _read(context, dialect)
        finally:
            self._fleet.close(stream)
            _log.info("stream closed node=%s", node.id)

    async def _write(self, stream: Stream, wake: asyncio.Event, context: Any, dialect: Dialect) -> None:
        while True:
            wake.clear()
            try:
                messages, owed = dialect.responses(self._fleet.advance(stream))
                for answer in owed:
                    self._fleet.receive(stream, answer)
            except Unregistered as error:
                raise _Ended(grpc.StatusCode.PERMISSION_DENIED, str(error)) from None
            for message in messages:
                await context.write(message)
            try:
                async with asyncio.timeout(self._fleet.wait_s(stream)):
                    await wake.wait()
            except TimeoutError:
                continue


async def _read(context: Any, dialect: Dialect) -> Request:
    data = await context.read()
    if not isinstance(data, bytes):  # grpc.aio.EOF
        raise _Ended(None, "the client hung up")
    try:
        return dialect.request(data)
    except Malformed as error:
        raise _Ended(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None


def _identified(request: Request, peer: Peer) -> Node:
    """The node that the first request names, if the certificate is that workload's."""
    if not request.node_id:
        raise _Ended(grpc.StatusCode.INVALID_ARGUMENT, "the first request of a stream must name its node")
    try:
        node = parse_node(request.node_id, request.generator)
    except ValueError as error:
        raise _Ended(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
    if (node.proxy.namespace, node.proxy.workload) != (peer.spiffe.namespace, peer.workload):
        raise _Ended(
            grpc.StatusCode.PERMISSION_DENIED,
            f"node {node.id!r} is not the workload of the client certificate,"
            f" {peer.spiffe.namespace}/{peer.workload}: a proxy may only ask for its own configuration",
        )
    return node
