"""One HTTP rule -> one Envoy route: match, destinations, rewrites, redirects, timeouts, copies, hashes.

Meanings are Istio's (https://istio.io/latest/docs/reference/config/networking/virtual-service/): no time
limit unless one is given, and two retries of failures that happened before the request was worked on.
"""

import base64
import binascii
from collections.abc import Iterable

from envoy.config.route.v3 import route_components_pb2 as route_components_v3

from isthmus.api.duration import parse_duration
from isthmus.api.networking.load_balancing import ConsistentHashLB, HTTPCookie
from isthmus.api.networking.virtual_service import HTTPDirectResponse, HTTPRedirect, HTTPRetry, HTTPRewrite
from isthmus.api.shapes import Percent
from isthmus.envoy import naming
from isthmus.envoy.filters import CORS_FILTER, FAULT_FILTER
from isthmus.envoy.matches import route_match
from isthmus.envoy.message import duration, packed, time_limits
from isthmus.envoy.rules_filters import cors, fault, share
from isthmus.envoy.rules_headers import change_headers, host_override
from isthmus.envoy.rules_retries import retry_policy
from isthmus.mesh.model import Destination
from isthmus.mesh.routing_table import HttpRule, Mirror

_REDIRECTS = {
    0: route_components_v3.RedirectAction.MOVED_PERMANENTLY,
    301: route_components_v3.RedirectAction.MOVED_PERMANENTLY,
    302: route_components_v3.RedirectAction.FOUND,
    303: route_components_v3.RedirectAction.SEE_OTHER,
    307: route_components_v3.RedirectAction.TEMPORARY_REDIRECT,
    308: route_components_v3.RedirectAction.PERMANENT_REDIRECT,
}
_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL_SAFE = str.maketrans("-_", "+/")


def default_route(
    cluster: str, hashed: ConsistentHashLB | None = None, retries: HTTPRetry | None = None
) -> route_components_v3.Route:
    """All requests to one cluster. `retries` is what the mesh says when nobody else does."""
    policy = _hash_policy(hashed)
    return route_components_v3.Route(
        name="default",
        match={"prefix": "/"},
        route={
            "cluster": cluster,
            **time_limits(),
            "retry_policy": retry_policy(retries, sticky=False),
            "hash_policy": [policy] if policy else [],
        },
    )


def rule_route(
    rule: HttpRule, *, tls: bool = False, retries: HTTPRetry | None = None
) -> route_components_v3.Route:
    """The route of a rule; `tls` says whether its requests come over TLS that the proxy opens."""
    said = rule.actions
    route = route_components_v3.Route(
        name=rule.name, match=route_match(rule.match, by_segment=rule.by_segment)
    )
    if rule.match and rule.match.stat_prefix:
        route.stat_prefix = rule.match.stat_prefix
    change_headers(route, said.headers)
    if said.redirect:
        route.redirect.CopyFrom(_redirect(said.redirect, rule.port, tls=tls))
    elif said.direct_response:
        route.direct_response.CopyFrom(_direct_response(said.direct_response))
    else:
        if len(rule.destinations) == 1:
            change_headers(route, rule.destinations[0].headers)
        route.route.CopyFrom(_forward(rule, retries))
    broken = fault(said.fault)
    if broken is not None:
        route.typed_per_filter_config[FAULT_FILTER].CopyFrom(packed(broken))
    if said.cors_policy:
        route.typed_per_filter_config[CORS_FILTER].CopyFrom(packed(cors(said.cors_policy)))
    return route


def weights(destinations: Iterable[Destination]) -> list[tuple[Destination, int]]:
    """Destinations with their share; those without a share are left out, unless nobody has one."""
    found = list(destinations)
    shares = [(d, d.weight) for d in found if d.weight > 0]
    return shares or [(d, 1) for d in found]


