"""One VirtualService -> its HTTP rules as they count: delegates merged in, names resolved, unusable ones out.

    root + delegates --http_rules--> rules (with problems of the root)
    delegate         --delegating--> the roots that continue there

Envoy refuses a whole route table for one rule that it cannot take; such a rule is left out, and told.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from isthmus.api.expressions import unusable
from isthmus.api.meta import Key, Problem
from isthmus.api.networking.http_options import Delegate
from isthmus.api.networking.virtual_service import (
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    RouteDestination,
    VirtualServiceSpec,
)
from isthmus.api.shapes import StringMatch
from isthmus.engine import Reader
from isthmus.mesh import services, world
from isthmus.mesh.hosts import exported
from isthmus.mesh.model import Judged
from isthmus.mesh.routing_delegates import merged
from isthmus.mesh.routing_table import MESH

KIND = "VirtualService"
REDIRECT_CODES = frozenset({0, 301, 302, 303, 307, 308})
"""Those that Envoy can send."""

_LEFT_OUT = "the rule is left out until this is fixed"


def http_rules(q: Reader, key: Key) -> Judged[tuple[HTTPRoute, ...]]:
    """The HTTP rules of a VirtualService that has hosts, in order."""
    spec = world.spec(q, key, VirtualServiceSpec)
    if spec is None or not spec.hosts:
        return Judged(())
    rules: list[HTTPRoute] = []
    problems: list[Problem] = []
    for i, route in enumerate(spec.http):
        at = f"spec.http[{i}]"
        if route.delegate is None:
            found = _refusals(at, route)
            problems += found
            if not found:
                rules.append(resolved(q, route, key.namespace))
            continue
        delegate = delegate_key(key, route.delegate)
        reason = _undelegated(q, key, delegate)
        if reason:
            problems.append(Problem(f"{at}.delegate", reason, "requests that match get 404"))
            continue
        root = resolved(q, route, key.namespace)
        for leaf in q(delegate_rules, delegate).value:
            both = merged(root, leaf)
            if both is not None:
                rules.append(both)
    return Judged(tuple(rules), tuple(problems))


def delegate_rules(q: Reader, key: Key) -> Judged[tuple[HTTPRoute, ...]]:
    """The HTTP rules of a VirtualService without hosts; a delegate cannot delegate further."""
    spec = world.spec(q, key, VirtualServiceSpec)
    rules: list[HTTPRoute] = []
    problems: list[Problem] = []
    for i, route in enumerate(spec.http if spec else ()):
        at = f"spec.http[{i}]"
        if route.delegate is not None:
            hint = "name it in the VirtualService that has the hosts"
            problems.append(Problem(f"{at}.delegate", "a delegate cannot delegate further", hint))
            continue
        found = _refusals(at, route)
        problems += found
        if not found:
            rules.append(resolved(q, route, key.namespace))
    return Judged(tuple(rules), tuple(problems))


def http_sources(q: Reader, key: Key) -> tuple[Key, ...]:
    """The VirtualServices that the rules of one come from: itself and its delegates."""
    spec = world.spec(q, key, VirtualServiceSpec)
    named = (delegate_key(key, route.delegate) for route in (spec.http if spec else ()) if route.delegate)
    used = [delegate for delegate in dict.fromkeys(named) if not q(_undelegated, key, delegate)]
    return (key, *used)


def delegate_key(root: Key, said: Delegate) -> Key:
    """The VirtualService that a rule of `root` delegates to."""
    return Key(KIND, said.namespace or root.namespace, said.name)


def delegating(q: Reader, key: Key) -> tuple[tuple[Key, int], ...]:
    """The rules that continue in a delegate: (root, index of its rule)."""
    return tuple(
        (root, i)
        for root in q(world.all_keys, KIND)
        for i, delegate in q(_delegates_of, root)
        if delegate == key
    )


def _delegates_of(q: Reader, root: Key) -> tuple[tuple[int, Key], ...]:
    spec = world.spec(q, root, VirtualServiceSpec)
    http = spec.http if spec and spec.hosts else ()
    return tuple((i, delegate_key(root, route.delegate)) for i, route in enumerate(http) if route.delegate)


def _undelegated(q: Reader, root: Key, delegate: Key) -> str:
    """Why a root cannot use a delegate; empty when it can."""
    spec = world.spec(q, delegate, VirtualServiceSpec)
    if spec is None:
        return f"there is no {delegate}"
    if delegate == root:
        return f"{delegate} cannot continue in itself"
    if spec.hosts:
        return f"{delegate} has hosts of its own: only a VirtualService without hosts can be a delegate"
    if not exported(spec.export_to, delegate.namespace, root.namespace):
        return f"{delegate} is not exported to namespace {root.namespace}"
    return ""


# names


def resolved(q: Reader, route: HTTPRoute, namespace: str) -> HTTPRoute:
    """The rule with full host names and `namespace/name` gateways instead of short ones."""
    changes: dict[str, Any] = {}
    if any(match.gateways for match in route.match):
        changes["match"] = tuple(
            match.model_copy(update={"gateways": gateways(match.gateways, namespace)})
            for match in route.match
        )
    if route.route:
        changes["route"] = tuple(
            target.model_copy(update={"destination": _named(q, target.destination, namespace)})
            for target in route.route
        )
    if route.mirror:
        changes["mirror"] = _named(q, route.mirror, namespace)
    if route.mirrors:
        changes["mirrors"] = tuple(
            policy.model_copy(update={"destination": _named(q, policy.destination, namespace)})
            for policy in route.mirrors
        )
    return route.model_copy(update=changes) if changes else route


def resolved_targets(
    q: Reader, targets: Iterable[RouteDestination], namespace: str
) -> tuple[RouteDestination, ...]:
    """Destinations of connections with full host names."""
    return tuple(
        target.model_copy(update={"destination": _named(q, target.destination, namespace)})
        for target in targets
    )


def gateways(names: Iterable[str], namespace: str) -> tuple[str, ...]:
    """Gateways as `namespace/name`, whichever way a rule in `namespace` spells them."""
    return tuple(_gateway(name, namespace) for name in names)


def _gateway(name: str, namespace: str) -> str:
    if name == MESH:
        return name
    where, slash, what = name.partition("/")
    if slash:
        return f"{namespace}/{what}" if where == "." else name
    short, dot, rest = name.partition(".")
    # before `namespace/name` there were host names: name.namespace.svc.cluster.local
    return f"{rest.split('.')[0]}/{short}" if dot else f"{namespace}/{name}"


def _named(q: Reader, said: Destination, namespace: str) -> Destination:
    host = q(services.destination, said.host, namespace)
    return said if host == said.host else said.model_copy(update={"host": host})


# what Envoy would refuse


def _refusals(at: str, route: HTTPRoute) -> list[Problem]:
    found = [
        Problem(f"{at}.{field}", reason, _LEFT_OUT)
        for field, pattern in _expressions(route)
        if (reason := unusable(pattern))
    ]
    if route.redirect and route.redirect.redirect_code not in REDIRECT_CODES:
        code = route.redirect.redirect_code
        found.append(Problem(f"{at}.redirect.redirectCode", f"{code} cannot be sent", _LEFT_OUT))
    if not (route.route or route.redirect or route.direct_response or route.delegate):
        found.append(Problem(at, "says nothing to do", _LEFT_OUT))
    return found


def _expressions(route: HTTPRoute) -> Iterator[tuple[str, str]]:
    """Every regular expression of a rule with the path of its field."""
    for i, match in enumerate(route.match):
        for name, said in _strings(match):
            # `*` alone asks only that the value is there
            if said.regex is not None and said.regex != "*":
                yield f"match[{i}].{name}.regex", said.regex
    if route.rewrite and route.rewrite.uri_regex_rewrite:
        yield "rewrite.uriRegexRewrite.match", route.rewrite.uri_regex_rewrite.match
    if route.cors_policy:
        for i, origin in enumerate(route.cors_policy.allow_origins):
            if origin.regex is not None:
                yield f"corsPolicy.allowOrigins[{i}].regex", origin.regex


def _strings(match: HTTPMatchRequest) -> Iterator[tuple[str, StringMatch]]:
    single = (
        ("uri", match.uri),
        ("scheme", match.scheme),
        ("method", match.method),
        ("authority", match.authority),
    )
    yield from ((name, said) for name, said in single if said)
    yield from ((f"headers[{name}]", said) for name, said in match.headers.items())
    yield from ((f"queryParams[{name}]", said) for name, said in match.query_params.items())
    yield from ((f"withoutHeaders[{name}]", said) for name, said in match.without_headers.items())
