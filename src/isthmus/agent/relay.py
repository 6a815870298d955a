"""Configuration for an Envoy that started without control plane: the agent stands in, then passes on.

    Envoy ──ADS──▶ the agent's socket ──▶ control plane away:  what was kept, to an Envoy that has nothing yet
                                     ──▶ control plane here:   every message as it is, both ways

Such an Envoy asks at the agent's socket for as long as it lives, so that it needs no restart when the control
plane is back: its stream ends then, it opens another, names the versions that it holds, and is sent what
differs. An Envoy that starts while the control plane is here asks it directly, and never this socket.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeAlias

import grpc
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3
from google.protobuf.any_pb2 import Any as AnyMessage

from isthmus.agent import door, stopping
from isthmus.agent.last_good import Kept
from isthmus.agent.orders import Desk, Reach
from isthmus.agent.paths import Paths
from isthmus.agent.sds import SECRET, Secrets

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_SERVICE, _METHOD = "envoy.service.discovery.v3.AggregatedDiscoveryService", "DeltaAggregatedResources"
_WHOLE = tuple(
    f"type.googleapis.com/envoy.config.{name}" for name in ("cluster.v3.Cluster", "listener.v3.Listener")
)
"""Types of which a request without names means all."""
_READY_S = 2.0
_LOG = logging.getLogger("isthmus.agent")


def through_agent(bootstrap: bytes, paths: Paths) -> bytes | None:
    """The bootstrap with the agent's socket in the control plane's place; None when it has none of both."""
    document = json.loads(bootstrap)
    by_socket = {
        endpoint["endpoint"]["address"].get("pipe", {}).get("path"): cluster["name"]
        for cluster in document.get("static_resources", {}).get("clusters", ())
        for place in cluster.get("load_assignment", {}).get("endpoints", ())
        for endpoint in place.get("lb_endpoints", ())
    }
    try:
        (service,) = document["dynamic_resources"]["ads_config"]["grpc_services"]
        service["envoy_grpc"]["cluster_name"] = by_socket[str(paths.sds_socket)]
    except (KeyError, ValueError):
        return None
    return json.dumps(document, indent=1).encode()


class Relay:
    """Answers Envoy's streams; `kept` is for one that has nothing, while the control plane is away."""

    def __init__(self, desk: Desk, secrets: Secrets) -> None:
        self._desk, self._secrets = desk, secrets
        self.kept: Kept | None = None

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """The gRPC service, for the server at the agent's socket."""
        method = grpc.stream_stream_rpc_method_handler(self._serve)
        return grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method})

    async def _serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        if self._desk.reach is Reach.HERE:
            await self._pass_on(requests, context)
        elif self.kept is not None and self._desk.reach is not Reach.REFUSED:
            await self._stand_in(self.kept, requests, context)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "ask again: the control plane is on its way")

    async def _stand_in(self, kept: Kept, requests: AsyncIterator[bytes], context: Context) -> None:
        """Answers from what was kept until the control plane answers, be it that it does not know this VM."""
        types: dict[str, StandIn] = {}

        async def answer() -> None:
            async for data in requests:
                request = discovery_v3.DeltaDiscoveryRequest.FromString(data)
                url = request.type_url
                stand_in = types.setdefault(url, StandIn(url, kept.resources.get(url, {})))
                if (response := stand_in.respond(request)) is not None:
                    await context.write(response.SerializeToString())

        await _first_of(answer(), self._desk.answered.wait())

    async def _pass_on(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Passes every message on, to the first door that opens."""
        self.kept = None  # it is older than what comes now
        for address in self._desk.membership.doors:
            async with door.channel(address, self._secrets.credentials) as channel:
                try:
                    async with asyncio.timeout(_READY_S):
                        await channel.channel_ready()
                except TimeoutError:
                    continue
                method = channel.stream_stream(
                    f"/{_SERVICE}/{_METHOD}", request_serializer=bytes, response_deserializer=bytes
                )
                call = method(None)
                try:
                    await _first_of(_pump(requests, call.write), _pump(call, context.write))
                except grpc.RpcError as error:
                    await context.abort(error.code(), error.details() or "")
                return


class StandIn:
    """One type on one stream, as kept: an Envoy gets what it has nothing of, and keeps what it has."""

    def __init__(self, type_url: str, kept: Mapping[str, tuple[str, bytes]]) -> None:
        self._type_url, self._kept = type_url, kept
        self._held: frozenset[str] | None = None
        self._sent = 0

    def respond(
        self, request: discovery_v3.DeltaDiscoveryRequest
    ) -> discovery_v3.DeltaDiscoveryResponse | None:
        """The answer to one request, if it needs any."""
        if request.HasField("error_detail"):
            _LOG.error("last good configuration refused by Envoy reason=%s", request.error_detail.message)
        names = [name for name in request.resource_names_subscribe if name != "*"]
        first = self._held is None
        if first:
            self._held = frozenset(request.initial_resource_versions)
        everything = first and not names and self._type_url in _WHOLE
        if (everything or "*" in request.resource_names_subscribe) and not self._held:
            return self._response(list(self._kept), [])
        wanted = [name for name in names if name not in (self._held or ())]
        if not wanted or self._type_url == SECRET:
            return None  # secrets are not kept, and whoever waits for one has to
        known = [name for name in wanted if name in self._kept]
        return self._response(known, [name for name in wanted if name not in self._kept])

    def _response(self, names: list[str], unknown: list[str]) -> discovery_v3.DeltaDiscoveryResponse:
        self._sent += 1
        resources = []
        for name in names:
            version, body = self._kept[name]
            wrapped = AnyMessage(type_url=self._type_url, value=body)
            resources.append(discovery_v3.Resource(name=name, version=version, resource=wrapped))
        return discovery_v3.DeltaDiscoveryResponse(
            type_url=self._type_url,
            nonce=str(self._sent),
            resources=resources,
            removed_resources=unknown,
        )


async def _pump(messages: AsyncIterable[bytes], write: Callable[[bytes], Awaitable[None]]) -> None:
    async for message in messages:
        await write(message)


async def _first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Runs until the first is done, and ends the others; an error of any is raised bare."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise stopping.first(errors) from None
