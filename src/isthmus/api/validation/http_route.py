"""One HTTP route of a VirtualService -> its problems."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPMethod

from isthmus.api.duration import parse_duration
from isthmus.api.fields import path
from isthmus.api.meta import Problem
from isthmus.api.networking.http_options import CorsPolicy
from isthmus.api.networking.virtual_service import (
    Headers,
    HTTPDirectResponse,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRewrite,
    HTTPRoute,
)
from isthmus.api.rules import conflict, duration, has, missing, port, share, tags, warning, wrong
from isthmus.api.shapes import StringMatch
from isthmus.api.syntax import header_name, header_value, istio_label, matched_header, regex
from isthmus.api.validation.destination import destination, weights
from isthmus.api.validation.references import gateway_names
from isthmus.api.validation.retries import fault, retries, status_code

_CORS_METHODS = {method.value for method in HTTPMethod} | {"*"}
_LINE_ENDS = re.compile(r"[\x00\r\n]")
_LARGE_BODY, _LARGEST_BODY = 100 * 1024, 1024 * 1024


def http_route(at: str, route: HTTPRoute, *, delegate: bool) -> Iterator[Problem]:
    """The problems of one route; `delegate`: its VirtualService continues another one's rule."""
    yield from _answer(at, route, delegate=delegate)
    for index, match in enumerate(route.match):
        yield from _match(f"{at}.match[{index}]", match)
    yield from _headers(f"{at}.headers", route.headers)
    if route.cors_policy:
        yield from _cors(f"{at}.corsPolicy", route.cors_policy)
    if route.fault:
        yield from fault(f"{at}.fault", route.fault)
    yield from _mirrors(at, route)
    if route.redirect:
        yield from _redirect(f"{at}.redirect", route.redirect, route.match)
    if route.direct_response:
        yield from _direct_response(f"{at}.directResponse", route.direct_response)
    if route.retries:
        yield from retries(f"{at}.retries", route.retries)
    if route.rewrite:
        yield from _rewrite(f"{at}.rewrite", route.rewrite)
    yield from _authority(at, route)
    for index, weighted in enumerate(route.route):
        yield from destination(f"{at}.route[{index}].destination", weighted.destination)
        yield from _headers(f"{at}.route[{index}].headers", weighted.headers)
    yield from weights(f"{at}.route", [weighted.weight for weighted in route.route])
    yield from duration(f"{at}.timeout", route.timeout)


def _answer(at: str, route: HTTPRoute, *, delegate: bool) -> Iterator[Problem]:
    if route.delegate is not None and not delegate:
        for name, given in (("redirect", has(route, "redirect")), ("route", bool(route.route))):
            if given:
                yield conflict(at, f"root HTTP route must not specify {name}: its delegate says it")
        return
    if route.delegate is not None:
        yield conflict(f"{at}.delegate", "delegate HTTP route cannot contain delegate")
    chosen = "redirect" if route.redirect else "directResponse" if route.direct_response else ""
    if chosen:
        others = (
            ("route", bool(route.route)),
            ("fault", route.fault is not None),
            ("rewrite", route.rewrite is not None),
            ("directResponse", chosen == "redirect" and route.direct_response is not None),
        )
        for name, given in others:
            if given:
                yield conflict(at, f"HTTP route cannot contain both {name} and {chosen}")
    elif not route.route:
        yield missing(f"{at}.route", "HTTP route, redirect or direct_response is required")
    if route.mirror is not None and route.mirrors:
        yield conflict(at, "HTTP route cannot contain both mirror and mirrors")


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
    if has(match, "headers") and not match.headers:
        yield from wrong(f"{at}.headers", "object", "header match cannot be null or empty", "leave it out")
    for name, matches in maps.items():
        for key, found in matches.items():
            if name != "queryParams":
                yield from wrong(f"{at}.{name}", key, matched_header(key))
            if name != "withoutHeaders" or found.regex != "*":
                yield from _string_match(path(f"{at}.{name}", [key]), found, empty_prefix=False)
    if match.port:
        yield from port(f"{at}.port", match.port)
    yield from tags(f"{at}.sourceLabels", match.source_labels)
    yield from gateway_names(f"{at}.gateways", match.gateways)
    if match.source_namespace and istio_label(match.source_namespace):
        text = f"sourceNamespace match is invalid: {istio_label(match.source_namespace)}"
        yield from wrong(f"{at}.sourceNamespace", match.source_namespace, text)


