"""Connection pools of a policy -> limits, time-outs and the HTTP version of a cluster."""

from collections.abc import Iterable
from typing import TypeAlias

from envoy.config.cluster.v3 import circuit_breaker_pb2 as circuit_breaker_v3
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.common.matcher.v3 import matcher_pb2 as matcher_v3
from envoy.config.core.v3 import address_pb2 as address_v3
from envoy.config.core.v3 import protocol_pb2 as protocol_v3
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http_options_v3

from isthmus.api.duration import parse_duration
from isthmus.api.networking.destination_rule import (
    ConnectionPoolSettings,
    HTTPSettings,
    RetryBudget,
    TcpKeepalive,
)
from isthmus.envoy.message import duration, packed
from isthmus.mesh.destinations import Policy
from isthmus.mesh.model import MeshSettings, Protocol

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
HttpOptions: TypeAlias = http_options_v3.HttpProtocolOptions

_UNLIMITED = 2**32 - 1
_RETRY_SHARE, _RETRIES_AT_LEAST = 20.0, 3
_BUDGET_INTERVAL = 3 << 3 | 2
"""The tag of `RetryBudget.budget_interval`: Envoy knows the field, the messages of xds-protos do not yet."""
_DEFAULT_KEEPALIVE = TcpKeepalive(time="300s", interval="30s")


def limit(
    message: cluster_v3.Cluster, policy: Policy, settings: MeshSettings, *, own_keepalive: bool = True
) -> None:
    """Sets the limits of connections and requests, and how connections are kept alive.

    `own_keepalive`: whether connections are kept alive where nobody says how.
    """
    pool = policy.connection_pool
    tcp = pool.tcp if pool else None
    connect = _seconds(tcp.connect_timeout if tcp else None)
    message.connect_timeout.CopyFrom(duration(connect or settings.connect_timeout_s))
    message.circuit_breakers.thresholds.append(_thresholds(pool, policy.retry_budget))
    wide = settings.keepalive or (_DEFAULT_KEEPALIVE if own_keepalive else None)
    said = [keepalive for keepalive in (wide, tcp.tcp_keepalive if tcp else None) if keepalive]
    if said:
        message.upstream_connection_options.tcp_keepalive.CopyFrom(_keepalive(said))


def _thresholds(
    pool: ConnectionPoolSettings | None, budget: RetryBudget | None
) -> circuit_breaker_v3.CircuitBreakers.Thresholds:
    tcp, http = (pool.tcp, pool.http) if pool else (None, None)
    found = circuit_breaker_v3.CircuitBreakers.Thresholds(
        max_connections={"value": _count(tcp.max_connections if tcp else 0)},
        max_pending_requests={"value": _count(http.http1_max_pending_requests if http else 0)},
        max_requests={"value": _count(http.http2_max_requests if http else 0)},
        max_retries={"value": _count(http.max_retries if http else 0)},
        track_remaining=True,
    )
    if budget:
        share = _RETRY_SHARE if budget.percent is None else budget.percent
        found.retry_budget.budget_percent.value = share
        found.retry_budget.min_retry_concurrency.value = budget.min_retry_concurrency or _RETRIES_AT_LEAST
        if budget.budget_interval:
            interval = duration(_seconds(budget.budget_interval)).SerializeToString()
            found.retry_budget.MergeFromString(bytes((_BUDGET_INTERVAL, len(interval))) + interval)
    return found


def _count(said: int) -> int:
    return said if said > 0 else _UNLIMITED


def _keepalive(said: Iterable[TcpKeepalive]) -> address_v3.TcpKeepalive:
    found = address_v3.TcpKeepalive()
    for keepalive in said:
        if keepalive.probes:
            found.keepalive_probes.value = keepalive.probes
        if keepalive.time is not None:
            found.keepalive_time.value = int(parse_duration(keepalive.time))
        if keepalive.interval is not None:
            found.keepalive_interval.value = int(parse_duration(keepalive.interval))
    return found


def _seconds(said: str | None) -> float:
    return max(parse_duration(said), 0.0) if said else 0.0


# how requests travel


