"""DestinationRule: what happens to traffic after routing, and which subsets a host has.

https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Later, Model
from isthmus.api.networking.load_balancing import (
    BackendUtilization,
    ConsistentHashLB,
    LocalityLoadBalancerSetting,
    WarmupConfiguration,
    ZoneAwareLoadBalancerSetting,
)
from isthmus.api.shapes import Int32, LabelSelector, PortSelector, UInt32

_ROUND_ROBIN = "endpoints are chosen by least requests"


class LoadBalancerSettings(Model):
    """How an endpoint is chosen."""

    simple: (
        Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None
    ) = None
    """The algorithm; LEAST_REQUEST when left out, LEAST_CONN is its old name."""
    consistent_hash: ConsistentHashLB | None = None
    """Chooses by a hash of the request, so that equal requests meet the same endpoint."""
    backend_utilization: Annotated[BackendUtilization | None, Later(_ROUND_ROBIN)] = None
    """Chooses by the load that endpoints report."""
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    """How traffic spreads over localities and where it goes when one fails."""
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    """Lets Envoy keep traffic in the caller's zone as far as the zone's share of callers allows."""
    warmup_duration_secs: Duration | None = None
    """Old way to spell `warmup.duration`."""
    warmup: WarmupConfiguration | None = None
    """New endpoints get more traffic little by little."""


class TcpKeepalive(Model):
    """TCP keep-alive of connections to the host; left out, the operating system's values hold."""

    probes: UInt32 = 0
    """Probes without answer after which the connection is dead."""
    time: Duration | None = None
    """Idle time before the first probe."""
    interval: Duration | None = None
    """Time between probes."""


class Http2KeepAlive(Model):
    """HTTP/2 pings to the host."""

    interval: Duration | None = None
    """Time between pings."""
    timeout: Duration | None = None
    """Time to wait for the answer to a ping."""


class TCPSettings(Model):
    """Limits of connections, HTTP and TCP."""

    max_connections: Int32 = 0
    """Most connections to the host; 2^32-1 when left out."""
    connect_timeout: Duration | None = None
    """Time limit for making a connection; 10s when left out."""
    tcp_keepalive: TcpKeepalive | None = None
    """TCP keep-alive of connections to the host."""
    max_connection_duration: Duration | None = None
    """Longest life of a connection; no limit when left out."""
    idle_timeout: Duration | None = None
    """A TCP connection without bytes is closed after this time; 1h when left out, 0s switches it off."""


class HTTPSettings(Model):
    """Limits of HTTP requests."""

    h2_upgrade_policy: Annotated[
        Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"], Field(alias="h2UpgradePolicy")
    ] = "DEFAULT"
    """Whether HTTP/1.1 requests go to the host as HTTP/2."""
    use_client_protocol: bool = False
    """Whether requests go to the host in the protocol in which they came; not with an upgrade to HTTP/2."""
    max_concurrent_streams: Int32 = 0
    """Most streams under way on one HTTP/2 connection."""
    http2_keep_alive: Annotated[Http2KeepAlive | None, Field(alias="http2KeepAlive")] = None
    """HTTP/2 pings to the host."""

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
    max_ejection_percent: Int32 = 0
    """Largest share of endpoints that may be out; 10 when left out."""
    min_health_percent: Int32 = 0
    """Ejection stops while a smaller share of endpoints than this is healthy; 0 when left out."""
    consecutive_gateway_errors: UInt32 | None = None
    """Gateway errors (502, 503, 504) in a row after which an endpoint is ejected; off when left out."""
    consecutive_errors: Annotated[Int32, Later("use `consecutive5xxErrors`")] = 0
    """Old counter of gateway errors."""
    split_external_local_origin_errors: bool = False
    """Whether errors of the connection are counted apart from errors that the endpoint answers."""
    consecutive_local_origin_failures: UInt32 | None = None
    """Errors of the connection in a row after which an endpoint is ejected; needs the split."""
    outlier_detection_http_error_codes: tuple[Annotated[int, Field(ge=100, le=599)], ...] = ()
    """Status codes that count as errors."""


class ClientTLSSettings(Model):
    """TLS of connections to the host."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    """Plaintext, TLS, TLS with an own certificate, or the mesh's own mutual TLS."""
    client_certificate: str = ""
    """Path of the client's certificate, for MUTUAL."""
    private_key: str = ""
    """Path of the client's private key, for MUTUAL."""
    ca_certificates: str = ""
    """Path of the certificates that the server's must lead to; the system's when left out."""
    credential_name: str = ""
    """Name of the secret that holds key and certificates."""
    subject_alt_names: tuple[str, ...] = ()
    """Names of which the server's certificate must have one."""
    sni: str = ""
    """Name that the client asks for."""
    insecure_skip_verify: bool | None = None
    """Whether the server's certificate is taken unseen."""
    ca_crl: str = ""
    """Path of a list of revoked certificates."""


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


class TunnelSettings(Model):
    """Sends TCP connections through an HTTP proxy."""

    protocol: str = ""
    """How the tunnel is asked for: CONNECT (when left out) or POST."""
    target_host: str
    """Host that the tunnel leads to."""
    target_port: UInt32
    """Port that the tunnel leads to."""


class ProxyProtocol(Model):
    """Sends the caller's address in front of a connection's bytes."""

    version: Literal["V1", "V2"] = "V1"
    """Version of the PROXY protocol."""


class RetryBudget(Model):
    """Limits retries by the share of requests that they make up."""

    percent: Annotated[float, Field(ge=0, le=100)] | None = None
    """Largest share of retries among the requests; 20 when left out."""
    min_retry_concurrency: UInt32 = 0
    """Retries that are always allowed; 3 when left out."""
    budget_interval: Duration | None = None
    """Time over which requests are counted."""


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
    port_level_settings: Annotated[tuple[PortTrafficPolicy, ...], Field(max_length=4096)] = ()
    """Policies of single ports; they replace the settings above for that port, and inherit nothing."""
    tunnel: TunnelSettings | None = None
    """Sends TCP connections through an HTTP proxy."""
    proxy_protocol: ProxyProtocol | None = None
    """Sends the caller's address in front of a connection's bytes."""
    retry_budget: RetryBudget | None = None
    """Limits retries by the share of requests that they make up."""


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
    workload_selector: LabelSelector | None = None
    """Calling workloads (of the rule's own namespace) that obey this rule; all when left out."""
