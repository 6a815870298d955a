"""What a cluster leads to: the key under which clusters and endpoints are made, and shared."""

from dataclasses import dataclass

from isthmus.api.meta import Key
from isthmus.mesh.model import Labels


@dataclass(frozen=True, slots=True)
class Place:
    """What of where callers are changes their clusters and endpoints; empty where it changes nothing."""

    router: bool = False
    """Whether they are gateways: nobody dialled an address that they could go on to."""
    locality: str = ""
    labels: Labels = ()
    network: str = ""
    ipv6: bool = False
    """Whether names are resolved to IPv6 addresses where they have any."""
    only_own_network: bool = False
    """Whether what is elsewhere is left out, instead of being reached through its network's gateway."""


@dataclass(frozen=True, slots=True)
class Target:
    """What one cluster leads to, for callers that obey the same rules.

    `sources` declare the host (the first counts), `rules` are DestinationRules.
    """

    host: str
    port: int
    subset: str
    sources: tuple[Key, ...]
    rules: tuple[Key, ...] = ()
    place: Place = Place()
