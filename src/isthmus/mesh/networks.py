"""Networks whose machines cannot dial each other -> endpoints elsewhere are reached through their gateway.

    MeshConfig's meshNetworks          \\
    Service with the network's label    +--gateways--> address and port by network
    gateways that pass TLS through     /               (the last where the others say nothing of a network)

    endpoint of another network --reached--> that network's gateways, which share its weight; mutual TLS only:
    the gateway does not open the connection, and tells by its server name where it goes

A gateway's name is asked of DNS by the control plane: ("resolved", name) is what it last answered.
https://istio.io/latest/docs/ops/deployment/deployment-models/#multiple-networks
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from math import lcm

from isthmus.api.core import ServiceSpec
from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.mesh import gateways, proxies, world
from isthmus.mesh.gateways_plan import plan
from isthmus.mesh.model import Endpoint, Scope
from isthmus.mesh.pods import NETWORK_LABEL

PORT_LABEL = "networking.istio.io/gatewayPort"
DEFAULT_PORT = 15443
_HEAVIEST = 2**32 - 1


@dataclass(frozen=True, slots=True, order=True)
class Gateway:
    """Where a network is entered."""

    address: str
    port: int


def declared(q: Reader) -> Mapping[str, tuple[Gateway, ...]]:
    """The gateways by network, by address or by name."""
    found: dict[str, set[Gateway]] = {}
    for name, network in world.settings(q).networks:
        found.setdefault(name, set()).update(Gateway(*said) for said in network.gateways)
    for key in q(world.all_keys, "Service"):
        for name, said in q(_of_service, key):
            found.setdefault(name, set()).add(said)
    for key in q(gateways.routers):
        own = q(_of_router, key)
        if own and not found.get(own[0]):
            found.setdefault(own[0], set())
    known = {name for name, said in found.items() if said}
    for key in q(gateways.routers):
        own = q(_of_router, key)
        if own and own[0] not in known:
            found[own[0]].add(own[1])
    return {name: tuple(sorted(said)) for name, said in sorted(found.items()) if said}


def _of_service(q: Reader, key: Key) -> tuple[tuple[str, Gateway], ...]:
    fact, spec = world.fact(q, key), world.spec(q, key, ServiceSpec)
    name = fact.labels.get(NETWORK_LABEL, "") if fact else ""
    if fact is None or spec is None or not name:
        return ()
    text = fact.labels.get(PORT_LABEL, "")
    port = int(text) if text.isdigit() else DEFAULT_PORT
    if port not in {each.port for each in spec.ports}:
        return ()
    addresses = [*world.status(q, key).get("addresses", ()), *spec.external_ips]
    return tuple((name, Gateway(address, port)) for address in dict.fromkeys(addresses))


def _of_router(q: Reader, key: Key) -> tuple[str, Gateway] | None:
    """The network that a registered gateway lets callers from elsewhere into, and how they reach it."""
    proxy = q(proxies.proxy, key)
    if proxy is None or not proxy.network or not proxy.addresses:
        return None
    places = q(plan, q(gateways.bound, key)).places
    ports = [place.port for place in places for server in place.servers if server.automatic]
    return (proxy.network, Gateway(proxy.addresses[0], min(ports))) if ports else None


def names(q: Reader) -> tuple[str, ...]:
    """The gateways' names that DNS has to be asked for."""
    found = {each.address for said in q(declared).values() for each in said}
    return tuple(sorted(name for name in found if not _is_address(name)))


def entrances(q: Reader) -> Mapping[str, tuple[Gateway, ...]]:
    """The gateways by network, by address. One whose name is not known yet lets nobody in."""
    found: dict[str, tuple[Gateway, ...]] = {}
    for name, said in q(declared).items():
        there = {Gateway(address, each.port) for each in said for address in q(_addresses, each.address)}
        found[name] = tuple(sorted(there))
    return found


def _addresses(q: Reader, name: str) -> tuple[str, ...]:
    resolved: tuple[str, ...] | None = (name,) if _is_address(name) else q.input("resolved", name)
    return resolved or ()


def own_network(q: Reader, scope: Scope) -> str:
    """The network of a scope's callers, as far as it makes a difference: where networks have gateways."""
    return scope.network if q(declared) else ""


# who is where


def network_of(q: Reader, endpoint: Endpoint) -> str:
    """The network of an endpoint: as it says, else by the range that its address is in."""
    return endpoint.network or q(_network_at, endpoint.address)


def _network_at(q: Reader, address: str) -> str:
    if not _is_address(address):
        return ""
    there = ip_address(address)
    for name, network in world.settings(q).networks:
        for text in network.ranges:
            reach = ip_network(text, strict=False)
            if reach.version == there.version and there in reach:
                return name
    return ""


def reached(
    q: Reader,
    found: Iterable[tuple[Endpoint, bool]],
    own: str,
    *,
    only_own: bool = False,
    mutual: bool | None = None,
) -> list[tuple[Endpoint, bool]]:
    """Endpoints with their health, as callers of network `own` reach them; `only_own` leaves others out.

    `mutual`: whether callers use the mesh's mutual TLS with all of them; None: with those that have it.
    """
    there = q(entrances)
    if not there:
        return list(found)
    scale = lcm(*(len(said) for said in there.values() if said))
    direct: list[tuple[Endpoint, bool]] = []
    shares: dict[tuple[str, Gateway, str], tuple[int, bool]] = {}
    for endpoint, well in found:
        weight = min(endpoint.weight * scale, _HEAVIEST)
        network = network_of(q, endpoint)
        if only_own and network not in ("", own):
            continue
        if network in ("", own) or network not in there:
            direct.append((_with_weight(endpoint, weight), well))
        elif endpoint.mtls if mutual is None else mutual:
            for entrance in there[network]:
                place = (network, entrance, endpoint.locality)
                held, healthy = shares.get(place, (0, False))
                share = weight // len(there[network]) if well else 0
                shares[place] = (held + share, healthy or well)
    return direct + [
        (_entered(network, entrance, locality, max(min(weight, _HEAVIEST), 1)), well)
        for (network, entrance, locality), (weight, well) in sorted(shares.items())
    ]


def _with_weight(endpoint: Endpoint, weight: int) -> Endpoint:
    return endpoint if weight == endpoint.weight else replace(endpoint, weight=weight)


def _entered(network: str, entrance: Gateway, locality: str, weight: int) -> Endpoint:
    return Endpoint(
        address=entrance.address,
        port=entrance.port,
        labels=((NETWORK_LABEL, network),),
        identity="",
        mtls=True,
        locality=locality,
        weight=weight,
        workload=None,
        network=network,
    )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
