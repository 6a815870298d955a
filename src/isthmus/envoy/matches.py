"""Conditions on a request -> Envoy's RouteMatch."""

from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.type.matcher.v3 import regex_pb2 as regex_v3
from envoy.type.matcher.v3 import string_pb2 as string_v3

from isthmus.api.networking.virtual_service import HTTPMatchRequest
from isthmus.api.shapes import StringMatch


def route_match(said: HTTPMatchRequest | None) -> route_components_v3.RouteMatch:
    """All conditions of a match; without one, every request."""
    message = route_components_v3.RouteMatch()
    if said is None:
        message.prefix = "/"
        return message
    _path(message, said)
    pseudo = ((":method", said.method), (":authority", said.authority), (":scheme", said.scheme))
    message.headers.extend(_header(name, value) for name, value in pseudo if value)
    message.headers.extend(_header(name.lower(), value) for name, value in sorted(said.headers.items()))
    for name, value in sorted(said.without_headers.items()):
        matcher = _header(name.lower(), value)
        matcher.invert_match = True
        # a request without the header does not have it: the condition holds
        matcher.treat_missing_header_as_empty = matcher.HasField("string_match")
        message.headers.append(matcher)
    message.query_parameters.extend(_query(name, value) for name, value in sorted(said.query_params.items()))
    return message


def _path(message: route_components_v3.RouteMatch, said: HTTPMatchRequest) -> None:
    match said.uri:
        case StringMatch(exact=str(path)) if path:
            message.path = path
        case StringMatch(regex=str(pattern)) if pattern:
            message.safe_regex.CopyFrom(_regex(pattern))
            return
        case StringMatch(prefix=str(path)) if path:
            message.prefix = path
        case _:
            message.prefix = "/"
            return
    if said.ignore_uri_case:
        message.case_sensitive.value = False


def _header(name: str, said: StringMatch) -> route_components_v3.HeaderMatcher:
    matcher = _string(said)
    if matcher is None:
        return route_components_v3.HeaderMatcher(name=name, present_match=True)
    return route_components_v3.HeaderMatcher(name=name, string_match=matcher)


def _query(name: str, said: StringMatch) -> route_components_v3.QueryParameterMatcher:
    matcher = _string(said)
    if matcher is None:
        return route_components_v3.QueryParameterMatcher(name=name, present_match=True)
    return route_components_v3.QueryParameterMatcher(name=name, string_match=matcher)


def _string(said: StringMatch) -> string_v3.StringMatcher | None:
    """The match; None when it asks only that the string is there."""
    if said.regex:
        return string_v3.StringMatcher(safe_regex=_regex(said.regex))
    if said.prefix:
        return string_v3.StringMatcher(prefix=said.prefix)
    if said.exact is not None:
        return string_v3.StringMatcher(exact=said.exact)
    return None


def _regex(pattern: str) -> regex_v3.RegexMatcher:
    return regex_v3.RegexMatcher(regex=pattern)
