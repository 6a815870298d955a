"""A VirtualService -> its problems."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus

from isthmus.api.fields import path
from isthmus.api.meta import Problem
from isthmus.api.networking.virtual_service import (
    Destination,
    Headers,
    HTTPFaultInjection,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRoute,
    HTTPRouteDestination,
    RouteDestination,
    TCPRoute,
    VirtualServiceSpec,
)
from isthmus.api.rules import duplicates, duration, export_to, warning, wrong
from isthmus.api.shapes import StringMatch
from isthmus.api.syntax import dns_label, header_name, header_value, host, regex

MESH = "mesh"
_RETRY_ON = {
    *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx"),
    *(
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
    ),
    *("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"),
}
"""Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on."""
_STATUS_CODES = {str(status.value) for status in HTTPStatus}
_LARGE_BODY, _LARGEST_BODY = 100 * 1024, 1024 * 1024


def virtual_service(spec: VirtualServiceSpec) -> Iterator[Problem]:
    """The problems of a VirtualService by itself."""
    if not spec.hosts:
        yield warning(
            "spec.hosts", "without a host no traffic is routed by these rules", "name at least one host"
        )
    for index, name in enumerate(spec.hosts):
        yield from wrong(f"spec.hosts[{index}]", name, host(name))
        if name == "*":
            yield Problem(f"spec.hosts[{index}]", "'*' cannot be routed for sidecars", "name the hosts")
    yield from duplicates("spec.hosts", (name.lower() for name in spec.hosts), "host")
    for index, gateway in enumerate(spec.gateways):
        if gateway != MESH:
            text = f'"{gateway}": gateways are not served yet, only "{MESH}" is'
            yield Problem(f"spec.gateways[{index}]", text, "leave spec.gateways out")
    if not spec.http and not spec.tcp:
        yield Problem("spec", "has no rules", "give http or tcp")
    for index, route in enumerate(spec.http):
        yield from _http_route(f"spec.http[{index}]", route)
    yield from _unreachable(spec.http)
    for index, tcp in enumerate(spec.tcp):
        yield from _tcp_route(f"spec.tcp[{index}]", tcp)
    yield from export_to("spec.exportTo", spec.export_to)


def _http_route(at: str, route: HTTPRoute) -> Iterator[Problem]:
    answers = [
        name
        for name, given in (
            ("route", bool(route.route)),
            ("redirect", route.redirect is not None),
            ("directResponse", route.direct_response is not None),
        )
        if given
    ]
    if len(answers) != 1:
        said = f"has {' and '.join(answers)}" if answers else "has none of route, redirect and directResponse"
        yield Problem(at, said, "give exactly one of route, redirect and directResponse")
    if "route" not in answers:
        for name, given in (("fault", route.fault), ("rewrite", route.rewrite)):
            if given is not None and answers:
                yield Problem(f"{at}.{name}", f"cannot stand beside {answers[0]}")
    for index, match in enumerate(route.match):
        yield from _match(f"{at}.match[{index}]", match)
    yield from _destinations(f"{at}.route", route.route)
    for index, weighted in enumerate(route.route):
        yield from _headers(f"{at}.route[{index}].headers", weighted.headers)
    yield from _headers(f"{at}.headers", route.headers)
    yield from duration(f"{at}.timeout", route.timeout)
    if route.redirect:
        yield from _redirect(f"{at}.redirect", route.redirect)
    if route.direct_response:
        yield from _status(f"{at}.directResponse.status", route.direct_response.status)
        body = route.direct_response.body
        size = len((body.string or "").encode()) if body else 0
        if size > _LARGEST_BODY:
            yield Problem(f"{at}.directResponse.body", f"has {size} bytes, more than {_LARGEST_BODY}")
        elif size > _LARGE_BODY:
            yield warning(f"{at}.directResponse.body", f"has {size} bytes, which every proxy has to hold")
    if route.rewrite and not (route.rewrite.uri or route.rewrite.authority):
        yield Problem(f"{at}.rewrite", "is empty", "give uri, authority or both")
    if route.retries:
        yield from _retries(f"{at}.retries", route.retries)
    if route.fault:
        yield from _fault(f"{at}.fault", route.fault)


def _unreachable(routes: Sequence[HTTPRoute]) -> Iterator[Problem]:
    catch_all = next((index for index, route in enumerate(routes) if _matches_all(route)), None)
    for index in range(catch_all + 1 if catch_all is not None else len(routes), len(routes)):
        text = f"is never reached: spec.http[{catch_all}] before it matches every request"
        yield warning(f"spec.http[{index}]", text, "the first rule that matches wins: move it up")


def _matches_all(route: HTTPRoute) -> bool:
    return not route.match or any(
        not match.model_dump(exclude={"name"}, exclude_defaults=True) for match in route.match
    )


def _match(at: str, match: HTTPMatchRequest) -> Iterator[Problem]:
    singles = {
        "uri": match.uri,
        "scheme": match.scheme,
        "method": match.method,
        "authority": match.authority,
    }
    for name, found in singles.items():
        if found is not None:
            yield from _string_match(f"{at}.{name}", found, empty_prefix=name == "uri")
    maps: Mapping[str, Mapping[str, StringMatch]] = {
        "headers": match.headers,
        "queryParams": match.query_params,
        "withoutHeaders": match.without_headers,
    }
    for name, matches in maps.items():
        for key, found in matches.items():
            if name != "queryParams" and not key.startswith(":"):
                yield from wrong(f"{at}.{name}", key, header_name(key))
            yield from _string_match(path(f"{at}.{name}", [key]), found, empty_prefix=False)


def _string_match(at: str, match: StringMatch, *, empty_prefix: bool) -> Iterator[Problem]:
    given = [
        name
        for name, value in (("exact", match.exact), ("prefix", match.prefix), ("regex", match.regex))
        if value is not None
    ]
    if len(given) > 1:
        yield Problem(at, f"has {' and '.join(given)}", "give exactly one of exact, prefix and regex")
    if match.prefix == "" and not empty_prefix:
        yield Problem(f"{at}.prefix", "is empty", "leave the match empty to ask only that it is there")
    if match.regex is not None:
        yield from wrong(f"{at}.regex", match.regex, regex(match.regex))


def _destinations(
    at: str, destinations: Sequence[HTTPRouteDestination | RouteDestination]
) -> Iterator[Problem]:
    for index, weighted in enumerate(destinations):
        yield from _destination(f"{at}[{index}].destination", weighted.destination)
        if weighted.weight < 0:
            yield Problem(f"{at}[{index}].weight", f"{weighted.weight} is negative")
    if len(destinations) > 1 and sum(weighted.weight for weighted in destinations) == 0:
        yield Problem(at, "total destination weight = 0", "give each destination a weight, such as 80 and 20")


def _destination(at: str, destination: Destination) -> Iterator[Problem]:
    if destination.host == "*":
        yield Problem(f"{at}.host", "'*' is no destination", "name a service")
    else:
        yield from wrong(f"{at}.host", destination.host, host(destination.host))
    if destination.subset:
        yield from wrong(f"{at}.subset", destination.subset, dns_label(destination.subset))


def _headers(at: str, headers: Headers | None) -> Iterator[Problem]:
    if headers is None:
        return
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        for name, value_by_header in (("set", operations.set), ("add", operations.add)):
            for header, value in value_by_header.items():
                yield from _header(f"{at}.{side}.{name}", header, authority=side == "request")
                yield from wrong(path(f"{at}.{side}.{name}", [header]), value, header_value(value))
        for index, header in enumerate(operations.remove):
            yield from _header(f"{at}.{side}.remove[{index}]", header, authority=False)


def _header(at: str, name: str, *, authority: bool) -> Iterator[Problem]:
    if name.lower() in {":authority", "host"} and authority:
        return
    if name.startswith(":") or name.lower() == "host":
        yield Problem(at, f'"{name}" cannot be changed here', "rewrite.authority changes the host")
    else:
        yield from wrong(at, name, header_name(name))


def _redirect(at: str, redirect: HTTPRedirect) -> Iterator[Problem]:
    if not (redirect.uri or redirect.authority or redirect.scheme or redirect.port):
        yield Problem(at, "is empty", "give uri, authority, scheme or port")
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        yield Problem(
            f"{at}.redirectCode", f"{redirect.redirect_code} is no redirect", "use 301, 302, 303, 307 or 308"
        )
    if redirect.scheme and redirect.scheme not in {"http", "https"}:
        yield Problem(f"{at}.scheme", f'"{redirect.scheme}" should be http or https')


def _status(at: str, status: int) -> Iterator[Problem]:
    if not 200 <= status <= 600:
        yield Problem(at, f"{status} is not in the range 200 to 599")


def _retries(at: str, retries: HTTPRetry) -> Iterator[Problem]:
    if retries.attempts < 0:
        yield Problem(f"{at}.attempts", f"{retries.attempts} is negative", "0 switches retries off")
    if retries.attempts == 0 and (retries.per_try_timeout or retries.retry_on):
        yield Problem(
            at, "has a policy for retries, but attempts is 0, which switches them off", "set attempts"
        )
    yield from duration(f"{at}.perTryTimeout", retries.per_try_timeout)
    for condition in filter(None, retries.retry_on.split(",")):
        if condition not in _RETRY_ON and condition not in _STATUS_CODES:
            yield Problem(
                f"{at}.retryOn", f'"{condition}" is no condition for a retry', "5xx, connect-failure, 503, …"
            )


def _fault(at: str, fault: HTTPFaultInjection) -> Iterator[Problem]:
    if fault.delay is None and fault.abort is None:
        yield Problem(at, "is empty", "give delay, abort or both")
    if fault.delay:
        yield from duration(f"{at}.delay.fixedDelay", fault.delay.fixed_delay)
    if fault.abort:
        yield from _status(f"{at}.abort.httpStatus", fault.abort.http_status or 200)


def _tcp_route(at: str, route: TCPRoute) -> Iterator[Problem]:
    if not route.route:
        yield Problem(f"{at}.route", "is empty", "give at least one destination")
    yield from _destinations(f"{at}.route", route.route)
