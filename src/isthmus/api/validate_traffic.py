"""DestinationRule and PeerAuthentication -> their problems."""

from collections.abc import Iterator

from isthmus.api.meta import Problem
from isthmus.api.networking.destination_rule import (
    ConnectionPoolSettings,
    DestinationRuleSpec,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
)
from isthmus.api.rules import duplicates, duration, export_to, labels, selector, warning, wrong
from isthmus.api.security import PeerAuthenticationSpec
from isthmus.api.syntax import dns_label, host

_PARTS = ("load_balancer", "connection_pool", "outlier_detection", "tls")


def destination_rule(spec: DestinationRuleSpec) -> Iterator[Problem]:
    """The problems of a DestinationRule by itself."""
    yield from wrong("spec.host", spec.host, host(spec.host))
    if spec.traffic_policy:
        yield from _policy("spec.trafficPolicy", spec.traffic_policy)
    for index, subset in enumerate(spec.subsets):
        at = f"spec.subsets[{index}]"
        yield from wrong(f"{at}.name", subset.name, dns_label(subset.name))
        yield from labels(f"{at}.labels", subset.labels)
        if subset.traffic_policy:
            yield from _policy(f"{at}.trafficPolicy", subset.traffic_policy)
    yield from duplicates("spec.subsets", (subset.name for subset in spec.subsets), "subset")
    yield from export_to("spec.exportTo", spec.export_to)


def peer_authentication(spec: PeerAuthenticationSpec) -> Iterator[Problem]:
    """The problems of a PeerAuthentication by itself."""
    matched = spec.selector.match_labels if spec.selector else {}
    yield from selector("spec.selector.matchLabels", matched)
    if spec.selector is not None and not matched:
        yield warning("spec.selector", "selects nothing in particular: the policy is the whole namespace's")
    if spec.port_level_mtls and not matched:
        yield Problem(
            "spec.portLevelMtls",
            "portLevelMtls requires selector",
            "say by spec.selector.matchLabels whose ports",
        )


def _policy(at: str, policy: TrafficPolicy) -> Iterator[Problem]:
    if not policy.port_level_settings and not any(getattr(policy, part) for part in _PARTS):
        yield Problem(at, "is empty", "leave it out")
    yield from _parts(at, policy)
    for index, settings in enumerate(policy.port_level_settings):
        where = f"{at}.portLevelSettings[{index}]"
        if settings.port is None:
            yield Problem(f"{where}.port", "required field is missing")
        yield from _parts(where, settings)
    ports = (settings.port.number for settings in policy.port_level_settings if settings.port)
    yield from duplicates(f"{at}.portLevelSettings", ports, "port")


def _parts(at: str, policy: TrafficPolicy | PortTrafficPolicy) -> Iterator[Problem]:
    if policy.connection_pool is not None:
        yield from _connection_pool(f"{at}.connectionPool", policy.connection_pool)
    if policy.outlier_detection is not None:
        yield from _outlier_detection(f"{at}.outlierDetection", policy.outlier_detection)


def _connection_pool(at: str, pool: ConnectionPoolSettings) -> Iterator[Problem]:
    if pool.tcp is None and pool.http is None:
        yield Problem(at, "is empty", "give tcp, http or both")
    if pool.tcp:
        yield from _not_negative(f"{at}.tcp.maxConnections", pool.tcp.max_connections)
        yield from duration(f"{at}.tcp.connectTimeout", pool.tcp.connect_timeout)
    if pool.http:
        http = pool.http
        yield from _not_negative(f"{at}.http.http1MaxPendingRequests", http.http1_max_pending_requests)
        yield from _not_negative(f"{at}.http.http2MaxRequests", http.http2_max_requests)
        yield from _not_negative(f"{at}.http.maxRequestsPerConnection", http.max_requests_per_connection)
        yield from _not_negative(f"{at}.http.maxRetries", http.max_retries)
        yield from duration(f"{at}.http.idleTimeout", http.idle_timeout)


def _outlier_detection(at: str, detection: OutlierDetection) -> Iterator[Problem]:
    yield from duration(f"{at}.interval", detection.interval)
    yield from duration(f"{at}.baseEjectionTime", detection.base_ejection_time)


def _not_negative(at: str, value: int) -> Iterator[Problem]:
    if value < 0:
        yield Problem(at, f"{value} is negative")
