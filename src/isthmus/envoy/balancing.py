"""Load balancing and outlier detection of a policy -> how a cluster chooses endpoints, and drops some."""

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.cluster.v3 import outlier_detection_pb2 as outlier_detection_v3

from isthmus.api.duration import parse_duration
from isthmus.api.networking.destination_rule import LoadBalancerSettings, OutlierDetection
from isthmus.api.networking.load_balancing import ConsistentHashLB
from isthmus.envoy.message import duration
from isthmus.mesh.destinations import Policy
from isthmus.mesh.localities import Spread

Cluster = cluster_v3.Cluster

_RING_SIZE = 1024
_WARMUP_SHARE = 10.0
_SHORTEST_S = 0.001
_NO_RUNTIME_KEY = "("
"""Envoy wants a runtime key; nothing is called so, which leaves the value as it is."""


def balance(message: cluster_v3.Cluster, policy: Policy, spread: Spread) -> None:
    """Sets how an endpoint is chosen."""
    said = policy.load_balancer
    outliers = policy.outlier_detection
    # an endpoint that is known to be down is never tried because too many others are down as well
    floor = max(outliers.min_health_percent, 0) if outliers else 0
    message.common_lb_config.healthy_panic_threshold.value = floor
    if spread.zone_aware is not None:
        zones = message.common_lb_config.zone_aware_lb_config
        zones.SetInParent()
        if not spread.zone_aware:
            zones.routing_enabled.value = 0
            zones.routing_enabled.SetInParent()
        if spread.min_cluster_size is not None:
            zones.min_cluster_size.value = spread.min_cluster_size
    elif spread.weighted:
        message.common_lb_config.locality_weighted_lb_config.SetInParent()
    simple = said.simple if said else None
    if simple == "RANDOM":
        message.lb_policy = Cluster.RANDOM
    elif simple == "ROUND_ROBIN":
        message.lb_policy = Cluster.ROUND_ROBIN
        _warm_up(message.round_robin_lb_config, said)
    else:
        message.lb_policy = Cluster.LEAST_REQUEST
        _warm_up(message.least_request_lb_config, said)
    if said and said.consistent_hash:
        _hash(message, said.consistent_hash)


def is_passthrough(policy: Policy) -> bool:
    """Whether connections go where the caller wanted to."""
    return policy.load_balancer is not None and policy.load_balancer.simple == "PASSTHROUGH"


def _warm_up(
    config: cluster_v3.Cluster.RoundRobinLbConfig | cluster_v3.Cluster.LeastRequestLbConfig,
    said: LoadBalancerSettings | None,
) -> None:
    if said is None or not (said.warmup or said.warmup_duration_secs):
        return
    start = config.slow_start_config
    window = said.warmup.duration if said.warmup else said.warmup_duration_secs
    start.slow_start_window.CopyFrom(duration(max(parse_duration(window or "0s"), _SHORTEST_S)))
    if said.warmup:
        aggression = said.warmup.aggression
        start.aggression.default_value = 1.0 if aggression is None else aggression
        start.aggression.runtime_key = _NO_RUNTIME_KEY
        share = said.warmup.minimum_percent
        start.min_weight_percent.value = _WARMUP_SHARE if share is None else share


def _hash(message: cluster_v3.Cluster, said: ConsistentHashLB) -> None:
    message.ClearField("lb_config")
    if said.maglev:
        message.lb_policy = Cluster.MAGLEV
        if said.maglev.table_size:
            message.maglev_lb_config.table_size.value = said.maglev.table_size
        return
    message.lb_policy = Cluster.RING_HASH
    size = said.ring_hash.minimum_ring_size if said.ring_hash else said.minimum_ring_size or _RING_SIZE
    if size:
        message.ring_hash_lb_config.minimum_ring_size.value = size


def outliers(said: OutlierDetection) -> outlier_detection_v3.OutlierDetection:
    """When an endpoint that fails is taken out; by how many others succeed never counts."""
    found = outlier_detection_v3.OutlierDetection(enforcing_success_rate={"value": 0})
    errors = said.consecutive_5xx_errors
    if errors is not None:
        found.consecutive_5xx.value = errors
        found.enforcing_consecutive_5xx.value = 100 if errors else 0
    errors = said.consecutive_gateway_errors
    if errors is not None:
        found.consecutive_gateway_failure.value = errors
        found.enforcing_consecutive_gateway_failure.value = 100 if errors else 0
    if said.interval:
        found.interval.CopyFrom(duration(max(parse_duration(said.interval), _SHORTEST_S)))
    if said.base_ejection_time:
        found.base_ejection_time.CopyFrom(duration(max(parse_duration(said.base_ejection_time), _SHORTEST_S)))
    if said.max_ejection_percent > 0:
        found.max_ejection_percent.value = said.max_ejection_percent
    if said.split_external_local_origin_errors:
        found.split_external_local_origin_errors = True
        if said.consecutive_local_origin_failures:
            found.consecutive_local_origin_failure.value = said.consecutive_local_origin_failures
            found.enforcing_consecutive_local_origin_failure.value = 100
        found.enforcing_local_origin_success_rate.value = 0
    return found
