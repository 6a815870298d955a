"""DestinationRules -> what keeps the requests of one caller at one endpoint (consistent hashing).

    (viewer, destination) --consistent_hash--> the narrowest setting: subset's port, subset, port, host

The hash is made on the route, so routes of callers that obey different DestinationRules differ.
https://istio.io/latest/docs/reference/config/networking/destination-rule/#LoadBalancerSettings-ConsistentHashLB
"""

from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import DestinationRuleSpec, TrafficPolicy
from isthmus.api.networking.load_balancing import ConsistentHashLB
from isthmus.api.networking.virtual_service import Destination
from isthmus.engine import Reader
from isthmus.mesh import destinations, world
from isthmus.mesh.model import Labels
from isthmus.mesh.routing_rules import http_rules

Place = tuple[str, str, int]
"""Host, subset and port of a destination; port 0 when the rule names none."""
Hashes = tuple[tuple[Place, ConsistentHashLB], ...]


def place(said: Destination) -> Place:
    """The place that a resolved destination names."""
    return said.host, said.subset, said.port.number if said.port else 0


def rule_hashes(q: Reader, key: Key, viewer: str, labels: Labels) -> Hashes:
    """The hashes of all destinations of a VirtualService that ask for one, as callers obey them."""
    found = ((where, q(consistent_hash, viewer, labels, *where)) for where in q(_places, key))
    return tuple((where, said) for where, said in found if said)


def service_hash(q: Reader, viewer: str, labels: Labels, host: str, port: int) -> ConsistentHashLB | None:
    """The hash of requests for a port of a service that no VirtualService routes."""
    policy = _policy(q, viewer, labels, host)[0]
    return _at_port(policy, port) or _of(policy)


def consistent_hash(
    q: Reader, viewer: str, labels: Labels, host: str, subset: str, port: int
) -> ConsistentHashLB | None:
    """The hash of one destination: its subset's port, its subset, its port, else its host decides."""
    wide, narrow = _policy(q, viewer, labels, host, subset)
    at_port = (_at_port(narrow, port), _at_port(wide, port)) if port else (None, None)
    return at_port[0] or _of(narrow) or at_port[1] or _of(wide)


def _places(q: Reader, key: Key) -> tuple[Place, ...]:
    targets = (target for route in q(http_rules, key).value for target in route.route)
    return tuple(dict.fromkeys(place(target.destination) for target in targets))


def _policy(
    q: Reader, viewer: str, labels: Labels, host: str, subset: str = ""
) -> tuple[TrafficPolicy | None, TrafficPolicy | None]:
    rules = q(destinations.rules_for, viewer, host, labels)
    specs = [spec for key in rules if (spec := world.spec(q, key, DestinationRuleSpec))]
    wide = next((spec.traffic_policy for spec in specs if spec.traffic_policy), None)
    named = (s.traffic_policy for spec in specs for s in spec.subsets if subset and s.name == subset)
    return wide, next(named, None)


def _of(policy: TrafficPolicy | None) -> ConsistentHashLB | None:
    balancer = policy.load_balancer if policy else None
    return balancer.consistent_hash if balancer else None


def _at_port(policy: TrafficPolicy | None, port: int) -> ConsistentHashLB | None:
    for settings in policy.port_level_settings if policy else ():
        if settings.port and settings.port.number == port:
            return settings.load_balancer.consistent_hash if settings.load_balancer else None
    return None
