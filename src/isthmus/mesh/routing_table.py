"""What rules say, once they are read for one caller: ordered, resolved, without YAML's alternatives.

Everything here is frozen and compared by value, so that equal rules cost nothing downstream.
"""

from dataclasses import dataclass

from isthmus.api.meta import Key
from isthmus.api.networking.load_balancing import ConsistentHashLB
from isthmus.api.networking.virtual_service import HTTPMatchRequest, HTTPRoute
from isthmus.api.shapes import Percent
from isthmus.mesh.model import Destination, Labels

MESH = "mesh"
"""The reserved gateway that stands for all sidecars."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose traffic is routed: sidecars of a namespace, or the proxies of one Gateway (`namespace/name`).

    `labels` are the labels of the proxy's workload, as far as rules ask about them.
    """

    namespace: str
    labels: Labels = ()
    gateway: str = MESH


@dataclass(frozen=True, slots=True)
class Mirror:
    """A destination that gets copies; `percentage` None copies everything."""

    host: str
    port: int
    subset: str
    percentage: Percent | None


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One rule for requests: the first whose `match` holds wins (None holds always).

    `actions` is the VirtualService's own rule: timeout, retries, faults, redirect, rewrite, headers.
    `hashes` keep the requests of one caller together, one for each destination that asks for it.
    """

    name: str
    match: HTTPMatchRequest | None
    destinations: tuple[Destination, ...]
    actions: HTTPRoute
    mirrors: tuple[Mirror, ...] = ()
    hashes: tuple[ConsistentHashLB, ...] = ()
    port: int = 0
    """The port that the request came to."""
    by_segment: bool = False
    """Whether a prefix is of whole segments of the path: `/a` leads `/a/b`, not `/ab`."""


@dataclass(frozen=True, slots=True)
class L4Route:
    """Where connections go that fit: by server name (TLS only) and by the address that was dialled.

    Without `subnets` the service's own addresses fit; without `sni_hosts` every server name does.
    """

    destinations: tuple[Destination, ...]
    sni_hosts: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    source: Key | None = None
    """The VirtualService that says so; None for the way to the service itself."""
