"""A VirtualService -> its problems: hosts, gateways, routes of TCP and TLS; HTTP has its own module."""

from collections.abc import Iterator, Sequence

from isthmus.api.meta import Problem
from isthmus.api.networking.virtual_service import (
    Destination,
    L4MatchAttributes,
    RouteDestination,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualServiceSpec,
)
from isthmus.api.rules import conflict, export_to, listed, missing, port, tags, warning, wrong
from isthmus.api.syntax import address, jwt_claim, subnet, wildcard_domain
from isthmus.api.validation import http_route, reachability
from isthmus.api.validation.destination import destination, weights
from isthmus.api.validation.hosts import covering, overlapping
from isthmus.api.validation.references import gateway_names

MESH = "mesh"


def virtual_service(spec: VirtualServiceSpec, namespace: str) -> Iterator[Problem]:
    """The problems of a VirtualService by itself."""
    delegate = not spec.hosts
    if delegate:
        for name, given in (("gateways", spec.gateways), ("tls", spec.tls), ("tcp", spec.tcp)):
            if given:
                text = f"delegate virtual service (one without hosts) must have no {name} specified"
                yield conflict(f"spec.{name}", text)
    yield from gateway_names("spec.gateways", spec.gateways)
    for_gateways = bool(spec.gateways) and MESH not in spec.gateways
    yield from _hosts(spec, for_gateways=for_gateways)
    if not for_gateways:
        yield from _claims(spec)
    if not spec.http and not spec.tcp and not spec.tls:
        yield missing("spec", "http, tcp or tls must be provided in virtual service")
    for index, route in enumerate(spec.http):
        yield from http_route.http_route(f"spec.http[{index}]", route, delegate=delegate)
    for index, tcp in enumerate(spec.tcp):
        yield from _tcp_route(f"spec.tcp[{index}]", tcp)
    for index, tls in enumerate(spec.tls):
        yield from _tls_route(f"spec.tls[{index}]", tls, spec, for_gateways=for_gateways)
    yield from export_to("spec.exportTo", spec.export_to, namespace)
    yield from reachability.http(spec.http)
    yield from reachability.matches("spec.tcp", spec.tcp)
    yield from reachability.matches("spec.tls", spec.tls)


def _hosts(spec: VirtualServiceSpec, *, for_gateways: bool) -> Iterator[Problem]:
    good: list[int] = []
    by_sni = any(match.sni_hosts for route in spec.tls for match in route.match)
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        fault = _host(host, generated=for_gateways and by_sni)
        if fault and address(host):
            yield from wrong(field, host, fault)
        elif host == "*" and not for_gateways:
            text = "wildcard host * is not allowed for virtual services bound to the mesh gateway"
            yield from wrong(field, host, text, "name the hosts")
        else:
            good.append(index)
    hosts = [spec.hosts[index] for index in good]
    for index, other in overlapping(hosts):
        text = f"duplicate hosts in virtual service: {other} & {hosts[index]}"
        yield Problem(f"spec.hosts[{good[index]}]", f'Duplicate value: "{hosts[index]}": {text}')


def _host(host: str, *, generated: bool) -> str:
    if not (generated and host.startswith("outbound_")):
        return wildcard_domain(host)
    # what AUTO_PASSTHROUGH gateways see: outbound_.<port>_.<subset>_.<host>
    parts = [part.strip(".") for part in host.split("_")]
    if len(parts) < 4 or not any(map(str.isdigit, parts[1])) or not any(map(str.isalpha, parts[3])):
        return "domain name invalid: should follow outbound_.<PORT>_._.<HOSTNAME>"
    return ""


def _claims(spec: VirtualServiceSpec) -> Iterator[Problem]:
    for i, route in enumerate(spec.http):
        for j, match in enumerate(route.match):
            for name, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                for header in filter(jwt_claim, headers):
                    text = f"JWT claim based routing (key: {header}) is only supported for gateway"
                    yield from wrong(f"spec.http[{i}].match[{j}].{name}", header, text)


def _tcp_route(at: str, route: TCPRoute) -> Iterator[Problem]:
    for index, match in enumerate(route.match):
        yield from _l4_match(f"{at}.match[{index}]", match)
    if not route.route:
        yield missing(f"{at}.route", "TCP route is required", "give at least one destination")
    yield from _destinations(f"{at}.route", route.route)


def _tls_route(
    at: str, route: TLSRoute, spec: VirtualServiceSpec, *, for_gateways: bool
) -> Iterator[Problem]:
    if not route.match:
        yield missing(f"{at}.match", "TLS route must have at least one match condition")
    for index, match in enumerate(route.match):
        where = f"{at}.match[{index}]"
        if not match.sni_hosts:
            yield missing(f"{where}.sniHosts", "TLS match must have at least one SNI host")
        hosts = frozenset(spec.hosts)
        for number, name in enumerate(match.sni_hosts):
            yield from _sni(f"{where}.sniHosts[{number}]", name, hosts, for_gateways=for_gateways)
        yield from _l4_match(where, match)
    if not route.route:
        yield missing(f"{at}.route", "TLS route is required", "give at least one destination")
    yield from _destinations(f"{at}.route", route.route)


def _sni(field: str, name: str, hosts: frozenset[str], *, for_gateways: bool) -> Iterator[Problem]:
    fault = _host(name, generated=for_gateways)
    if fault and not address(name):
        text = f'using an IP address ("{name}") goes against SNI spec and most clients do not support this'
        yield warning(field, text)
    elif fault:
        yield from wrong(field, name, fault)
    elif covering(hosts, name) is None:
        text = "SNI host is not a compatible subset of any of the virtual service hosts"
        yield from wrong(field, name, f"{text}: [{listed(hosts)}]")


def _l4_match(at: str, match: L4MatchAttributes | TLSMatchAttributes) -> Iterator[Problem]:
    for index, range_ in enumerate(match.destination_subnets):
        yield from wrong(f"{at}.destinationSubnets[{index}]", range_, subnet(range_))
    if match.port:
        yield from port(f"{at}.port", match.port)
    yield from tags(f"{at}.sourceLabels", match.source_labels)
    yield from gateway_names(f"{at}.gateways", match.gateways)


def _destinations(at: str, routes: Sequence[RouteDestination]) -> Iterator[Problem]:
    said: list[Destination] = [weighted.destination for weighted in routes]
    for index, one in enumerate(said):
        yield from destination(f"{at}[{index}].destination", one)
    yield from weights(at, [weighted.weight for weighted in routes])
