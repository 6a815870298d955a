"""VirtualService: how requests to a host are routed.

https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from collections.abc import Mapping

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Model
from isthmus.api.shapes import Int32, Percent, PortNumber, PortSelector, StringMatch, UInt32


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
    port: PortNumber | None = None
    """The port of the host that the request is addressed to."""


class HTTPRedirect(Model):
    """Answers with a redirect instead of routing."""

    uri: str = ""
    """Path of the redirect's location."""
    authority: str = ""
    """Host of the redirect's location."""
    port: PortNumber | None = None
    """Port of the redirect's location."""
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


class HTTPBody(Model):
    """Body of a direct response."""

    string: str | None = None
    """The body as text."""


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


class Delay(Model):
    """Delays requests before they are sent on."""

    percentage: Percent | None = None
    """Share of requests that are delayed; all when left out."""
    fixed_delay: Duration
    """How long they are delayed; at least 1ms."""


class Abort(Model):
    """Answers requests with an error instead of sending them on."""

    percentage: Percent | None = None
    """Share of requests that are aborted; all when left out."""
    http_status: Int32
    """Status code of the answer, 200 to 599."""


class HTTPFaultInjection(Model):
    """Faults on purpose, to see what callers make of them."""

    delay: Delay | None = None
    """Delays requests."""
    abort: Abort | None = None
    """Aborts requests."""


class HTTPRoute(Model):
    """One rule of the route table: the first rule that matches wins."""

    name: str = ""
    """Name of the route, which access logs show."""
    match: tuple[HTTPMatchRequest, ...] = ()
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


class L4MatchAttributes(Model):
    """Conditions on a connection; all that are set must hold."""

    port: PortNumber | None = None
    """The port of the host that the connection is addressed to."""


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


class VirtualServiceSpec(Model):
    """Spec of a VirtualService."""

    hosts: tuple[str, ...] = ()
    """The hosts whose traffic is routed; a short name is read in the rule's own namespace."""
    gateways: tuple[str, ...] = ()
    """Where the rules apply; `mesh` (also when left out) stands for all sidecars."""
    http: tuple[HTTPRoute, ...] = ()
    """Ordered rules for HTTP ports (HTTP, HTTP2, GRPC)."""
    tcp: tuple[TCPRoute, ...] = ()
    """Ordered rules for all other ports."""
    export_to: tuple[str, ...] = ()
    """Namespaces whose callers obey this rule: `.` its own, `*` all (when left out), or a name."""
