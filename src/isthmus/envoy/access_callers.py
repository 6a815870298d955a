"""ALLOW policies -> the SPIFFE ids that the TLS handshake of a port lets in at all.

Envoy asks policies about a connection only when the caller's first bytes come. A server that speaks first has
greeted by then, and a refused caller has seen which database stands there. So where every ALLOW rule of a
port names its callers, the others do not get through the handshake, and plaintext does not get through.
Whatever else the policies ask (addresses, DENY) is asked with the first bytes, as in Istio.
"""

import re
from collections.abc import Iterator, Sequence

from envoy.type.matcher.v3 import string_pb2 as string_v3

from isthmus.api.security import Rule, Source
from isthmus.envoy import access_conditions, tls
from isthmus.envoy.access import Access
from isthmus.envoy.access_names import Names

NOBODY = tls.exactly("spiffe://")
"""No certificate's id: an empty list of ids would let in everybody."""


def callers(said: Access, port: int) -> tuple[string_v3.StringMatcher, ...] | None:
    """The SPIFFE ids that could be let through on a port that is not read as HTTP; None for anybody.

    Port 0 stands for all that nobody declared. Wider than the policies, never narrower; all of the mesh's own
    trust domains.
    """
    allow = [policy for policy in said.of("ALLOW") if not policy.dry_run]
    if not allow:
        return None
    found: dict[bytes, string_v3.StringMatcher] = {}
    for policy in allow:
        names = Names(policy.key.namespace, said.domains)
        for rule in policy.rules:
            if not _may_be_for(rule, names, port):
                continue
            for source in [each.source or Source() for each in rule.from_] or [Source()]:
                named = _named(rule, source, names)
                if named is None:
                    return None
                found.update((each.SerializeToString(deterministic=True), each) for each in named)
    return tuple(found[key] for key in sorted(found)) or (NOBODY,)


def _may_be_for(rule: Rule, names: Names, port: int) -> bool:
    if access_conditions.policy(rule, names, requests=False, strict=True) is None:
        return False
    operations = [each.operation for each in rule.to]
    named = [when for when in rule.when if when.key == "destination.port"]
    return all(_has(port, when.values, when.not_values) for when in named) and (
        not operations or any(one is None or _has(port, one.ports, one.not_ports) for one in operations)
    )


def _has(port: int, values: Sequence[str], not_values: Sequence[str]) -> bool:
    return not port or ((not values or str(port) in values) and str(port) not in not_values)


def _named(rule: Rule, source: Source, names: Names) -> list[string_v3.StringMatcher] | None:
    """The ids that a source may have, by the narrowest thing that it asks of them; None for any."""
    whens = {when.key: when.values for when in rule.when if when.values}
    principals = source.principals or whens.get("source.principal")
    if principals:
        return [matcher for value in names.principals(principals) for matcher in _ids(value, names.domains)]
    accounts = source.service_accounts or whens.get("source.serviceAccount")
    if accounts:
        return [_regex(names.domains, names.account(value)) for value in accounts]
    namespaces = source.namespaces or whens.get("source.namespace")
    if namespaces:
        return [_regex(names.domains, f"/ns/{access_conditions.anything(value)}/.*") for value in namespaces]
    return None


def _ids(principal: str, domains: Sequence[str]) -> Iterator[string_v3.StringMatcher]:
    """A principal as the ids of these trust domains."""
    head, slash, tail = principal.removeprefix("*").partition("/")
    for domain in domains:
        if principal == "*":
            yield tls.beginning(f"spiffe://{domain}/")
        elif principal.startswith("*"):
            yield _regex((domain,), f"/.*{re.escape(principal[1:])}")
            if slash and domain.endswith(head):
                yield tls.exactly(f"spiffe://{domain}/{tail}")
        elif not slash and head.endswith("*") and domain.startswith(head[:-1]):
            yield tls.beginning(f"spiffe://{domain}/")
        elif slash and head == domain:
            yield access_conditions.text(principal, "spiffe://")


def _regex(domains: Sequence[str], path: str) -> string_v3.StringMatcher:
    """The ids of these trust domains whose path is like this."""
    either = "|".join(re.escape(domain) for domain in domains)
    return string_v3.StringMatcher(safe_regex={"regex": f"spiffe://({either}){path}"})