def _string_match(at: str, match: StringMatch, *, empty_prefix: bool) -> Iterator[Problem]:
    if sum(value is not None for value in (match.exact, match.prefix, match.regex)) > 1:
        yield conflict(at, "only one of exact, prefix and regex can be set")
    if match.prefix == "" and not empty_prefix:
        text = "prefix string match should not be empty"
        yield from wrong(f"{at}.prefix", "", text, "leave the match empty to ask only that it is there")
    if match.regex is not None:
        yield from wrong(f"{at}.regex", match.regex, regex(match.regex))


def _headers(at: str, headers: Headers | None) -> Iterator[Problem]:
    if headers is None:
        return
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        for name, value_by_header in (("set", operations.set), ("add", operations.add)):
            for header, value in value_by_header.items():
                yield from _changed(f"{at}.{side}.{name}", header, authority=side == "request")
                yield from wrong(path(f"{at}.{side}.{name}", [header]), value, header_value(value))
        for index, header in enumerate(operations.remove):
            yield from _changed(f"{at}.{side}.remove[{index}]", header, authority=False)


def _changed(at: str, name: str, *, authority: bool) -> Iterator[Problem]:
    if authority and _is_authority(name):
        return
    if name.startswith(":"):
        yield from wrong(at, name, 'invalid header: header cannot have ":" prefix')
    elif name.lower() == "host":
        yield from wrong(at, name, "invalid header: cannot set Host header", "rewrite.authority changes it")
    elif not name or _LINE_ENDS.search(name):
        yield from wrong(at, name, "header name cannot be empty" if not name else "holds line ends")


def _is_authority(name: str) -> bool:
    return name.lower() in {":authority", "host"}


def _authority(at: str, route: HTTPRoute) -> Iterator[Problem]:
    request = route.headers.request if route.headers else None
    said = [route.rewrite.authority] if route.rewrite else []
    for value_by_header in (request.set, request.add) if request else ():
        said += [value for name, value in value_by_header.items() if _is_authority(name)]
    if len([value for value in said if value]) > 1:
        yield conflict(at, "authority header cannot be set multiple times")


def _cors(at: str, policy: CorsPolicy) -> Iterator[Problem]:
    for index, origin in enumerate(policy.allow_origins):
        where = f"{at}.allowOrigins[{index}]"
        if not (origin.exact or origin.prefix or origin.regex):
            yield from wrong(where, "", "is not a valid match type for CORS allow origins")
        yield from _string_match(where, origin, empty_prefix=True)
    for index, method in enumerate(policy.allow_methods):
        fault_ = "" if method in _CORS_METHODS else "is not a supported HTTP method"
        yield from wrong(f"{at}.allowMethods[{index}]", method, fault_)
    for name, headers in (("allowHeaders", policy.allow_headers), ("exposeHeaders", policy.expose_headers)):
        for index, header in enumerate(headers):
            yield from wrong(f"{at}.{name}[{index}]", header, "" if header == "*" else header_name(header))
    yield from duration(f"{at}.maxAge", policy.max_age)
    if policy.max_age and parse_duration(policy.max_age) % 1:
        yield from wrong(
            f"{at}.maxAge", policy.max_age, "max_age duration is accurate only to seconds precision"
        )


