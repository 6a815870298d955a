"""Limits of connections and requests -> their problems."""

from collections.abc import Iterator

from isthmus.api.duration import parse_duration
from isthmus.api.meta import Problem
from isthmus.api.networking.destination_rule import ConnectionPoolSettings, HTTPSettings, TCPSettings
from isthmus.api.rules import conflict, duration, missing, wrong


def connection_pool(at: str, pool: ConnectionPoolSettings) -> Iterator[Problem]:
    """Limits towards a host, or of a workload's own port."""
    if pool.tcp is None and pool.http is None:
        yield missing(at, "connection pool must have at least one field", "give tcp, http or both")
    if pool.http is not None:
        yield from _http(f"{at}.http", pool.http)
    if pool.tcp is not None:
        yield from _tcp(f"{at}.tcp", pool.tcp)


def _http(at: str, http: HTTPSettings) -> Iterator[Problem]:
    limits = {
        "http1MaxPendingRequests": http.http1_max_pending_requests,
        "http2MaxRequests": http.http2_max_requests,
        "maxRequestsPerConnection": http.max_requests_per_connection,
        "maxRetries": http.max_retries,
        "maxConcurrentStreams": http.max_concurrent_streams,
    }
    for name, value in limits.items():
        yield from _not_negative(f"{at}.{name}", value)
    yield from duration(f"{at}.idleTimeout", http.idle_timeout)
    if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
        yield conflict(at, "use client protocol must not be true when H2UpgradePolicy is UPGRADE")
    keepalive = http.http2_keep_alive
    if keepalive is not None:
        for name, text in (("interval", keepalive.interval), ("timeout", keepalive.timeout)):
            if text is None:
                yield missing(f"{at}.http2KeepAlive.{name}", f"http2 keepalive {name} is required")
            yield from duration(f"{at}.http2KeepAlive.{name}", text)


def _tcp(at: str, tcp: TCPSettings) -> Iterator[Problem]:
    yield from _not_negative(f"{at}.maxConnections", tcp.max_connections)
    yield from duration(f"{at}.connectTimeout", tcp.connect_timeout)
    yield from duration(f"{at}.maxConnectionDuration", tcp.max_connection_duration)
    if tcp.idle_timeout is not None and abs(parse_duration(tcp.idle_timeout)) >= 0.001:
        # less than a millisecond is no limit
        yield from duration(f"{at}.idleTimeout", tcp.idle_timeout)
    if tcp.tcp_keepalive is not None:
        yield from duration(f"{at}.tcpKeepalive.time", tcp.tcp_keepalive.time)
        yield from duration(f"{at}.tcpKeepalive.interval", tcp.tcp_keepalive.interval)


def _not_negative(at: str, value: int) -> Iterator[Problem]:
    if value < 0:
        yield from wrong(at, value, "must be non-negative")