def _forward(rule: HttpRule, retries: HTTPRetry | None) -> route_components_v3.RouteAction:
    said = rule.actions
    action = route_components_v3.RouteAction(
        **time_limits(max(parse_duration(said.timeout), 0.0) if said.timeout else 0.0),
        request_mirror_policies=[_copy(mirror) for mirror in rule.mirrors],
        hash_policy=[policy for hashed in rule.hashes if (policy := _hash_policy(hashed))],
    )
    if said.rewrite:
        _rewrite(action, said.rewrite)
    host = (said.rewrite.authority if said.rewrite else "") or host_override(said.headers)
    if len(rule.destinations) == 1:
        only = rule.destinations[0]
        action.cluster = _cluster(only)
        # what the rule says of the host counts more than what its destination says
        host = host or host_override(only.headers)
    else:
        for destination, weight in weights(rule.destinations):
            cluster = action.weighted_clusters.clusters.add(name=_cluster(destination))
            cluster.weight.value = weight
            change_headers(cluster, destination.headers)
            if written := host_override(destination.headers):
                cluster.host_rewrite_literal = written
    if host:
        action.host_rewrite_literal = host
    sticky = len(rule.destinations) == 1 and bool(rule.hashes)
    policy = retry_policy(said.retries or retries, sticky=sticky)
    if policy is not None:
        action.retry_policy.CopyFrom(policy)
    return action


def _cluster(destination: Destination | Mirror) -> str:
    return naming.outbound(destination.host, destination.port, destination.subset)


def _rewrite(action: route_components_v3.RouteAction, said: HTTPRewrite) -> None:
    if said.uri_regex_rewrite:
        action.regex_rewrite.pattern.regex = said.uri_regex_rewrite.match
        action.regex_rewrite.substitution = said.uri_regex_rewrite.rewrite
    elif said.uri:
        action.prefix_rewrite = said.uri


def _copy(mirror: Mirror) -> route_components_v3.RouteAction.RequestMirrorPolicy:
    everything = Percent(value=100.0)
    return route_components_v3.RouteAction.RequestMirrorPolicy(
        cluster=_cluster(mirror),
        runtime_fraction={"default_value": share(mirror.percentage or everything)},
        trace_sampled={"value": False},
        # the copy's host is that of the request, as the destination knows it
        disable_shadow_host_suffix_append=True,
    )


def _redirect(said: HTTPRedirect, port: int, *, tls: bool) -> route_components_v3.RedirectAction:
    action = route_components_v3.RedirectAction(
        host_redirect=said.authority, response_code=_REDIRECTS[said.redirect_code]
    )
    if said.prefix_rewrite:
        action.prefix_rewrite = said.prefix_rewrite
    elif said.uri:
        action.path_redirect = said.uri
    if said.scheme:
        action.scheme_redirect = said.scheme
    # Envoy cannot take the port from the request, but we know it: routes are made for one port
    asked = port if said.derive_port == "FROM_REQUEST_PORT" else 0
    wanted = said.port if said.port is not None else asked
    # nobody spells the port that the scheme means anyway
    if wanted != _DEFAULT_PORTS.get(said.scheme or ("https" if tls else "http")):
        action.port_redirect = wanted
    return action


def _direct_response(said: HTTPDirectResponse) -> route_components_v3.DirectResponseAction:
    action = route_components_v3.DirectResponseAction(status=said.status)
    if said.body and said.body.string is not None:
        action.body.inline_string = said.body.string
    elif said.body and said.body.bytes is not None:
        action.body.inline_bytes = _decoded(said.body.bytes)
    return action


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4))
    except binascii.Error:
        return b""  # refused at the door; an object from before is answered without a body


def _hash_policy(said: ConsistentHashLB | None) -> route_components_v3.RouteAction.HashPolicy | None:
    policy = route_components_v3.RouteAction.HashPolicy
    if said is None:
        return None
    if said.http_header_name:
        return policy(header={"header_name": said.http_header_name})
    if said.http_cookie:
        return policy(cookie=_cookie(said.http_cookie))
    if said.use_source_ip:
        return policy(connection_properties={"source_ip": True})
    if said.http_query_parameter_name:
        return policy(query_parameter={"name": said.http_query_parameter_name})
    return None


def _cookie(said: HTTPCookie) -> route_components_v3.RouteAction.HashPolicy.Cookie:
    cookie = route_components_v3.RouteAction.HashPolicy.Cookie(name=said.name, path=said.path)
    if said.ttl is not None:
        cookie.ttl.CopyFrom(duration(parse_duration(said.ttl)))
    for attribute in said.attributes:
        cookie.attributes.add(name=attribute.name, value=attribute.value)
    return cookie
