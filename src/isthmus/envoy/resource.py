"""One Envoy resource as bytes, hashed and framed once, shared by every stream that sends it."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from isthmus.api.meta import Key

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTES = PREFIX + "envoy.config.route.v3.RouteConfiguration"
EXTENSION = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
SECRET = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
HOST = PREFIX + "isthmus.agent.v1.HostConfig"

TYPES = (CLUSTER, ENDPOINTS, SECRET, LISTENER, ROUTES, EXTENSION, HOST)
"""Every type we serve, in make-before-break order: additions go out in this order."""


@dataclass(frozen=True, slots=True)
class ProxyId:
    """The workload a proxy serves: the WorkloadEntry `namespace/workload`."""

    namespace: str
    workload: str
    generator: str = ""
    """`grpc` for a program of the workload that takes its configuration without a proxy."""


@dataclass(frozen=True, slots=True)
class Resource:
    """`body` is the deterministic serialisation of the message inside the Any.

    `version` is a content hash (of the body, and of whatever else must make the client take it again),
    so a restarted control plane gives the same version to the same content.
    `sources` are the API objects it was made from, for status; sorted.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    sources: tuple[Key, ...] = ()


Manifest = Mapping[str, Resource]
"""Resources by name: what one proxy should hold of one type."""


def content_version(*parts: bytes) -> str:
    """A 64-bit content hash as 16 hex digits."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
