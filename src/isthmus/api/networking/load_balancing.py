"""Ways to choose among endpoints: hashes, localities, load, warm-up.

https://istio.io/latest/docs/reference/config/networking/destination-rule/#LoadBalancerSettings
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Model
from isthmus.api.shapes import UInt32, UInt64


class HTTPCookieAttribute(Model):
    """An attribute of a cookie, such as SameSite."""

    name: str
    """Name of the attribute."""
    value: str = ""
    """Value of the attribute; none when left out."""


class HTTPCookie(Model):
    """The cookie whose value is hashed; made by the proxy when a caller has none."""

    name: str
    """Name of the cookie."""
    path: str = ""
    """Path for which the cookie is made."""
    ttl: Duration | None = None
    """Lifetime of the cookie; 0s is until the browser ends."""
    attributes: tuple[HTTPCookieAttribute, ...] = ()
    """Further attributes of the cookie."""


class RingHash(Model):
    """Endpoints on a ring of hashes."""

    minimum_ring_size: UInt64 = 0
    """Fewest places on the ring; 1024 when left out. More places spread the load more evenly."""


class Maglev(Model):
    """Google's Maglev: less even than a ring, but faster to build."""

    table_size: UInt64 | None = None
    """Size of the table, a prime number below 5000011; 65537 when left out."""


class ConsistentHashLB(Model):
    """Chooses by a hash; exactly one of the things to hash is set."""

    http_header_name: str | None = None
    """Hashes this header."""
    http_cookie: HTTPCookie | None = None
    """Hashes this cookie."""
    use_source_ip: bool | None = None
    """Hashes the caller's address."""
    http_query_parameter_name: str | None = None
    """Hashes this query parameter."""
    ring_hash: RingHash | None = None
    """Places endpoints on a ring."""
    maglev: Maglev | None = None
    """Places endpoints in Maglev's table."""
    minimum_ring_size: UInt64 = 0
    """Old way to spell `ringHash.minimumRingSize`."""


class BackendUtilization(Model):
    """Weights that follow the load which endpoints report (ORCA)."""

    metric_names_for_computing_utilization: tuple[str, ...] = ()
    """Reported metrics that count as load; the processor's when left out."""
    weight_stabilization_period: Duration | None = None
    """Time that an endpoint must have reported for its weight to count."""
    weight_expiration_period: Duration | None = None
    """Time after which an old report counts no more."""
    weight_update_period: Duration | None = None
    """Time between two computations of the weights."""
    error_utilization_penalty_percent: UInt32 = 0
    """How much errors weigh against an endpoint, in percent."""


class LocalityDistribute(Model):
    """Where the traffic of callers in one locality goes."""

    from_: str = Field(default="", alias="from")
    """Locality of the callers, as region/zone/subzone; may end in `*`."""
    to: Mapping[str, UInt32] = Field(default_factory=dict)
    """Shares by locality of the endpoints; together 100."""


class LocalityFailover(Model):
    """Where the traffic of a region goes when its own endpoints fail."""

    from_: str = Field(default="", alias="from")
    """Region of the callers."""
    to: str = ""
    """Region that takes over."""


class LocalityLoadBalancerSetting(Model):
    """How traffic spreads over localities; `distribute` and `failover` exclude each other."""

    distribute: tuple[LocalityDistribute, ...] = ()
    """Shares of traffic between localities."""
    failover: tuple[LocalityFailover, ...] = ()
    """Regions that take over; needs outlier detection."""
    failover_priority: tuple[str, ...] = ()
    """Labels in the order of their weight: endpoints that share more of the first come first."""
    enabled: bool | None = None
    """Whether localities count; true when left out."""


class ZoneAwareLoadBalancerSetting(Model):
    """Envoy's zone aware routing."""

    enabled: bool | None = None
    """Whether zones count."""
    failover: tuple[LocalityFailover, ...] = ()
    """Regions that take over; needs outlier detection."""
    failover_priority: tuple[str, ...] = ()
    """Labels in the order of their weight; topology labels are not for this list."""
    min_cluster_size: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = None
    """Fewest endpoints for which zones count; 6 when left out."""


class WarmupConfiguration(Model):
    """New endpoints get more traffic little by little."""

    duration: Duration
    """Time until an endpoint has its full share."""
    minimum_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    """Share that it begins with; 10 when left out."""
    aggression: Annotated[float, Field(ge=0)] | None = None
    """How fast the share grows at first: 1.0, which is evenly, when left out."""
