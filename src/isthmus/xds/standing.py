"""How streams stand, for people."""

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.xds.delta import Watch


@dataclass(frozen=True, slots=True)
class TypeState:
    """How one type stands on one stream."""

    subscribed: bool
    wanted: int
    held: int
    in_flight: int
    pending: int
    refused: Mapping[str, str]
    """The client's words by resource name."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """How one stream stands, for people."""

    node: str
    role: str
    namespace: str
    workload: str
    connected_s: float
    synced: bool
    sent: Mapping[str, int]
    types: Mapping[str, TypeState]


def type_state(watch: Watch) -> TypeState:
    """How a type stands."""
    return TypeState(
        subscribed=watch.asked,
        wanted=len(watch.want),
        held=len(watch.held),
        in_flight=len(watch.flights),
        pending=len(watch.fresh) + len(watch.gone),
        refused={name: refusal.text for name, refusal in watch.refused.items()},
    )
