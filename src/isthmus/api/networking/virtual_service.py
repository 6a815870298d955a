"""VirtualService: how requests to a host are routed.

https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Later, Model, NullIsEmpty, Refused
from isthmus.api.networking.http_options import CorsPolicy, Delegate, RegexRewrite
from isthmus.api.shapes import Int32, Percent, PortSelector, StringMatch, UInt32

_NEVER = "as in Istio, where it was never built"


class Destination(Model):
    """Where requests go once routing is done."""

    host: str
    """Name of a service of the registry; a short name is read in the rule's own namespace."""
    subset: str = ""
    """Name of a subset, which a DestinationRule of the host must define."""
    port: PortSelector | None = None
    """The port of the host; may be left out when the host has one port."""


class HeaderOperations(Model):
    """Changes of the headers of a request or a response."""

    set: Mapping[str, str] = Field(default_factory=dict)
    """Headers that are overwritten with these values."""
    add: Mapping[str, str] = Field(default_factory=dict)
    """Values that are appended to these headers."""
    remove: tuple[str, ...] = ()
    """Headers that are removed."""


class Headers(Model):
    """Changes of headers on the way."""

    request: HeaderOperations | None = None
    """Changes before the request goes to the destination."""
    response: HeaderOperations | None = None
    """Changes before the response goes to the caller."""


class HTTPRouteDestination(Model):
    """One destination of an HTTP route, with its share of the requests."""

    destination: Destination
    """Where the requests go."""
    weight: Int32 = 0
    """Share of this destination in relation to the sum of all weights; a single destination gets all."""
    headers: Headers | None = None
    """Changes of headers for this destination only."""


class HTTPMatchRequest(Model):
    """Conditions on a request; all that are set must hold."""

    name: str = ""
    """Name of the match, for people."""
    uri: StringMatch | None = None
    """The path (without query)."""
    scheme: StringMatch | None = None
    """The scheme, http or https."""
    method: StringMatch | None = None
    """The HTTP method."""
    authority: StringMatch | None = None
    """The host that the request names."""
    headers: Mapping[str, StringMatch] = Field(default_factory=dict)
    """Headers by lower-case name; an empty match asks only that the header is there."""
    query_params: Mapping[str, StringMatch] = Field(default_factory=dict)
    """Query parameters by name."""
    without_headers: Mapping[str, StringMatch] = Field(default_factory=dict)
    """Headers that must not match; an empty match asks that the header is not there."""
    ignore_uri_case: bool = False
    """Upper and lower case of the path are the same (exact and prefix only)."""
    port: UInt32 | None = None
    """The port of the host that the request is addressed to."""
    source_labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the calling workload; not for gateways."""
    gateways: tuple[str, ...] = ()
    """Gateways (or `mesh`) for which the condition is about; those of the VirtualService when left out."""
    source_namespace: str = ""
    """Namespace of the calling workload."""
    stat_prefix: str = ""
    """Beginning of the names of the statistics of this route."""


class HTTPRedirect(Model):
    """Answers with a redirect instead of routing."""

    uri: str = ""
    """Path of the redirect's location."""
    authority: str = ""
    """Host of the redirect's location."""
    prefix_rewrite: str = ""
    """What replaces the part of the path that a prefix matched; not together with `uri`."""
    port: UInt32 | None = None
    """Port of the redirect's location."""
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    """Where the port of the location comes from when `port` is left out."""
    scheme: str = ""
    """Scheme of the redirect's location, http or https."""
    redirect_code: UInt32 = 0
    """Status code of the answer; 301 when left out."""


class HTTPRewrite(Model):
    """Changes the path or the host before the request goes on."""

    uri: str = ""
    """What replaces the path, or the part of it that a prefix matched."""
    authority: str = ""
    """What replaces the host."""
    uri_regex_rewrite: RegexRewrite | None = None
    """Replaces what an expression finds in the path; not together with `uri`."""


class HTTPBody(Model):
    """Body of a direct response."""

    string: str | None = None
    """The body as text."""
    bytes: str | None = None
    """The body as base64."""


class HTTPDirectResponse(Model):
    """Answers with a fixed response instead of routing."""

    status: UInt32
    """Status code of the answer, 200 to 599."""
    body: HTTPBody | None = None
    """Body of the answer; none when left out."""


class HTTPRetry(Model):
    """When a failed request is tried again."""

    attempts: Int32 = 0
    """How many times it is tried again at most; 0 switches retries off."""
    per_try_timeout: Duration | None = None
    """Time limit of each try, the first included; the route's timeout when left out."""
    retry_on: str = ""
    """Conditions for another try, by commas: Envoy's names (5xx, connect-failure, …) or status codes."""
    retry_remote_localities: bool | None = None
    """Whether another try may go to another locality."""
    retry_ignore_previous_hosts: bool | None = None
    """Whether another try avoids the endpoints that were tried before; true when left out."""
    backoff: Duration | None = None
    """Shortest wait before another try; 25ms when left out."""


class Delay(Model):
    """Delays requests before they are sent on."""

    percentage: Percent | None = None
    """Share of requests that are delayed; none when left out."""
    percent: Int32 = 0
    """Old way to spell `percentage`, in whole percents."""
    fixed_delay: Duration | None = None
    """How long they are delayed; at least 1ms."""
    exponential_delay: Annotated[Duration | None, Refused(_NEVER)] = None
    """A delay that grows by chance."""