def http_options(
    protocol: Protocol, policy: Policy, *, h2_upgrade: bool = False, sniffed: bool = True
) -> HttpOptions | None:
    """How requests to a port travel; None where no request can be told apart and nothing is said.

    `sniffed`: a port of which nobody said what it speaks takes requests in the version in which they come.
    """
    pool = policy.connection_pool
    http = pool.http if pool else None
    options = HttpOptions()
    _version(options, protocol, _upgrades(http, protocol, mesh=h2_upgrade), sniffed)
    common = _common(pool)
    if common.ByteSize():
        options.common_http_protocol_options.CopyFrom(common)
    if http:
        _streams(options, http)
        if http.use_client_protocol:
            _as_it_came(options)
    errors = policy.outlier_detection
    if errors and errors.outlier_detection_http_error_codes:
        options.outlier_detection.error_matcher.CopyFrom(_any_of(errors.outlier_detection_http_error_codes))
    if not options.ByteSize():
        return None
    return with_version(options)


def with_version(options: HttpOptions) -> HttpOptions:
    """The options, with HTTP/1.1 where none says which version: Envoy wants one."""
    if options.WhichOneof("upstream_protocol_options") is None:
        options.explicit_http_config.http_protocol_options.SetInParent()
    return options


def attach(message: cluster_v3.Cluster, options: HttpOptions | None) -> None:
    """Puts the options into a cluster."""
    if options is not None:
        message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(packed(options))


def is_http2(options: HttpOptions | None) -> bool:
    """Whether requests always travel as HTTP/2."""
    return (
        options is not None
        and options.HasField("explicit_http_config")
        and options.explicit_http_config.HasField("http2_protocol_options")
    )


def _version(options: HttpOptions, protocol: Protocol, upgrade: bool, sniffed: bool) -> None:
    explicit = options.explicit_http_config
    if protocol.is_http2:
        explicit.http2_protocol_options.SetInParent()
    elif protocol is Protocol.AUTO and sniffed:
        _as_it_came(options)
    elif upgrade:
        explicit.http2_protocol_options.SetInParent()
    elif protocol.is_http:
        explicit.http_protocol_options.SetInParent()


def _upgrades(http: HTTPSettings | None, protocol: Protocol, *, mesh: bool) -> bool:
    if http:
        if http.use_client_protocol:
            return False
        if http.h2_upgrade_policy == "UPGRADE":
            return True
        if http.h2_upgrade_policy == "DO_NOT_UPGRADE":
            return False
    return mesh and protocol.is_http


def _as_it_came(options: HttpOptions) -> None:
    options.use_downstream_protocol_config.http_protocol_options.SetInParent()
    options.use_downstream_protocol_config.http2_protocol_options.SetInParent()


def _common(pool: ConnectionPoolSettings | None) -> protocol_v3.HttpProtocolOptions:
    common = protocol_v3.HttpProtocolOptions()
    tcp, http = (pool.tcp, pool.http) if pool else (None, None)
    idle = (http.idle_timeout if http else None) or (tcp.idle_timeout if tcp else None)
    if idle:
        common.idle_timeout.CopyFrom(duration(_seconds(idle)))
        common.idle_timeout.SetInParent()
    if http and http.max_requests_per_connection > 0:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if tcp and tcp.max_connection_duration:
        common.max_connection_duration.CopyFrom(duration(_seconds(tcp.max_connection_duration)))
    return common


def _streams(options: HttpOptions, http: HTTPSettings) -> None:
    if not is_http2(options):
        return
    http2 = options.explicit_http_config.http2_protocol_options
    if http.max_concurrent_streams > 0:
        http2.max_concurrent_streams.value = http.max_concurrent_streams
    said = http.http2_keep_alive
    if said:
        if said.interval:
            http2.connection_keepalive.interval.CopyFrom(duration(_seconds(said.interval)))
        # Envoy refuses pings that nobody waits for
        timeout = _seconds(said.timeout) or _seconds(said.interval)
        if timeout:
            http2.connection_keepalive.timeout.CopyFrom(duration(timeout))


def _any_of(codes: Iterable[int]) -> matcher_v3.MatchPredicate:
    rules = [
        matcher_v3.MatchPredicate(
            http_response_headers_match={
                "headers": [{"name": ":status", "string_match": {"exact": str(code)}}]
            }
        )
        for code in codes
    ]
    if len(rules) == 1:
        return rules[0]
    return matcher_v3.MatchPredicate(or_match={"rules": rules})
