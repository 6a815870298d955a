"""One HTTP rule -> one Envoy route: match, destinations, timeout, retries, faults, headers.

Meanings are Istio's (https://istio.io/latest/docs/reference/config/networking/virtual-service/): no time
limit unless one is given, and two retries of failures that happened before the request was worked on.
"""

import re
from collections.abc import Iterable, Mapping

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as fault_v3
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as previous_hosts_v3
from envoy.type.v3 import percent_pb2 as percent_v3

from isthmus.api.duration import parse_duration
from isthmus.api.networking.virtual_service import (
    Headers,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
)
from isthmus.api.shapes import Percent
from isthmus.envoy import naming
from isthmus.envoy.filters import FAULT_FILTER
from isthmus.envoy.matches import route_match
from isthmus.envoy.message import duration, packed
from isthmus.mesh.model import Destination, HttpRule

_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_RETRIES = 2
_REDIRECTS = {
    0: route_components_v3.RedirectAction.MOVED_PERMANENTLY,
    301: route_components_v3.RedirectAction.MOVED_PERMANENTLY,
    302: route_components_v3.RedirectAction.FOUND,
    303: route_components_v3.RedirectAction.SEE_OTHER,
    307: route_components_v3.RedirectAction.TEMPORARY_REDIRECT,
    308: route_components_v3.RedirectAction.PERMANENT_REDIRECT,
}
_PERMANENTLY = route_components_v3.RedirectAction.MOVED_PERMANENTLY
_HOST_HEADERS = frozenset({"host", ":authority"})


def default_route(cluster: str) -> route_components_v3.Route:
    """All requests to one cluster."""
    return route_components_v3.Route(
        name="default",
        match={"prefix": "/"},
        route={"cluster": cluster, "timeout": duration(0), "retry_policy": _retry_policy(None)},
    )


def rule_route(rule: HttpRule) -> route_components_v3.Route | None:
    """The route of a rule; None when the rule says nothing to do."""
    said = rule.actions
    route = route_components_v3.Route(name=rule.name, match=route_match(rule.match))
    if said.redirect:
        route.redirect.CopyFrom(_redirect(said.redirect))
    elif said.direct_response:
        route.direct_response.CopyFrom(_direct_response(said.direct_response))
    elif rule.destinations:
        route.route.CopyFrom(_forward(rule))
    else:
        return None
    _change_headers(route, said.headers)
    shares = weights(rule.destinations)
    if len(shares) == 1:
        _change_headers(route, shares[0][0].headers)
    if said.fault and (said.fault.delay or said.fault.abort):
        route.typed_per_filter_config[FAULT_FILTER].CopyFrom(packed(_fault(said.fault)))
    return route


def weights(destinations: Iterable[Destination]) -> list[tuple[Destination, int]]:
    """Destinations with their share; those without a share are left out, unless nobody has one."""
    found = list(destinations)
    shares = [(d, d.weight) for d in found if d.weight > 0]
    return shares or [(d, 1) for d in found]


def _forward(rule: HttpRule) -> route_components_v3.RouteAction:
    said = rule.actions
    action = route_components_v3.RouteAction(
        timeout=duration(max(parse_duration(said.timeout), 0.0) if said.timeout else 0.0),
        retry_policy=_retry_policy(said.retries),
    )
    shares = weights(rule.destinations)
    if len(shares) == 1:
        action.cluster = _cluster(shares[0][0])
    else:
        for destination, weight in shares:
            clusters = action.weighted_clusters.clusters.add(name=_cluster(destination))
            clusters.weight.value = weight
            _change_headers(clusters, destination.headers)
    if said.rewrite:
        _rewrite(action, said.rewrite, rule)
    host = _host_override(said)
    if host:
        action.host_rewrite_literal = host
    return action


def _cluster(destination: Destination) -> str:
    return naming.outbound(destination.host, destination.port, destination.subset)


def _rewrite(action: route_components_v3.RouteAction, said: HTTPRewrite, rule: HttpRule) -> None:
    if said.authority:
        action.host_rewrite_literal = said.authority
    uri = rule.match.uri if rule.match else None
    if said.uri == "/" and uri and uri.prefix and not uri.prefix.endswith("/"):
        # /api -> / must turn /api/x into /x, not into //x
        action.regex_rewrite.pattern.regex = f"^{re.escape(uri.prefix)}(/?)(.*)"
        action.regex_rewrite.substitution = r"/\2"
    elif said.uri:
        action.prefix_rewrite = said.uri


def _host_override(said: HTTPRoute) -> str:
    """The host that a rule writes through a header; Envoy takes it as a rewrite only."""
    operations = said.headers.request if said.headers else None
    written = {**operations.add, **operations.set} if operations else {}
    return next((value for name, value in written.items() if name.lower() in _HOST_HEADERS), "")