class Abort(Model):
    """Answers requests with an error instead of sending them on."""

    percentage: Percent | None = None
    """Share of requests that are aborted; none when left out."""
    http_status: Int32 | None = None
    """Status code of the answer, 200 to 599."""
    grpc_status: str | None = None
    """gRPC status of the answer by its name, such as UNAVAILABLE."""
    http2_error: Annotated[str | None, Refused(_NEVER)] = Field(default=None, alias="http2Error")
    """HTTP/2's error code of a stream that is reset."""


class HTTPFaultInjection(Model):
    """Faults on purpose, to see what callers make of them."""

    delay: Delay | None = None
    """Delays requests."""
    abort: Abort | None = None
    """Aborts requests."""


class HTTPMirrorPolicy(Model):
    """A destination that gets copies of requests; its answers are thrown away."""

    destination: Destination
    """Where the copies go."""
    percentage: Percent | None = None
    """Share of requests that are copied; all when left out."""


class HTTPRoute(Model):
    """One rule of the route table: the first rule that matches wins."""

    name: str = ""
    """Name of the route, which access logs show."""
    match: Annotated[tuple[HTTPMatchRequest, ...], NullIsEmpty()] = ()
    """Conditions of which one must hold; without any, every request matches."""
    route: tuple[HTTPRouteDestination, ...] = ()
    """Destinations of the requests; exactly one of route, redirect and directResponse is set."""
    redirect: HTTPRedirect | None = None
    """Answers with a redirect."""
    direct_response: HTTPDirectResponse | None = None
    """Answers with a fixed response."""
    rewrite: HTTPRewrite | None = None
    """Changes path or host before the request goes on; not with a redirect."""
    timeout: Duration | None = None
    """Time limit of the whole request; none when left out."""
    retries: HTTPRetry | None = None
    """When a failed request is tried again."""
    fault: HTTPFaultInjection | None = None
    """Faults on purpose, at the caller's side."""
    headers: Headers | None = None
    """Changes of headers."""
    delegate: Delegate | None = None
    """A VirtualService without hosts whose rules continue this one; not with route or redirect."""
    mirror: Destination | None = None
    """A destination that gets a copy of each request; its answers are thrown away."""
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    """Several destinations that get copies; not together with `mirror`."""
    mirror_percentage: Percent | None = None
    """Share of requests that `mirror` gets; all when left out."""
    mirror_percent: UInt32 | None = None
    """Old way to spell `mirrorPercentage`, in whole percents."""
    mirror_percent_snake: Annotated[UInt32 | None, Field(alias="mirror_percent")] = None
    """Oldest way to spell `mirrorPercentage`."""
    cors_policy: CorsPolicy | None = None
    """Cross-origin requests that browsers may make."""


class L4MatchAttributes(Model):
    """Conditions on a connection; all that are set must hold."""

    destination_subnets: tuple[str, ...] = ()
    """Addresses or CIDR ranges that the connection was made to."""
    port: UInt32 | None = None
    """The port of the host that the connection is addressed to."""
    source_subnet: Annotated[str, Later("as in Istio; callers are chosen by `sourceLabels`")] = ""
    """Range of the caller's address."""
    source_labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the calling workload; not for gateways."""
    gateways: tuple[str, ...] = ()
    """Gateways (or `mesh`) that the condition is about; those of the VirtualService when left out."""
    source_namespace: str = ""
    """Namespace of the calling workload."""


class RouteDestination(Model):
    """One destination of a TCP route, with its share of the connections."""

    destination: Destination
    """Where the connections go."""
    weight: Int32 = 0
    """Share of this destination in relation to the sum of all weights; a single destination gets all."""


class TCPRoute(Model):
    """One rule for connections: the first rule that matches wins."""

    match: tuple[L4MatchAttributes, ...] = ()
    """Conditions of which one must hold; without any, every connection matches."""
    route: tuple[RouteDestination, ...] = ()
    """Destinations of the connections."""


class TLSMatchAttributes(Model):
    """Conditions on a TLS connection that is passed on as it is; all that are set must hold."""

    sni_hosts: tuple[str, ...] = ()
    """Names of which the client must ask for one; a name may begin with `*.`."""
    destination_subnets: tuple[str, ...] = ()
    """Addresses or CIDR ranges that the connection was made to."""
    port: UInt32 | None = None
    """The port of the host that the connection is addressed to."""
    source_labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the calling workload; not for gateways."""
    gateways: tuple[str, ...] = ()
    """Gateways (or `mesh`) that the condition is about; those of the VirtualService when left out."""
    source_namespace: str = ""
    """Namespace of the calling workload."""


class TLSRoute(Model):
    """One rule for TLS connections that are not opened on the way: the first rule that matches wins."""

    match: tuple[TLSMatchAttributes, ...] = ()
    """Conditions of which one must hold."""
    route: tuple[RouteDestination, ...] = ()
    """Destinations of the connections."""


class VirtualServiceSpec(Model):
    """Spec of a VirtualService."""

    hosts: tuple[str, ...] = ()
    """The hosts whose traffic is routed; a short name is read in the rule's own namespace."""
    gateways: tuple[str, ...] = ()
    """Where the rules apply: Gateways by `namespace/name`; `mesh` (also when left out) is all sidecars."""
    http: tuple[HTTPRoute, ...] = ()
    """Ordered rules for HTTP ports (HTTP, HTTP2, GRPC)."""
    tcp: tuple[TCPRoute, ...] = ()
    """Ordered rules for all other ports."""
    tls: tuple[TLSRoute, ...] = ()
    """Ordered rules for TLS that the proxy does not open."""
    export_to: tuple[str, ...] = ()
    """Namespaces whose callers obey this rule: `.` its own, `*` all (when left out), or a name."""
