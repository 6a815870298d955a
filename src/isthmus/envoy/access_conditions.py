"""The rules of an AuthorizationPolicy -> Envoy's permissions (what is asked for) and principals (who asks).

    rule --from, when source.*, request.*--> principals      any of `from`, all conditions of each
         --to, when destination.*------------> permissions   any of `to`, all conditions of each

A condition holds where one of its values does and none of its `not` values. On connections that are not read
as HTTP, conditions on requests cannot be known: ALLOW then leaves the whole rule out, the other actions only
the condition, so that in doubt less is let through.
https://istio.io/latest/docs/reference/config/security/conditions/
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from envoy.config.rbac.v3 import rbac_pb2 as rbac_v3
from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2 as uri_template_v3
from envoy.type.matcher.v3 import metadata_pb2 as metadata_v3
from envoy.type.matcher.v3 import string_pb2 as string_v3
from envoy.type.matcher.v3 import value_pb2 as value_v3

from isthmus.api.security import Condition as When
from isthmus.api.security import Operation, Rule, Source
from isthmus.envoy.access_names import Names
from isthmus.envoy.matches import JWT_FILTER, JWT_PAYLOAD, claim_path
from isthmus.envoy.message import cidr, packed

P = TypeVar("P", rbac_v3.Permission, rbac_v3.Principal)

_HEADER = "request.headers["
_CLAIMS = "request.auth.claims"
_FILTERS = "experimental.envoy.filters."
_TEMPLATES = (("{**}", "**"), ("{*}", "*"))


@dataclass(frozen=True, slots=True)
class _Condition(Generic[P]):
    """One condition: what each of its values asks for."""

    values: Sequence[str]
    not_values: Sequence[str]
    make: Callable[[str], P]
    requests_only: bool = False


def policy(rule: Rule, names: Names, *, requests: bool, strict: bool) -> rbac_v3.Policy | None:
    """A rule as Envoy's policy; None where it cannot be told and is left out.

    `requests` says whether connections are read as HTTP, `strict` whether a condition that cannot be known
    takes the whole rule with it.
    """
    try:
        return rbac_v3.Policy(
            permissions=[_permission(each, requests, strict) for each in _operations(rule)],
            principals=[_principal(each, requests, strict) for each in _sources(rule, names)],
        )
    except _UnknownHere:
        return None


def never() -> rbac_v3.Policy:
    """A policy that is for nothing: ALLOW without rules lets nothing through."""
    return rbac_v3.Policy(permissions=[{"not_rule": {"any": True}}], principals=[{"not_id": {"any": True}}])


class _UnknownHere(Exception):
    """A condition on requests, on a connection that is not read as HTTP."""


def _known(said: Iterable[_Condition[P]], requests: bool, strict: bool) -> list[_Condition[P]]:
    said = [each for each in said if each.values or each.not_values]
    if not requests and strict and any(each.requests_only for each in said):
        raise _UnknownHere
    return [each for each in said if requests or not each.requests_only]


def _permission(
    said: Iterable[_Condition[rbac_v3.Permission]], requests: bool, strict: bool
) -> rbac_v3.Permission:
    terms: list[rbac_v3.Permission] = []
    for each in _known(said, requests, strict):
        if each.values:
            terms.append(rbac_v3.Permission(or_rules={"rules": [each.make(value) for value in each.values]}))
        if each.not_values:
            others = rbac_v3.Permission(or_rules={"rules": [each.make(value) for value in each.not_values]})
            terms.append(rbac_v3.Permission(not_rule=others))
    return rbac_v3.Permission(and_rules={"rules": terms or [rbac_v3.Permission(any=True)]})


def _principal(
    said: Iterable[_Condition[rbac_v3.Principal]], requests: bool, strict: bool
) -> rbac_v3.Principal:
    terms: list[rbac_v3.Principal] = []
    for each in _known(said, requests, strict):
        if each.values:
            terms.append(rbac_v3.Principal(or_ids={"ids": [each.make(value) for value in each.values]}))
        if each.not_values:
            others = rbac_v3.Principal(or_ids={"ids": [each.make(value) for value in each.not_values]})
            terms.append(rbac_v3.Principal(not_id=others))
    return rbac_v3.Principal(and_ids={"ids": terms or [rbac_v3.Principal(any=True)]})


# what is asked for


def _operations(rule: Rule) -> list[list[_Condition[rbac_v3.Permission]]]:
    conditions = [found for when in rule.when if (found := _asked(when))]
    operations = [each.operation or Operation() for each in rule.to] or [Operation()]
    return [[*_of_operation(each), *conditions] for each in operations]


def _of_operation(said: Operation) -> list[_Condition[rbac_v3.Permission]]:
    return [
        _Condition(said.hosts, said.not_hosts, _host, True),
        _Condition(said.methods, said.not_methods, _method, True),
        _Condition(said.paths, said.not_paths, _path, True),
        _Condition(said.ports, said.not_ports, _port),
    ]


def _asked(when: When) -> _Condition[rbac_v3.Permission] | None:
    if when.key.startswith(_FILTERS):
        return _Condition(when.values, when.not_values, lambda value: _metadata(when.key, value))
    made = {"destination.ip": _to, "destination.port": _port, "connection.sni": _sni}.get(when.key)
    return _Condition(when.values, when.not_values, made) if made else None


def _host(value: str) -> rbac_v3.Permission:
    return rbac_v3.Permission(header=_header(":authority", value, ignore_case=True))


def _method(value: str) -> rbac_v3.Permission:
    return rbac_v3.Permission(header=_header(":method", value))


def _path(value: str) -> rbac_v3.Permission:
    if not any(template in value for template, _ in _TEMPLATES):
        return rbac_v3.Permission(url_path={"path": text(value)})
    for template, operator in _TEMPLATES:
        value = value.replace(template, operator)
    template_match = uri_template_v3.UriTemplateMatchConfig(path_template=value)
    return rbac_v3.Permission(
        uri_template={"name": "uri-template", "typed_config": packed(template_match)},
    )


def _port(value: str) -> rbac_v3.Permission:
    return rbac_v3.Permission(destination_port=int(value))


def _to(value: str) -> rbac_v3.Permission:
    return rbac_v3.Permission(destination_ip=cidr(value))


def _sni(value: str) -> rbac_v3.Permission:
    return rbac_v3.Permission(requested_server_name=text(value))


def _metadata(key: str, value: str) -> rbac_v3.Permission:
    """`experimental.envoy.filters.a.b[c]`: the entry `c` that the filter `envoy.filters.a.b` left."""
    filter_name, _, entry = key.removeprefix("experimental.").removesuffix("]").partition("[")
    if value.startswith("[") and value.endswith("]"):
        among = value_v3.ValueMatcher(string_match=text(value.strip("[]")))
        matcher = value_v3.ValueMatcher(list_match={"one_of": among})
    else:
        matcher = value_v3.ValueMatcher(string_match=text(value))
    left = metadata_v3.MetadataMatcher(filter=filter_name, path=[{"key": entry}], value=matcher)
    return rbac_v3.Permission(sourced_metadata={"metadata_matcher": left})


# who asks


def _sources(rule: Rule, names: Names) -> list[list[_Condition[rbac_v3.Principal]]]:
    conditions = [found for when in rule.when if (found := _asker(when, names))]
    sources = [each.source or Source() for each in rule.from_] or [Source()]
    return [[*_of_source(each, names), *conditions] for each in sources]


def _of_source(said: Source, names: Names) -> list[_Condition[rbac_v3.Principal]]:
    spread, domains = names.principals, names.trust_domains
    return [
        _Condition(spread(said.principals), spread(said.not_principals), _principal_named),
        _Condition(said.request_principals, said.not_request_principals, _token, True),
        _Condition(said.service_accounts, said.not_service_accounts, _account(names)),
        _Condition(domains(said.trust_domains), domains(said.not_trust_domains), _trust_domain),
        _Condition(said.namespaces, said.not_namespaces, _namespace),
        _Condition(said.remote_ip_blocks, said.not_remote_ip_blocks, _first_caller),
        _Condition(said.ip_blocks, said.not_ip_blocks, _caller),
    ]


def _asker(when: When, names: Names) -> _Condition[rbac_v3.Principal] | None:
    values, others = when.values, when.not_values
    match when.key:
        case "source.principal":
            return _Condition(names.principals(values), names.principals(others), _principal_named)
        case "source.trustDomain":
            return _Condition(names.trust_domains(values), names.trust_domains(others), _trust_domain)
        case "source.namespace":
            return _Condition(values, others, _namespace)
        case "source.serviceAccount":
            return _Condition(values, others, _account(names))
        case "source.ip":
            return _Condition(values, others, _caller)
        case "remote.ip":
            return _Condition(values, others, _first_caller)
        case "request.auth.principal":
            return _Condition(values, others, _token, True)
        case "request.auth.audiences":
            return _Condition(values, others, _claim(("aud",)), True)
        case "request.auth.presenter":
            return _Condition(values, others, _claim(("azp",)), True)
        case key if key.startswith(_HEADER):
            name = key.removeprefix(_HEADER).removesuffix("]")
            return _Condition(values, others, lambda value: _request_header(name, value), True)
        case key if key.startswith(_CLAIMS):
            return _Condition(values, others, _claim(claim_path(f"@{key}")), True)
    return None


def _principal_named(value: str) -> rbac_v3.Principal:
    return _proved(text(value, "spiffe://"))


def _account(names: Names) -> Callable[[str], rbac_v3.Principal]:
    return lambda value: _proved(_regex(f"spiffe://.+{names.account(value)}"))


def _namespace(value: str) -> rbac_v3.Principal:
    return _proved(_regex(f".*/ns/{anything(value)}/.*"))


def _trust_domain(value: str) -> rbac_v3.Principal:
    if value == "*":
        return _proved(string_v3.StringMatcher(prefix="spiffe://"))
    if "*" not in value:
        return _proved(string_v3.StringMatcher(prefix=f"spiffe://{value}/"))
    return _proved(_regex(f"spiffe://{anything(value, '[^/]*')}/.*"))


def _caller(value: str) -> rbac_v3.Principal:
    return rbac_v3.Principal(direct_remote_ip=cidr(value))


def _first_caller(value: str) -> rbac_v3.Principal:
    return rbac_v3.Principal(remote_ip=cidr(value))


def _request_header(name: str, value: str) -> rbac_v3.Principal:
    return rbac_v3.Principal(header=_header(name, value))


def _token(value: str) -> rbac_v3.Principal:
    """`issuer/subject`, split at the last `/`: an issuer may be an URL."""
    issuer, separator, subject = value.rpartition("/")
    if not separator:
        issuer, subject = (value, "*") if value.endswith("*") else ("*", value)
        if "*" not in value:
            issuer, subject = value, ""
        matchers = (text(issuer), text(subject))
    elif value.startswith("*"):
        matchers = (text(issuer), _exactly(subject))
    elif value.endswith("*"):
        matchers = (_exactly(issuer), text(subject))
    else:
        matchers = (_exactly(issuer), _exactly(subject))
    claims = zip(("iss", "sub"), matchers, strict=True)
    return rbac_v3.Principal(
        and_ids={
            "ids": [
                _in_token((claim,), value_v3.ValueMatcher(string_match=matcher)) for claim, matcher in claims
            ]
        }
    )


def _claim(path: tuple[str, ...]) -> Callable[[str], rbac_v3.Principal]:
    def holds(value: str) -> rbac_v3.Principal:
        said = value_v3.ValueMatcher(string_match=text(value))
        among = value_v3.ValueMatcher(list_match={"one_of": said})
        either = value_v3.ValueMatcher(or_match={"value_matchers": [among, said]})
        return _in_token(path, either)

    return holds


def _in_token(path: tuple[str, ...], value: value_v3.ValueMatcher) -> rbac_v3.Principal:
    keys = [{"key": key} for key in (JWT_PAYLOAD, *path)]
    left = metadata_v3.MetadataMatcher(filter=JWT_FILTER, path=keys, value=value)
    return rbac_v3.Principal(sourced_metadata={"metadata_matcher": left})


def _proved(name: string_v3.StringMatcher) -> rbac_v3.Principal:
    return rbac_v3.Principal(authenticated={"principal_name": name})


# texts


def text(value: str, before: str = "") -> string_v3.StringMatcher:
    """`*`, `prefix*`, `*suffix` or the whole text; `before` stands in front of what is compared."""
    if value == "*":
        return _regex(".+")
    if value.startswith("*"):
        if before:
            return _regex(f"{before}.*{re.escape(value[1:])}")
        return string_v3.StringMatcher(suffix=value[1:])
    if value.endswith("*"):
        return string_v3.StringMatcher(prefix=before + value[:-1])
    return string_v3.StringMatcher(exact=before + value)


def _exactly(value: str) -> string_v3.StringMatcher:
    return string_v3.StringMatcher(exact=value)


def anything(value: str, wildcard: str = ".*") -> str:
    """The text as a regular expression in which `*` stands for anything."""
    return wildcard.join(re.escape(part) for part in value.split("*"))


def _regex(pattern: str) -> string_v3.StringMatcher:
    return string_v3.StringMatcher(safe_regex={"regex": pattern})


def _header(name: str, value: str, *, ignore_case: bool = False) -> route_components_v3.HeaderMatcher:
    if value == "*":
        return route_components_v3.HeaderMatcher(name=name, present_match=True)
    matcher = text(value)
    matcher.ignore_case = ignore_case
    return route_components_v3.HeaderMatcher(name=name, string_match=matcher)