def _redirect(said: HTTPRedirect) -> route_components_v3.RedirectAction:
    action = route_components_v3.RedirectAction(
        host_redirect=said.authority,
        response_code=_REDIRECTS.get(
            said.redirect_code, route_components_v3.RedirectAction.MOVED_PERMANENTLY
        ),
    )
    if said.uri:
        action.path_redirect = said.uri
    if said.scheme:
        action.scheme_redirect = said.scheme
    if said.port:
        action.port_redirect = said.port
    return action


def _direct_response(said: HTTPDirectResponse) -> route_components_v3.DirectResponseAction:
    action = route_components_v3.DirectResponseAction(status=said.status)
    if said.body and said.body.string is not None:
        action.body.inline_string = said.body.string
    return action


def _retry_policy(said: HTTPRetry | None) -> route_components_v3.RetryPolicy | None:
    if said is not None and said.attempts <= 0:
        return None
    words = [word.strip() for word in said.retry_on.split(",") if word.strip()] if said else []
    codes = [int(word) for word in words if word.isdigit()]
    names = [word for word in words if not word.isdigit()]
    if codes and "retriable-status-codes" not in names:
        names.append("retriable-status-codes")
    policy = route_components_v3.RetryPolicy(
        retry_on=",".join(names) if words else _RETRY_ON,
        num_retries={"value": said.attempts if said else _RETRIES},
        retriable_status_codes=codes if words else [503],
        # another try goes to another endpoint while there is one
        retry_host_predicate=[_previous_hosts()],
        host_selection_retry_max_attempts=5,
    )
    if said and said.per_try_timeout:
        policy.per_try_timeout.CopyFrom(duration(max(parse_duration(said.per_try_timeout), 0.0)))
    return policy


def _previous_hosts() -> route_components_v3.RetryPolicy.RetryHostPredicate:
    return route_components_v3.RetryPolicy.RetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=packed(previous_hosts_v3.PreviousHostsPredicate()),
    )


def _fault(said: HTTPFaultInjection) -> fault_v3.HTTPFault:
    message = fault_v3.HTTPFault()
    if said.delay and said.delay.fixed_delay is not None:
        message.delay.fixed_delay.CopyFrom(duration(parse_duration(said.delay.fixed_delay)))
        message.delay.percentage.CopyFrom(_share(said.delay.percentage))
    if said.abort and said.abort.http_status is not None:
        message.abort.http_status = said.abort.http_status
        message.abort.percentage.CopyFrom(_share(said.abort.percentage))
    return message


def _share(percent: Percent | None) -> percent_v3.FractionalPercent:
    value = 100.0 if percent is None else percent.value
    return percent_v3.FractionalPercent(
        numerator=round(value * 10_000), denominator=percent_v3.FractionalPercent.MILLION
    )


# headers: the same four fields on a route and on a weighted cluster


def _change_headers(
    target: route_components_v3.Route | route_components_v3.WeightedCluster.ClusterWeight,
    said: Headers | None,
) -> None:
    if said is None:
        return
    if said.request:
        target.request_headers_to_add.extend(_additions(said.request.set, said.request.add))
        target.request_headers_to_remove.extend(_removals(said.request.remove))
    if said.response:
        target.response_headers_to_add.extend(_additions(said.response.set, said.response.add))
        target.response_headers_to_remove.extend(_removals(said.response.remove))


def _additions(set_: Mapping[str, str], add: Mapping[str, str]) -> list[base_v3.HeaderValueOption]:
    option = base_v3.HeaderValueOption
    actions = ((set_, option.OVERWRITE_IF_EXISTS_OR_ADD), (add, option.APPEND_IF_EXISTS_OR_ADD))
    return [
        option(header={"key": name, "value": _escaped(value)}, append_action=action, keep_empty_value=True)
        for headers, action in actions
        for name, value in sorted(headers.items())
        if not _protected(name)
    ]


def _removals(names: Iterable[str]) -> list[str]:
    return [name for name in names if not _protected(name)]


def _protected(name: str) -> bool:
    # Envoy refuses a route table that touches these as headers
    return name.startswith(":") or name.lower() == "host"


_OPERATOR = re.compile(
    r"%%|%(?:REQ|RESP|TRAILER|DYNAMIC_METADATA|CLUSTER_METADATA|UPSTREAM_METADATA|FILTER_STATE|START_TIME"
    r"|DOWNSTREAM_[A-Z0-9_]+|UPSTREAM_[A-Z0-9_]+|REQUESTED_SERVER_NAME|HOSTNAME|PROTOCOL|RESPONSE_CODE"
    r"|ROUTE_NAME|CONNECTION_ID|TRACE_ID|ENVIRONMENT)(?:\([^()%]*\))?(?::\d+)?%"
)


def _escaped(value: str) -> str:
    """The value with every `%` doubled that does not belong to one of Envoy's operators."""
    parts: list[str] = []
    end = 0
    for found in _OPERATOR.finditer(value):
        parts += (value[end : found.start()].replace("%", "%%"), found.group())
        end = found.end()
    return "".join((*parts, value[end:].replace("%", "%%")))
