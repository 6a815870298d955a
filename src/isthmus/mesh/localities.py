"""Endpoints + where the caller is -> groups of endpoints by place, with weights and priorities.

    distribute        shares of traffic by place of the caller                 -> weights
    failoverPriority  who shares more of the caller's labels comes first       -> priorities
    failover          same sub-zone, zone, region, then the region that is named -> priorities

Priorities need outlier detection: without it Envoy would never find out that a place fails.
https://istio.io/latest/docs/reference/config/networking/destination-rule/#LocalityLoadBalancerSetting
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil

from isthmus.api.networking.load_balancing import (
    LocalityDistribute,
    LocalityFailover,
    LocalityLoadBalancerSetting,
)
from isthmus.mesh import pods
from isthmus.mesh.destinations import Policy
from isthmus.mesh.model import Endpoint, Labels, Service

_MOST_BUCKETS = 5
"""Priorities that a failover tells apart: 0 to 4."""
_DISTRIBUTIONS = {
    "zone": (pods.NETWORK_LABEL, pods.REGION_LABEL, pods.ZONE_LABEL),
    "node": (
        pods.NETWORK_LABEL,
        pods.REGION_LABEL,
        pods.ZONE_LABEL,
        pods.SUBZONE_LABEL,
        pods.NODE_LABEL,
    ),
}


@dataclass(frozen=True, slots=True)
class Group:
    """The endpoints of one place, as `region/zone/subzone`, with their health."""

    place: str
    members: tuple[tuple[Endpoint, bool], ...]
    weight: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """How traffic spreads over places; `failover` says whether priorities count."""

    distribute: tuple[LocalityDistribute, ...] = ()
    failovers: tuple[LocalityFailover, ...] = ()
    labels: tuple[str, ...] = ()
    """failoverPriority: names of labels, or `name=value` where the caller's value is given."""
    failover: bool = False
    weighted: bool = False
    """Whether the weights of places count."""
    zone_aware: bool | None = None
    """Whether Envoy itself keeps traffic in the caller's zone; None where nobody says."""
    min_cluster_size: int | None = None

    @property
    def depends_on_place(self) -> bool:
        """Whether callers in different places get different groups."""
        return bool(self.distribute) or self.failover

    @property
    def depends_on_labels(self) -> bool:
        """Whether callers with different labels get different groups."""
        return bool(self.labels) and self.failover and not self.distribute


def spread(policy: Policy, service: Service, mesh: LocalityLoadBalancerSetting | None) -> Spread:
    """What counts: the DestinationRule, else the service's own preference, else the mesh's setting."""
    balancer, outliers = policy.load_balancer, policy.outlier_detection is not None
    zones = balancer.zone_aware_lb_setting if balancer else None
    if zones is not None:
        on = zones.enabled is not False
        return Spread(
            failovers=zones.failover if on else (),
            labels=zones.failover_priority if on else (),
            failover=on,
            zone_aware=on,
            min_cluster_size=zones.min_cluster_size,
        )
    setting = balancer.locality_lb_setting if balancer else None
    if setting is None and service.traffic_distribution:
        return Spread(labels=_DISTRIBUTIONS[service.traffic_distribution], failover=True, weighted=True)
    setting = setting or mesh
    if setting is None or setting.enabled is False:
        return Spread()
    explicit = bool(setting.failover or setting.failover_priority)
    return Spread(
        distribute=setting.distribute,
        failovers=setting.failover,
        labels=setting.failover_priority,
        failover=outliers and not setting.distribute,
        weighted=bool(setting.distribute) or (outliers and explicit),
    )


def groups(members: Iterable[tuple[Endpoint, bool]]) -> tuple[Group, ...]:
    """The endpoints by place, in a fixed order."""
    ordered = sorted(members, key=lambda m: (m[0].locality, m[0].address, m[0].port, str(m[0].workload)))
    return tuple(
        _group(place, tuple(found)) for place, found in groupby(ordered, key=lambda m: m[0].locality)
    )


def _group(place: str, members: tuple[tuple[Endpoint, bool], ...], priority: int = 0) -> Group:
    weight = sum(endpoint.weight for endpoint, _ in members)
    return Group(place, members, min(weight, 2**32 - 1), priority)