def _mirrors(at: str, route: HTTPRoute) -> Iterator[Problem]:
    if has(route, "mirror_percent", "mirror_percent_snake"):
        yield warning(
            f"{at}.mirrorPercent", 'using deprecated setting "mirrorPercent", use "mirrorPercentage" instead'
        )
    if route.mirror_percent is not None:
        yield from share(f"{at}.mirrorPercent", route.mirror_percent, "mirror_percent")
    if route.mirror_percent_snake is not None:
        yield from share(f"{at}.mirror_percent", route.mirror_percent_snake, "mirror_percent")
    if route.mirror_percentage is not None:
        yield from share(f"{at}.mirrorPercentage", route.mirror_percentage.value, "mirror_percentage")
    if route.mirror is not None:
        yield from destination(f"{at}.mirror", route.mirror)
    for index, mirror in enumerate(route.mirrors):
        yield from destination(f"{at}.mirrors[{index}].destination", mirror.destination)
        if mirror.percentage is not None:
            yield from share(
                f"{at}.mirrors[{index}].percentage", mirror.percentage.value, "mirror percentage"
            )


def _redirect(at: str, redirect: HTTPRedirect, matches: Sequence[HTTPMatchRequest]) -> Iterator[Problem]:
    if redirect.uri and redirect.prefix_rewrite:
        yield conflict(at, "redirect may only specify one of uri or prefix_rewrite")
    if redirect.prefix_rewrite and any(match.uri and match.uri.prefix is None for match in matches):
        text = "redirect prefix_rewrite requires all URI matches to use prefix match type"
        yield conflict(f"{at}.prefixRewrite", text)
    if has(redirect, "port") and has(redirect, "derive_port"):
        yield conflict(at, "only one of port and derivePort can be set")
    if not (redirect.uri or redirect.prefix_rewrite or redirect.authority or redirect.scheme):
        if not has(redirect, "port", "derive_port"):
            yield missing(at, "redirect must specify URI, authority, scheme, or port")
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        text = "is not a valid redirect code, must be 3xx"
        yield from wrong(f"{at}.redirectCode", redirect.redirect_code, text)
    if redirect.scheme and redirect.scheme not in {"http", "https"}:
        yield from wrong(
            f"{at}.scheme", redirect.scheme, 'invalid redirect scheme, must be "http" or "https"'
        )
    if redirect.port:
        yield from port(f"{at}.port", redirect.port)


def _direct_response(at: str, response: HTTPDirectResponse) -> Iterator[Problem]:
    yield from status_code(f"{at}.status", response.status)
    body = response.body
    if body is None:
        return
    if body.string is not None and body.bytes is not None:
        yield conflict(f"{at}.body", "only one of string and bytes can be set")
    try:
        base64.b64decode(body.bytes or "", validate=True)
    except (binascii.Error, ValueError):
        text = f"{at}.body.bytes in body must be of type byte: should be base64"
        yield from wrong(f"{at}.body.bytes", body.bytes, text)
    size = len(body.string.encode()) if body.string else len(body.bytes or "") * 3 // 4
    if size > _LARGEST_BODY:
        text = "large direct_responses may impact control plane performance, must be less than 1MB"
        yield conflict(f"{at}.body", text)
    elif size > _LARGE_BODY:
        yield warning(f"{at}.body", "large direct_responses may impact control plane performance")


def _rewrite(at: str, rewrite: HTTPRewrite) -> Iterator[Problem]:
    expression = rewrite.uri_regex_rewrite
    if rewrite.uri and expression is not None:
        yield conflict(at, "rewrite may only contain one of URI or UriRegexRewrite")
    if not rewrite.uri and expression is None and not rewrite.authority:
        yield missing(at, "rewrite must specify at least one of URI, UriRegexRewrite, or authority")
    if expression is None:
        return
    if not expression.match or not expression.rewrite:
        text = "UriRegexRewrite requires both Rewrite and Match fields to be specified"
        yield missing(f"{at}.uriRegexRewrite", text)
    if expression.match:
        yield from wrong(f"{at}.uriRegexRewrite.match", expression.match, regex(expression.match))
