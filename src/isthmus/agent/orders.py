"""The control plane's HostConfig resource -> what this VM must capture and which names it answers.

A delta ADS stream of the agent's own, with the node id `agent~…`; the last good orders are kept on disk.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Self

import grpc
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3
from google.protobuf.message import DecodeError

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus.agent import door
from isthmus.agent.capture import Capture, all_but
from isthmus.agent.checks import Probe
from isthmus.agent.membership import Membership
from isthmus.agent.paths import Paths
from isthmus.agent.sds import Secrets
from isthmus.clock import backoff

HOST = "type.googleapis.com/isthmus.agent.v1.HostConfig"
_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_LOG = logging.getLogger("isthmus.agent")
_INVALID_ARGUMENT = 3
_UNKNOWN_HERE = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
"""How a control plane answers a VM that it does not know, or not any more."""


class OrdersRefused(ValueError):
    """A host configuration that cannot be carried out; the text tells the control plane why."""


@dataclass(frozen=True, slots=True)
class Orders:
    """One host configuration, checked."""

    capture: Capture
    names: tuple[tuple[str, tuple[str, ...]], ...]
    ports: tuple[int, ...]
    """The ports on which the VM serves the mesh; of a gateway, on which Envoy itself listens."""
    probe: Probe | None = None
    """How the health of the workload is found out; None when it always counts as healthy."""

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """The orders in a serialised HostConfig; OrdersRefused when they make no sense."""
        try:
            config = agent_v1.HostConfig.FromString(body)
            names = tuple((name.host, tuple(name.addresses)) for name in config.names)
            every = config.every_inbound_port
            capture = Capture.of(
                all_but(config.inbound_exempt_ports) if every else config.inbound_ports,
                config.capture_prefixes,
                wide=config.wide_prefixes,
                ports=config.outbound_ports,
                exempt=config.exempt_prefixes,
                exempt_ports=config.exempt_ports,
            )
            probe = Probe.of(config.probe) if config.HasField("probe") else None
            return cls(capture, names, tuple(sorted(set(config.inbound_ports))), probe)
        except (DecodeError, ValueError) as error:
            raise OrdersRefused(str(error)) from None


class Reach(Enum):
    """How the agent stands with the control plane."""

    UNKNOWN = "not tried yet"
    AWAY = "does not answer"
    HERE = "answers"
    REFUSED = "answers that it does not know this VM"


class Desk:
    """Where orders arrive: the newest good ones, and a signal for each change."""

    def __init__(self, membership: Membership, paths: Paths) -> None:
        self.membership = membership
        self.arrived = asyncio.Event()
        self.changed = asyncio.Event()
        self.reach = Reach.UNKNOWN
        self.tried = asyncio.Event()
        """Whether it is known how the control plane stands."""
        self.answered = asyncio.Event()
        """Set while the control plane answers, be it that it does not know this VM."""
        self.probe_changed = asyncio.Event()
        self.report_due = asyncio.Event()
        """Set when there is something to tell, or the control plane may have forgotten what it was told."""
        self.refusal = ""
        """The control plane's words when it refused the stream."""
        self._paths = paths
        self.orders: Orders | None = None
        if membership.host_version:
            with contextlib.suppress(OrdersRefused):
                self.orders = Orders.decode(membership.host_config)
                self.arrived.set()

    def stands(self, reach: Reach) -> None:
        """Notes how the control plane stands now."""
        if reach is Reach.HERE and self.reach is not Reach.HERE:
            self.report_due.set()
        self.reach = reach
        self.tried.set()
        if reach is Reach.AWAY:
            self.answered.clear()
        else:
            self.answered.set()

    def receive(self, version: str, body: bytes) -> None:
        """Takes new orders, on disk first; OrdersRefused leaves the old ones standing."""
        orders = Orders.decode(body)
        membership = self.membership.with_host(version, body)
        membership.save(self._paths)
        if self.orders is None or self.orders.probe != orders.probe:
            self.probe_changed.set()
        self.membership, self.orders = membership, orders
        self.arrived.set()
        self.changed.set()


def node_id(paths: Paths) -> str:
    """The agent's node id: Envoy's own, as the control plane wrote it, under another role."""
    bootstrap = json.loads(paths.bootstrap.read_bytes())
    role, _, rest = str(bootstrap["node"]["id"]).partition("~")
    if role not in ("sidecar", "router"):
        raise ValueError(f"{paths.bootstrap}: node.id starts with {role!r}, expected sidecar or router")
    return f"agent~{rest}"


async def follow(desk: Desk, secrets: Secrets, paths: Paths) -> None:
    """Keeps a stream open for ever, from one address of the door to the next; says only what changes."""
    waits, quiet, node, turn = backoff(0.2, 10), False, node_id(paths), 0
    while True:
        addresses = desk.membership.doors
        address = addresses[turn % len(addresses)]
        try:
            async for _ in _stream(desk, secrets, address, node):
                if quiet:
                    _LOG.info("control plane back address=%s", address)
                waits, quiet, desk.refusal = backoff(0.2, 10), False, ""
        except grpc.RpcError as error:
            desk.stands(Reach.REFUSED if error.code() in _UNKNOWN_HERE else Reach.AWAY)
            desk.refusal = f"{address}: {door.reason(error)}"
            if not quiet:
                _LOG.warning("control plane away address=%s reason=%s", address, door.reason(error))
            quiet = True
        turn += 1
        await asyncio.sleep(next(waits))


async def _stream(desk: Desk, secrets: Secrets, address: str, node: str) -> AsyncIterator[None]:
    """One stream until it breaks; yields after each answer of the server."""
    held = desk.membership.host_version if desk.orders else ""
    first = discovery_v3.DeltaDiscoveryRequest(
        type_url=HOST,
        resource_names_subscribe=["*"],
        initial_resource_versions={"host": held} if held else {},
    )
    first.node.id = node
    async with door.channel(address, secrets.credentials) as channel:
        method = channel.stream_stream(
            _METHOD,
            request_serializer=discovery_v3.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_v3.DeltaDiscoveryResponse.FromString,
        )
        call = method(None)
        # returns when there is a connection: a server that has nothing to say says nothing
        await call.write(first)
        desk.stands(Reach.HERE)
        async for response in call:
            await call.write(_answer(desk, response))
            yield


def _answer(desk: Desk, response: discovery_v3.DeltaDiscoveryResponse) -> discovery_v3.DeltaDiscoveryRequest:
    answer = discovery_v3.DeltaDiscoveryRequest(type_url=HOST, response_nonce=response.nonce)
    try:
        for resource in response.resources:
            if resource.resource.type_url == HOST:
                desk.receive(resource.version, resource.resource.value)
    except (OrdersRefused, OSError) as error:
        _LOG.warning("orders refused version=%s reason=%s", resource.version, error)
        desk.refusal = f"orders came, but: {error}"
        answer.error_detail.code = _INVALID_ARGUMENT
        answer.error_detail.message = f"host: {error}"
    # a removal is no order to stop capturing: whoever leaves says so here, on the VM
    return answer