def arranged(found: tuple[Group, ...], said: Spread, locality: str, labels: Labels) -> tuple[Group, ...]:
    """The groups with weights and priorities for callers in this place with these labels."""
    if said.distribute:
        return _distributed(found, said.distribute, locality)
    if not said.failover:
        return found
    if said.labels and labels:
        found = _by_labels(found, said.labels, dict(labels))
        if not said.failovers and said.zone_aware is None:
            return found
    if said.zone_aware:
        return _by_rank(found, lambda place: _region_rank(locality, place, said.failovers))
    return _by_rank(found, lambda place: _place_rank(locality, place, said.failovers))


def _distributed(
    found: tuple[Group, ...], distribute: tuple[LocalityDistribute, ...], locality: str
) -> tuple[Group, ...]:
    setting = next((d for d in distribute if _covers(d.from_, locality)), None)
    if setting is None:
        return found
    weights: dict[str, int] = {}
    for pattern, share in sorted(setting.to.items(), key=lambda item: (item[0].count("*"), item[0])):
        chosen = [g for g in found if g.place not in weights and _covers(pattern, g.place)]
        total = sum(group.weight for group in chosen)
        weights.update({g.place: ceil(g.weight * share / total) for g in chosen if total})
    # a place that gets nothing stays as a place without endpoints
    return tuple(
        replace(group, weight=weights[group.place])
        if weights.get(group.place)
        else replace(group, members=())
        for group in found
    )


def _by_labels(found: tuple[Group, ...], names: tuple[str, ...], own: dict[str, str]) -> tuple[Group, ...]:
    wanted = [(name, value if sign else own.get(name, "")) for name, sign, value in map(_split, names)]
    split: list[Group] = []
    for group in found:
        by_rank: dict[int, list[tuple[Endpoint, bool]]] = {}
        for member in group.members:
            by_rank.setdefault(_label_rank(wanted, dict(member[0].labels)), []).append(member)
        split += [_group(group.place, tuple(by_rank[rank]), rank) for rank in sorted(by_rank)]
    return _dense(tuple(split))


def _split(name: str) -> tuple[str, str, str]:
    return name.partition("=")


def _label_rank(wanted: list[tuple[str, str]], labels: dict[str, str]) -> int:
    lowest, extra = len(wanted), 0
    for i, (name, value) in enumerate(wanted):
        if labels.get(name, "") != value:
            if i == 0 and name == pods.NETWORK_LABEL:
                extra = lowest  # of another network, but still ranked by the other labels among its like
                continue
            return lowest - i + extra
    return extra


def _by_rank(found: tuple[Group, ...], rank: Callable[[str], int]) -> tuple[Group, ...]:
    return _dense(tuple(replace(g, priority=g.priority * _MOST_BUCKETS + rank(g.place)) for g in found))


def _dense(found: tuple[Group, ...]) -> tuple[Group, ...]:
    """Priorities without gaps: Envoy refuses gaps."""
    order = {priority: i for i, priority in enumerate(sorted({group.priority for group in found}))}
    return tuple(replace(group, priority=order[group.priority]) for group in found)


def _place_rank(own: str, place: str, failovers: tuple[LocalityFailover, ...]) -> int:
    mine, theirs = _parts(own), _parts(place)
    if mine[0] == theirs[0]:
        if mine[1] != theirs[1]:
            return 2
        return 0 if mine[2] == theirs[2] else 1
    named = next((f for f in failovers if f.from_ == mine[0]), None)
    return 4 if named and theirs[0] != named.to else 3


def _region_rank(own: str, place: str, failovers: tuple[LocalityFailover, ...]) -> int:
    mine, theirs = _parts(own)[0], _parts(place)[0]
    if mine == theirs:
        return 0
    named = next((f for f in failovers if f.from_ == mine), None)
    return 1 if named and theirs == named.to else 2


def _covers(pattern: str, place: str) -> bool:
    region, zone, sub_zone = _parts(pattern)
    mine = _parts(place)
    return region in ("*", mine[0]) and zone in ("*", "", mine[1]) and sub_zone in ("*", "", mine[2])


def _parts(place: str) -> tuple[str, str, str]:
    region, zone, sub_zone = (*place.split("/", 2), "", "", "")[:3]
    return region, zone, sub_zone
