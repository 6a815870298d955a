"""Ways to choose among endpoints -> their problems."""

from collections.abc import Iterator, Sequence
from math import isqrt

from isthmus.api.meta import Problem
from isthmus.api.networking.destination_rule import LoadBalancerSettings, OutlierDetection
from isthmus.api.networking.load_balancing import (
    ConsistentHashLB,
    HTTPCookie,
    LocalityFailover,
    LocalityLoadBalancerSetting,
    WarmupConfiguration,
    ZoneAwareLoadBalancerSetting,
)
from isthmus.api.rules import conflict, duplicates, duration, has, warning, wrong

_TOPOLOGY = {
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
}
_LARGEST_TABLE = 5000011


def load_balancer(
    at: str, settings: LoadBalancerSettings, outlier: OutlierDetection | None
) -> Iterator[Problem]:
    """How an endpoint is chosen; failover needs the outlier detection beside it."""
    chosen = [
        name
        for name, field in (
            ("simple", "simple"),
            ("consistentHash", "consistent_hash"),
            ("backendUtilization", "backend_utilization"),
        )
        if has(settings, field)
    ]
    if len(chosen) > 1:
        yield conflict(at, f"only one of {' and '.join(chosen)} can be set")
    if settings.consistent_hash is not None:
        yield from _consistent_hash(f"{at}.consistentHash", settings.consistent_hash)
    if settings.locality_lb_setting is not None and settings.zone_aware_lb_setting is not None:
        yield conflict(at, "only one of localityLbSetting and zoneAwareLbSetting can be set")
    if settings.locality_lb_setting is not None:
        yield from _locality(f"{at}.localityLbSetting", settings.locality_lb_setting, outlier)
    if settings.zone_aware_lb_setting is not None:
        yield from _zone_aware(f"{at}.zoneAwareLbSetting", settings.zone_aware_lb_setting, outlier)
    if settings.warmup is not None:
        yield from _warmup(f"{at}.warmup", settings.warmup)
    yield from duration(f"{at}.warmupDurationSecs", settings.warmup_duration_secs)


def _consistent_hash(at: str, hash_: ConsistentHashLB) -> Iterator[Problem]:
    keys = ("http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name")
    if sum(has(hash_, key) for key in keys) > 1:
        text = "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName can be set"
        yield conflict(at, text)
    if hash_.ring_hash is not None and hash_.maglev is not None:
        yield conflict(at, "only one of ringHash and maglev can be set")
    if hash_.http_cookie is not None:
        yield from _cookie(f"{at}.httpCookie", hash_.http_cookie)
    if hash_.minimum_ring_size:
        text = "consistent hash MinimumRingSize is deprecated, use ringHash.minimumRingSize instead"
        yield warning(f"{at}.minimumRingSize", text)
        if hash_.ring_hash is not None or hash_.maglev is not None:
            yield conflict(at, "only one of MinimumRingSize or Maglev/Ringhash can be specified")
    if hash_.maglev is not None:
        size = hash_.maglev.table_size or 0
        if not size:
            yield from wrong(f"{at}.maglev.tableSize", size, "tableSize must be set for maglev")
        elif size >= _LARGEST_TABLE:
            yield from wrong(f"{at}.maglev.tableSize", size, "tableSize must be less than 5000011 for maglev")
        elif not _is_prime(size):
            yield from wrong(f"{at}.maglev.tableSize", size, "tableSize must be a prime number for maglev")


def _is_prime(number: int) -> bool:
    return all(number % factor for factor in (2, *range(3, isqrt(number) + 1, 2)) if factor < number)


def _cookie(at: str, cookie: HTTPCookie) -> Iterator[Problem]:
    if not cookie.name:
        yield from wrong(f"{at}.name", "", "name required for HttpCookie")
    for index, attribute in enumerate(cookie.attributes):
        if not attribute.name:
            yield from wrong(f"{at}.attributes[{index}].name", "", "cookie attribute name cannot be empty")
    names = (attribute.name for attribute in cookie.attributes if attribute.name)
    yield from duplicates(f"{at}.attributes", names, "duplicate cookie attribute name")


