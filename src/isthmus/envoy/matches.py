"""Conditions on a request -> Envoy's RouteMatch, and text conditions -> its string matchers."""

from collections.abc import Iterator

from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.type.matcher.v3 import metadata_pb2 as metadata_v3
from envoy.type.matcher.v3 import regex_pb2 as regex_v3
from envoy.type.matcher.v3 import string_pb2 as string_v3
from envoy.type.matcher.v3 import value_pb2 as value_v3

from isthmus.api.networking.virtual_service import HTTPMatchRequest
from isthmus.api.shapes import StringMatch

JWT_FILTER = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD = "payload"
"""Where the claims of a token are found in the filter's metadata."""

_CLAIMS = "@request.auth.claims"
_ANYTHING = "*"
"""As a regular expression this asks only that the value is there."""


def route_match(said: HTTPMatchRequest | None, *, by_segment: bool = False) -> route_components_v3.RouteMatch:
    """All conditions of a match; without one, every request. `by_segment`: prefixes are of whole segments."""
    message = route_components_v3.RouteMatch()
    if said is None:
        message.prefix = "/"
        return message
    _path(message, said)
    if by_segment and (path := message.prefix.rstrip("/")):
        message.path_separated_prefix = path
    # conditions of one name keep their order: those that must hold come first
    message.headers.extend(sorted(_headers(said), key=lambda matcher: matcher.name))
    pseudo = ((":method", said.method), (":authority", said.authority), (":scheme", said.scheme))
    message.headers.extend(_header(name, value) for name, value in pseudo if value)
    message.dynamic_metadata.extend(_claims(said))
    message.query_parameters.extend(_query(name, value) for name, value in sorted(said.query_params.items()))
    return message


def string_matcher(said: StringMatch) -> string_v3.StringMatcher | None:
    """The matcher; None when the match asks only that the string is there."""
    if said.exact is not None:
        return string_v3.StringMatcher(exact=said.exact)
    if said.prefix:
        return string_v3.StringMatcher(prefix=said.prefix)
    if said.regex and said.regex != _ANYTHING:
        return string_v3.StringMatcher(safe_regex=regex_v3.RegexMatcher(regex=said.regex))
    return None


def _path(message: route_components_v3.RouteMatch, said: HTTPMatchRequest) -> None:
    match said.uri:
        case StringMatch(exact=str(path)):
            message.path = path
        case StringMatch(regex=str(pattern)) if pattern and pattern != _ANYTHING:
            message.safe_regex.regex = pattern
            return
        case StringMatch(prefix=str(path)) if path:
            message.prefix = path
        case _:
            message.prefix = "/"
            return
    if said.ignore_uri_case:
        message.case_sensitive.value = False


def _headers(said: HTTPMatchRequest) -> Iterator[route_components_v3.HeaderMatcher]:
    for name, value in sorted(said.headers.items()):
        if not claim_path(name):
            yield _header(name.lower(), value)
    for name, value in sorted(said.without_headers.items()):
        if claim_path(name):
            continue
        matcher = _header(name.lower(), value)
        matcher.invert_match = True
        # a request without the header does not have it: the condition holds
        matcher.treat_missing_header_as_empty = matcher.HasField("string_match")
        yield matcher


def _claims(said: HTTPMatchRequest) -> Iterator[metadata_v3.MetadataMatcher]:
    """Conditions on the claims of the request's token, as the JWT filter leaves them."""
    for headers, inverted in ((said.headers, False), (said.without_headers, True)):
        for name, value in sorted(headers.items()):
            if path := claim_path(name):
                yield metadata_v3.MetadataMatcher(
                    filter=JWT_FILTER,
                    path=[{"key": key} for key in (JWT_PAYLOAD, *path)],
                    value=_claim(string_matcher(value)),
                    invert=inverted,
                )


def _claim(said: string_v3.StringMatcher | None) -> value_v3.ValueMatcher:
    """A claim is a string, or a list that holds the string."""
    if said is None:
        return value_v3.ValueMatcher(present_match=True)
    text = value_v3.ValueMatcher(string_match=said)
    among = value_v3.ValueMatcher(list_match={"one_of": text})
    return value_v3.ValueMatcher(or_match={"value_matchers": [among, text]})


def claim_path(header: str) -> tuple[str, ...]:
    """The claim that a header name such as `@request.auth.claims.group.id` or `…[group][id]` stands for."""
    if not header.lower().startswith(_CLAIMS):
        return ()
    rest = header[len(_CLAIMS) :]
    if rest.startswith(".") and len(rest) > 1:
        return tuple(rest[1:].split("."))
    if rest.startswith("[") and rest.endswith("]") and len(rest) > 2:
        return tuple(rest[1:-1].split("]["))
    return ()


def _header(name: str, said: StringMatch) -> route_components_v3.HeaderMatcher:
    matcher = string_matcher(said)
    if matcher is None:
        return route_components_v3.HeaderMatcher(name=name, present_match=True)
    return route_components_v3.HeaderMatcher(name=name, string_match=matcher)


def _query(name: str, said: StringMatch) -> route_components_v3.QueryParameterMatcher:
    matcher = string_matcher(said)
    if matcher is None:
        return route_components_v3.QueryParameterMatcher(name=name, present_match=True)
    return route_components_v3.QueryParameterMatcher(name=name, string_match=matcher)
