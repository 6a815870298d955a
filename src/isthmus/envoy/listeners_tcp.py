"""DestinationRules -> how the connections of callers are carried to a host: idle time, tunnel, stickiness."""

from isthmus.api.duration import parse_duration
from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import DestinationRuleSpec
from isthmus.engine import Reader
from isthmus.envoy.filters import Carriage
from isthmus.mesh import destinations, world
from isthmus.mesh.model import Destination, Scope


def carriage(q: Reader, scope: Scope, to: tuple[Destination, ...]) -> tuple[Carriage, tuple[Key, ...]]:
    """How connections of a scope's callers are carried to destinations, and the rules that say so.

    One way of carrying holds for all of them: that of the first one's host. What a subset says on top of it
    counts when it is the only destination.
    """
    first, *others = to
    rules = q(destinations.rules_for, scope.namespace, first.host, scope.labels)
    return q(_carried, rules, "" if others else first.subset), rules


def _carried(q: Reader, rules: tuple[Key, ...], subset: str) -> Carriage:
    specs = [spec for key in rules if (spec := world.spec(q, key, DestinationRuleSpec))]
    wide = next((spec.traffic_policy for spec in specs if spec.traffic_policy), None)
    named = (s for spec in specs for s in spec.subsets if subset and s.name == subset)
    narrow = next((s.traffic_policy for s in named), None)
    pool = wide.connection_pool.tcp if wide and wide.connection_pool else None
    balancer = (narrow.load_balancer if narrow else None) or (wide.load_balancer if wide else None)
    hashed = balancer.consistent_hash if balancer else None
    # a subset's connections pass through no tunnel but its own, as Istio has it
    tunnelled = narrow if subset else wide
    tunnel = tunnelled.tunnel if tunnelled else None
    return Carriage(
        idle_s=parse_duration(pool.idle_timeout) if pool and pool.idle_timeout else Carriage().idle_s,
        longest_s=(
            parse_duration(pool.max_connection_duration) if pool and pool.max_connection_duration else 0.0
        ),
        by_source=bool(hashed and hashed.use_source_ip),
        tunnel=f"{tunnel.target_host}:{tunnel.target_port}" if tunnel else "",
        tunnel_post=bool(tunnel and tunnel.protocol == "POST"),
    )