def _warmup(at: str, warmup: WarmupConfiguration) -> Iterator[Problem]:
    yield from duration(f"{at}.duration", warmup.duration)
    if warmup.aggression is not None and warmup.aggression <= 0:
        yield from wrong(f"{at}.aggression", warmup.aggression, "aggression should be greater than 0")


def _locality(
    at: str, setting: LocalityLoadBalancerSetting, outlier: OutlierDetection | None
) -> Iterator[Problem]:
    if setting.distribute and setting.failover:
        yield conflict(at, "can not simultaneously specify 'distribute' and 'failover'")
    for label in setting.failover_priority if setting.failover else ():
        if label in _TOPOLOGY:
            text = (
                f"can not simultaneously set 'failover' and topology label '{label}' in 'failover_priority'"
            )
            yield from wrong(f"{at}.failoverPriority", label, text)
    for index, distribute in enumerate(setting.distribute):
        where = f"{at}.distribute[{index}].to"
        for locality, weight in distribute.to.items():
            if not 1 <= weight <= 100:
                yield from wrong(f"{where}[{locality}]", weight, "locality weight must be in range [1, 100]")
        if (total := sum(distribute.to.values())) != 100:
            yield conflict(where, f"total locality weight {total} != 100")
        yield from _localities(where, tuple(distribute.to))
    sources = tuple(distribute.from_ for distribute in setting.distribute)
    yield from _localities(f"{at}.distribute", sources)
    yield from _failover(at, setting.failover, "locality lb failover")
    yield from _ejection(at, setting, outlier)


def _zone_aware(
    at: str, setting: ZoneAwareLoadBalancerSetting, outlier: OutlierDetection | None
) -> Iterator[Problem]:
    for label in setting.failover_priority:
        if label in _TOPOLOGY:
            text = f"'failover_priority' for zone aware lb must not use topology label '{label}'"
            yield from wrong(
                f"{at}.failoverPriority", label, text, "Envoy looks at regions and zones by itself"
            )
    yield from _failover(at, setting.failover, "zone aware lb failover")
    yield from _ejection(at, setting, outlier)


def _ejection(
    at: str,
    setting: LocalityLoadBalancerSetting | ZoneAwareLoadBalancerSetting,
    outlier: OutlierDetection | None,
) -> Iterator[Problem]:
    if (setting.failover or setting.failover_priority) and outlier is None:
        yield warning(at, "outlier detection policy must be provided for failover")


def _failover(at: str, failovers: Sequence[LocalityFailover], what: str) -> Iterator[Problem]:
    for index, failover in enumerate(failovers):
        where = f"{at}.failover[{index}]"
        if failover.from_ == failover.to:
            yield conflict(where, f"{what} settings must specify different regions")
        if "/" in failover.from_ + failover.to:
            yield conflict(where, f"{what} only specify region, no zones")
        if "*" in failover.from_ + failover.to:
            yield conflict(where, f"{what} region should not contain '*' wildcard")


def _localities(at: str, localities: Sequence[str]) -> Iterator[Problem]:
    """Localities that are no locality, or that an earlier one of the list covers or belongs to."""
    wholes: set[tuple[str, ...]] = set()
    inner: set[tuple[str, ...]] = set()
    for locality in localities:
        parts = tuple(locality.split("/", 2))
        if locality.count("*") > 1 or ("*" in locality and not locality.endswith("*")):
            text = "locality wildcard '*' number can not exceed 1 and must be in the end"
            yield from wrong(at, locality, text)
            continue
        if "" in parts:
            yield from wrong(at, locality, "locality must not contain empty region/zone/subzone info")
            continue
        place = parts[:-1] if parts[-1] == "*" else parts
        above = {place[:length] for length in range(len(place) + 1)}
        # `*` after others stands for the rest
        if above & wholes or (place and place in inner):
            yield from wrong(at, locality, "locality overlap with previous specified ones")
            continue
        wholes.add(place)
        inner |= above - {place}
