"""The VM's credentials -> Envoy, over SDS on a unix socket that only Envoy's user may open.

Secrets: `default` (chain and key) and `ROOTCA` (trust bundle), and those in files (`file_secrets`). A
replacement is pushed to every open stream; connections that stand are not touched by it.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_v3
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3
from google.protobuf.any_pb2 import Any as AnyMessage

from isthmus.agent import file_secrets
from isthmus.agent.membership import Credentials
from isthmus.agent.paths import ENVOY_UID, Paths

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
IDENTITY, ROOTS = "default", "ROOTCA"
_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", 16 << 20))


class Secrets:
    """The credentials of the moment, and a signal when they are replaced."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._replaced = asyncio.Condition()

    async def replace(self, credentials: Credentials) -> None:
        """Serves new credentials from now on."""
        async with self._replaced:
            self.credentials = credentials
            self._replaced.notify_all()

    async def changed(self, seen: Credentials) -> None:
        """Returns when the credentials are others than those seen."""
        async with self._replaced:
            await self._replaced.wait_for(lambda: self.credentials != seen)


def secrets(credentials: Credentials) -> dict[str, tuple[str, bytes]]:
    """Each secret by its name, as (version, serialised message); the version is a hash of the content."""
    identity = tls_v3.Secret(name=IDENTITY)
    identity.tls_certificate.certificate_chain.inline_bytes = credentials.chain
    identity.tls_certificate.private_key.inline_bytes = credentials.key
    roots = tls_v3.Secret(name=ROOTS)
    roots.validation_context.trusted_ca.inline_bytes = credentials.roots
    found = {}
    for secret in (identity, roots):
        body = secret.SerializeToString(deterministic=True)
        found[secret.name] = (hashlib.blake2b(body, digest_size=8).hexdigest(), body)
    return found


@contextlib.asynccontextmanager
async def serving(
    secrets_: Secrets, paths: Paths, *more: "grpc.GenericRpcHandler[Any, Any]"
) -> AsyncIterator[None]:
    """Serves SDS, and whatever more Envoy asks its agent for, while the block runs."""
    server = grpc.aio.server(options=_OPTIONS)
    files = file_secrets.Files(file_secrets.directories(os.environ))
    server.add_generic_rpc_handlers((_handler(secrets_, files), *more))
    paths.sds_socket.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{paths.sds_socket}")
    await server.start()
    os.chown(paths.sds_socket, ENVOY_UID, ENVOY_UID)
    paths.sds_socket.chmod(0o600)
    try:
        yield
    finally:
        await server.stop(grace=None)
        paths.sds_socket.unlink(missing_ok=True)


def _handler(secrets_: Secrets, files: file_secrets.Files) -> "grpc.GenericRpcHandler[Any, Any]":
    async def delta(requests: AsyncIterator[Any], context: Context) -> None:
        await _serve(requests, context, _Delta(), secrets_=secrets_, files=files)

    async def whole(requests: AsyncIterator[Any], context: Context) -> None:
        await _serve(requests, context, _Whole(), secrets_=secrets_, files=files)

    return grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                delta,
                request_deserializer=discovery_v3.DeltaDiscoveryRequest.FromString,
                response_serializer=discovery_v3.DeltaDiscoveryResponse.SerializeToString,
            ),
            "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                whole,
                request_deserializer=discovery_v3.DiscoveryRequest.FromString,
                response_serializer=discovery_v3.DiscoveryResponse.SerializeToString,
            ),
        },
    )


async def _serve(
    requests: AsyncIterator[Any],
    context: Context,
    stream: "_Delta | _Whole",
    *,
    secrets_: Secrets,
    files: file_secrets.Files,
) -> None:
    """Answers one stream: after a request that asks for more, and after a replacement."""
    wake, closed = asyncio.Event(), False

    async def read() -> None:
        nonlocal closed
        async for request in requests:
            if stream.receive(request):
                wake.set()
        closed = True
        wake.set()

    async def watch() -> None:
        while True:
            await secrets_.changed(secrets_.credentials)
            wake.set()

    async def look_at_files() -> None:
        while True:
            await asyncio.sleep(file_secrets.CHECK_S)
            if any(map(file_secrets.is_file_secret, stream.names)):
                wake.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        watching = (group.create_task(watch()), group.create_task(look_at_files()))
        while not closed:
            await wake.wait()
            wake.clear()
            in_files = await asyncio.to_thread(files.read, stream.names)
            if (response := stream.respond(secrets(secrets_.credentials) | in_files)) is not None:
                await context.write(response)
        for task in watching:
            task.cancel()


class _Delta:
    """What one delta stream asked for and was sent."""

    def __init__(self) -> None:
        self.closed = False
        self._held: dict[str, str] = {}
        self._sent = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What is asked for."""
        return tuple(self._held)

    def receive(self, request: discovery_v3.DeltaDiscoveryRequest) -> bool:
        for name in request.resource_names_unsubscribe:
            self._held.pop(name, None)
        # what is asked for is answered, even when the client says that it has it: it waits for the answer
        self._held.update(dict.fromkeys(request.resource_names_subscribe, ""))
        return bool(request.resource_names_subscribe)

    def respond(self, found: dict[str, tuple[str, bytes]]) -> discovery_v3.DeltaDiscoveryResponse | None:
        due = [name for name in self._held if name in found and self._held[name] != found[name][0]]
        unknown = [name for name in self._held if name not in found and self._held[name] != "unknown"]
        if not due and not unknown:
            return None
        self._sent += 1
        self._held.update({name: found[name][0] for name in due} | dict.fromkeys(unknown, "unknown"))
        return discovery_v3.DeltaDiscoveryResponse(
            type_url=SECRET,
            nonce=str(self._sent),
            resources=[
                discovery_v3.Resource(name=name, version=found[name][0], resource=_any(found[name][1]))
                for name in due
            ],
            removed_resources=unknown,
        )


class _Whole:
    """What one state-of-the-world stream asked for and was sent."""

    def __init__(self) -> None:
        self.closed = False
        self._names: list[str] = []
        self._held = ""
        self._sent = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What is asked for."""
        return tuple(self._names)

    def receive(self, request: discovery_v3.DiscoveryRequest) -> bool:
        more = list(request.resource_names) != self._names
        self._names = list(request.resource_names)
        if more:
            self._held = ""
        return more

    def respond(self, found: dict[str, tuple[str, bytes]]) -> discovery_v3.DiscoveryResponse | None:
        wanted = {name: found[name] for name in self._names if name in found}
        version = "+".join(version for version, _ in wanted.values())
        if not wanted or version == self._held:
            return None
        self._sent += 1
        self._held = version
        return discovery_v3.DiscoveryResponse(
            type_url=SECRET,
            version_info=version,
            nonce=str(self._sent),
            resources=[_any(body) for _, body in wanted.values()],
        )


def _any(body: bytes) -> AnyMessage:
    return AnyMessage(type_url=SECRET, value=body)
