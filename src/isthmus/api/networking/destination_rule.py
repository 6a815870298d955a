"""DestinationRule: what happens to traffic after routing, and which subsets a host has.

https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Model
from isthmus.api.shapes import Int32, PortSelector, UInt32


class LoadBalancerSettings(Model):
    """How an endpoint is chosen."""

    simple: (
        Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None
    ) = None
    """The algorithm; LEAST_REQUEST when left out, LEAST_CONN is its old name."""


class TCPSettings(Model):
    """Limits of connections, HTTP and TCP."""

    max_connections: Int32 = 0
    """Most connections to the host; 2^32-1 when left out."""
    connect_timeout: Duration | None = None
    """Time limit for making a connection; 10s when left out."""


class HTTPSettings(Model):
    """Limits of HTTP requests."""

    http1_max_pending_requests: Int32 = 0
    """Most requests that wait for a connection; 2^32-1 when left out."""
    http2_max_requests: Int32 = 0
    """Most requests under way to the host; 2^32-1 when left out."""
    max_requests_per_connection: Int32 = 0
    """Most requests on one connection; 1 switches keep-alive off, 0 is no limit."""
    max_retries: Int32 = 0
    """Most retries under way to all endpoints together; 2^32-1 when left out."""
    idle_timeout: Duration | None = None
    """A connection without requests is closed after this time; 1h when left out."""


class ConnectionPoolSettings(Model):
    """Limits of connections and requests to a host."""

    tcp: TCPSettings | None = None
    """Limits of connections, HTTP and TCP."""
    http: HTTPSettings | None = None
    """Limits of HTTP requests."""


class OutlierDetection(Model):
    """When an endpoint that fails is taken out for a while."""

    consecutive_5xx_errors: UInt32 | None = Field(default=None, alias="consecutive5xxErrors")
    """Errors in a row after which an endpoint is ejected; 5 when left out, 0 switches this off."""
    interval: Duration | None = None
    """Time between two looks at the endpoints; 10s when left out."""
    base_ejection_time: Duration | None = None
    """Shortest time of an ejection, times the number of ejections so far; 30s when left out."""
    max_ejection_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Largest share of endpoints that may be out; 10 when left out."""


class ClientTLSSettings(Model):
    """TLS of connections to the host."""

    mode: Literal["DISABLE", "ISTIO_MUTUAL"] = "DISABLE"
    """DISABLE sends plaintext, ISTIO_MUTUAL mutual TLS with the mesh's own certificates."""


class PortTrafficPolicy(Model):
    """Traffic policy of one port of the host."""

    port: PortSelector | None = None
    """The port of the host."""
    load_balancer: LoadBalancerSettings | None = None
    """How an endpoint is chosen."""
    connection_pool: ConnectionPoolSettings | None = None
    """Limits of connections and requests."""
    outlier_detection: OutlierDetection | None = None
    """When an endpoint that fails is taken out for a while."""
    tls: ClientTLSSettings | None = None
    """TLS of connections to the host."""


class TrafficPolicy(Model):
    """What happens to traffic after routing."""

    load_balancer: LoadBalancerSettings | None = None
    """How an endpoint is chosen."""
    connection_pool: ConnectionPoolSettings | None = None
    """Limits of connections and requests."""
    outlier_detection: OutlierDetection | None = None
    """When an endpoint that fails is taken out for a while."""
    tls: ClientTLSSettings | None = None
    """TLS of connections to the host; automatic mutual TLS when left out."""
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    """Policies of single ports; they replace the settings above for that port, and inherit nothing."""


class Subset(Model):
    """A named set of endpoints of the host."""

    name: str
    """Name of the subset, which routes refer to."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels that endpoints of the subset have."""
    traffic_policy: TrafficPolicy | None = None
    """Policy of this subset; what it leaves out comes from the rule's own."""


class DestinationRuleSpec(Model):
    """Spec of a DestinationRule."""

    host: str
    """Name of a service of the registry; a short name is read in the rule's own namespace."""
    traffic_policy: TrafficPolicy | None = None
    """Policy of all the host's traffic."""
    subsets: tuple[Subset, ...] = ()
    """Named sets of endpoints, such as versions."""
    export_to: tuple[str, ...] = ()
    """Namespaces whose callers obey this rule: `.` its own, `*` all (when left out), or a name."""
