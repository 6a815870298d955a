"""VirtualServices -> which of them a caller obeys, and their rules for one port.

    callers of a namespace, or of a gateway --visible_rules--> VirtualServices, the one that counts first
    one VirtualService --http_table--> ordered HTTP rules for one caller and port

Objects for the caller's own namespace alone come first, then those for some namespaces, then the public ones;
among them the oldest. Of the rules of one object the first that matches wins.
https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from collections.abc import Iterable, Iterator, Mapping

from isthmus.api.meta import Key
from isthmus.api.networking.load_balancing import ConsistentHashLB
from isthmus.api.networking.virtual_service import Destination as DestinationSpec
from isthmus.api.networking.virtual_service import (
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    TLSMatchAttributes,
    VirtualServiceSpec,
)
from isthmus.api.shapes import Percent
from isthmus.engine import Reader
from isthmus.mesh import routing_hashes, services, world
from isthmus.mesh.hosts import exported
from isthmus.mesh.ingresses import INGRESS_PATHS, PATHS_ANNOTATION
from isthmus.mesh.model import Destination, Labels, labels_of
from isthmus.mesh.routing_rules import KIND, gateways, http_rules
from isthmus.mesh.routing_table import MESH, Caller, HttpRule, Mirror

# which VirtualServices


def visible_rules(q: Reader, viewer: str, gateway: str) -> tuple[Key, ...]:
    """The VirtualServices that proxies in namespace `viewer` obey for a gateway, by rank."""
    ranked: list[tuple[int, tuple[str, str, str], Key]] = []
    for key in q(world.all_keys, KIND):
        bound, export_to = q(_binding, key)
        if gateway not in bound or not exported(export_to, key.namespace, viewer):
            continue
        rank = 2 if not export_to or "*" in export_to else 0 if key.namespace == viewer else 1
        ranked.append((rank, q(world.seniority, key), key))
    return tuple(key for _, _, key in sorted(ranked))


def rules_by_host(q: Reader, viewer: str, gateway: str) -> Mapping[str, tuple[Key, ...]]:
    """Those VirtualServices by host (or wildcard), in the same order."""
    found: dict[str, list[Key]] = {}
    for key in q(visible_rules, viewer, gateway):
        for host in q(hosts_of, key):
            found.setdefault(host, []).append(key)
    return {host: tuple(keys) for host, keys in found.items()}


def hosts_of(q: Reader, key: Key) -> tuple[str, ...]:
    """The hosts (or wildcards) that a VirtualService is about, in full."""
    spec = world.spec(q, key, VirtualServiceSpec)
    return (
        tuple(dict.fromkeys(services.resolve(q, host, key.namespace) for host in spec.hosts)) if spec else ()
    )


def gateways_of(q: Reader, key: Key) -> tuple[str, ...]:
    """The gateways (or `mesh`) that a VirtualService is bound to."""
    return q(_binding, key)[0]


def _binding(q: Reader, key: Key) -> tuple[tuple[str, ...], tuple[str, ...]]:
    spec = world.spec(q, key, VirtualServiceSpec)
    if spec is None or not spec.hosts:
        return (), ()
    export_to = spec.export_to or q(world.settings).virtual_service_export_to
    return gateways(spec.gateways, key.namespace) or (MESH,), export_to


# for whom


def narrowed(q: Reader, key: Key, caller: Caller) -> Caller:
    """The caller as one VirtualService sees it: callers that look the same share its routes."""
    asked = {name for wanted in q(_source_labels, key) for name, _ in wanted}
    return Caller(
        namespace=caller.namespace if q(_asks_namespace, key) else "",
        labels=tuple((name, value) for name, value in caller.labels if name in asked),
        gateway=caller.gateway,
    )


def _source_labels(q: Reader, key: Key) -> tuple[Labels, ...]:
    """The sets of source labels that the rules of a VirtualService ask for."""
    return tuple(sorted({labels_of(m.source_labels) for m in _all_matches(q, key) if m.source_labels}))


def _asks_namespace(q: Reader, key: Key) -> bool:
    return any(match.source_namespace for match in _all_matches(q, key))


def _all_matches(q: Reader, key: Key) -> Iterator[HTTPMatchRequest | L4MatchAttributes | TLSMatchAttributes]:
    for rule in q(http_rules, key).value:
        yield from rule.match
    spec = world.spec(q, key, VirtualServiceSpec)
    for tcp in spec.tcp if spec else ():
        yield from tcp.match
    for tls in spec.tls if spec else ():
        yield from tls.match


def is_from(match: HTTPMatchRequest, caller: Caller) -> bool:
    """Whether a match is about the caller: by gateway where it names any, else by labels and namespace."""
    if match.gateways:
        return caller.gateway in match.gateways
    if match.source_labels and not match.source_labels.items() <= dict(caller.labels).items():
        return False
    return match.source_namespace in ("", caller.namespace)


# the rules


def http_table(
    q: Reader, key: Key, caller: Caller, port: int, hashes: routing_hashes.Hashes = ()
) -> tuple[HttpRule, ...]:
    """The HTTP rules of a VirtualService for one caller and port; none when it says nothing to them."""
    rules: list[HttpRule] = []
    hash_of = dict(hashes)
    fact = world.fact(q, key)
    by_segment = fact is not None and fact.annotations.get(PATHS_ANNOTATION) == INGRESS_PATHS
    for route in q(http_rules, key).value:
        matches = _applying(route, caller, port)
        if matches is None:
            continue
        targets = tuple(
            Destination(*_place(q, target.destination, caller, port), target.weight, target.headers)
            for target in route.route
        )
        mirrors = tuple(
            Mirror(*_place(q, destination, caller, port), percentage)
            for destination, percentage in _mirrored(route)
        )
        sticky = tuple(_hashes(route, hash_of)) if hash_of else ()
        for match in matches:
            name = f"{route.name}.{match.name}" if match and match.name else route.name
            rules.append(HttpRule(name, match, targets, route, mirrors, sticky, port, by_segment))
            if match is None or _takes_all(match):
                return tuple(rules)  # nothing gets past a rule that always holds
    return tuple(rules)


def has_rules(q: Reader, key: Key, caller: Caller, port: int) -> bool:
    """Whether a VirtualService has any HTTP rule for one caller and port."""
    return any(_applying(route, caller, port) is not None for route in q(http_rules, key).value)


def _applying(route: HTTPRoute, caller: Caller, port: int) -> tuple[HTTPMatchRequest | None, ...] | None:
    """The matches that can hold for a caller and port; None when none can."""
    if not route.match:
        return (None,)
    found = tuple(match for match in route.match if match.port in (None, 0, port) and is_from(match, caller))
    return found or None


def _takes_all(match: HTTPMatchRequest) -> bool:
    """Whether a match holds for every request: it asks nothing of it but where it comes from and goes to."""
    uri = match.uri
    everywhere = uri is None or uri.prefix == "/" or uri.regex == ".*"
    return everywhere and not (
        match.scheme
        or match.method
        or match.authority
        or match.headers
        or match.query_params
        or match.without_headers
    )


def _place(q: Reader, said: DestinationSpec, caller: Caller, port: int) -> tuple[str, int, str]:
    """Host, port and subset of a destination.

    Without a port, sidecars go to the port that the request came to; gateways, and sidecars that do not
    know that port, to the host's only one.
    """
    number = said.port.number if said.port else port
    if said.port is None and (caller.gateway != MESH or port == 0):
        number = q(only_port, said.host) or port
    return q(concrete, said.host), number, said.subset


def _mirrored(route: HTTPRoute) -> Iterable[tuple[DestinationSpec, Percent | None]]:
    """Where copies go, with their share; a share of 0 is none."""
    whole = next((p for p in (route.mirror_percent, route.mirror_percent_snake) if p is not None), None)
    share = route.mirror_percentage
    if share is None and whole is not None:
        share = Percent(value=whole)
    said = [(route.mirror, share)] if route.mirror else []
    said += [(policy.destination, policy.percentage) for policy in route.mirrors]
    return [(where, share) for where, share in said if share is None or share.value > 0]


def _hashes(
    route: HTTPRoute, hash_of: Mapping[routing_hashes.Place, ConsistentHashLB]
) -> Iterable[ConsistentHashLB]:
    weighted = [t for t in route.route if len(route.route) == 1 or t.weight > 0]
    places = (routing_hashes.place(target.destination) for target in weighted)
    return (hash_of[place] for place in places if place in hash_of)


def concrete(q: Reader, host: str) -> str:
    """The host that a name means: itself, unless it is only another name of one."""
    return q(_meanings).get(host, host)


def _meanings(q: Reader) -> Mapping[str, str]:
    return {name: host for host, names in q(services.aliases).items() for name in names}


def only_port(q: Reader, host: str) -> int | None:
    """The port of a service that has exactly one."""
    service = q(services.service, host)
    return service.ports[0].number if service and len(service.ports) == 1 else None
