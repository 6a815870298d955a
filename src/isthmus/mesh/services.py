"""Kubernetes Services and ServiceEntries -> one registry of services by host.

    Service, ServiceEntry --declared--> Service values --declarations--> by host
    the objects of one namespace that declare a host --merged--> the service

Several objects may declare one host; a caller sees those of one namespace (`scope`). Among them a Kubernetes
Service wins over ServiceEntries, which then give nothing. Of ServiceEntries the oldest counts; others like it
add ports, addresses and endpoints, the rest give nothing (docs/decisions/025-whose-host.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from isthmus.api.core import ServiceSpec
from isthmus.api.meta import Key
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.engine import Reader
from isthmus.mesh import world
from isthmus.mesh.declared import DISTRIBUTION_ANNOTATION, from_entry, from_service
from isthmus.mesh.hosts import full
from isthmus.mesh.model import Port, Resolution, Service

KINDS = ("Service", "ServiceEntry")


def declarations(q: Reader) -> Mapping[str, tuple[Key, ...]]:
    """The objects that declare each host, the one that counts first; names that only mean another are out."""
    found: dict[str, list[Key]] = {}
    for kind in KINDS:
        for key in q(world.all_keys, kind):
            for host in q(declared_hosts, key):
                found.setdefault(host, []).append(key)

    def rank(key: Key) -> tuple[int, str, str, str, str]:
        created, name, namespace = q(world.seniority, key)
        # the name of an entry says nothing about whom the host belongs to
        return KINDS.index(key.kind), created, "" if key.kind == "ServiceEntry" else name, namespace, name

    return {host: tuple(sorted(claims, key=rank)) for host, claims in sorted(found.items())}


def hosts(q: Reader) -> tuple[str, ...]:
    """Every host of the registry, sorted."""
    return tuple(q(declarations))


def claims_of(q: Reader, host: str) -> tuple[Key, ...]:
    """The objects that declare this host, the one that counts first."""
    return q(declarations).get(host, ())


def claims_in(q: Reader, host: str, namespace: str) -> tuple[Key, ...]:
    """Those of one namespace."""
    return tuple(key for key in q(claims_of, host) if key.namespace == namespace)


def counted_ports(q: Reader, host: str, claims: tuple[Key, ...]) -> Mapping[Key, tuple[int, ...]]:
    """Of the claims of a host those that give it anything, each with the numbers of its ports that count."""
    return {part.source: tuple(p.number for p in part.ports) for part in q(parts_of, host, claims)}


def service(q: Reader, host: str) -> Service | None:
    """The service of a host to those who do not care which namespace's it is."""
    claims = q(claims_of, host)
    return q(merged, host, q(claims_in, host, claims[0].namespace)) if claims else None


def merged(q: Reader, host: str, claims: tuple[Key, ...]) -> Service | None:
    """The service that several declarations of one namespace make together; None when there are none."""
    parts = q(parts_of, host, claims)
    return replace(together(parts), aliases=q(aliases_of, host)) if parts else None


def together(parts: Sequence[Service]) -> Service:
    """The first of these with the ports and addresses of all."""
    if len(parts) == 1:
        return parts[0]
    ports = {port.number: port for part in reversed(parts) for port in part.ports}
    order = dict.fromkeys(port.number for part in parts for port in part.ports)
    vips = sorted({vip for part in parts for vip in part.vips}, key=lambda address: (":" in address, address))
    return replace(parts[0], ports=tuple(ports[number] for number in order), vips=tuple(vips))


def parts_of(q: Reader, host: str, claims: tuple[Key, ...]) -> tuple[Service, ...]:
    """What each of the declarations gives to the host, the first of them before all others."""
    return joined(s for key in claims for s in q(declared, key) if s.host == host)


def joined(declarations: Iterable[Service]) -> tuple[Service, ...]:
    """Declarations of one host without what they lose to those before them; who gives nothing is left out."""
    said = list(declarations)
    if any(service.source.kind == "Service" for service in said):
        said = [service for service in said if service.source.kind == "Service"]
    parts: list[Service] = []
    ports: dict[int, Port] = {}
    for service in said:
        if parts and not fits(parts[0], service, ports):
            continue
        own = tuple(port for port in service.ports if not overruled(service, port, ports.get(port.number)))
        if own or not service.ports:
            parts.append(service if own == service.ports else replace(service, ports=own))
            ports = {port.number: port for port in own} | ports
    return tuple(parts)


def fits(first: Service, other: Service, ports: Mapping[int, Port]) -> bool:
    """Whether an entry adds to a host that `first` and others already give these ports.

    It does when both are alike, or when it says nothing of ports that is not said already.
    """
    return (
        first.source.kind == other.source.kind == "ServiceEntry"
        and first.namespace == other.namespace
        and first.resolution is other.resolution
        and (not difference(first, other) or all(_same(port, ports.get(port.number)) for port in other.ports))
    )


def difference(one: Service, other: Service) -> str:
    """The field in which two entries are not alike; empty when they are."""
    if one.resolution is not other.resolution:
        return "spec.resolution"
    if one.selector != other.selector:
        return "spec.workloadSelector"
    if set(one.export_to) != set(other.export_to):
        return "spec.exportTo"
    return "metadata.labels" if one.labels != other.labels else ""


def overruled(service: Service, port: Port, held: Port | None) -> bool:
    """Whether the word of an older entry on a port leaves this one no place."""
    if held is None:
        return False
    # such a host has one endpoint for each port, and the older entry says which
    return service.resolution is Resolution.DNS_ROUND_ROBIN or not _same(port, held)


def _same(one: Port, other: Port | None) -> bool:
    return other is not None and (one.name, one.protocol) == (other.name, other.protocol)


def export_to(q: Reader, key: Key) -> tuple[str, ...]:
    """The namespaces that see an object's hosts, in the words of exportTo."""
    found = q(declared, key)
    return (found[0].export_to if found else ()) or q(world.settings).service_export_to


# names that mean another host


def aliases(q: Reader) -> Mapping[str, tuple[str, ...]]:
    """The other names of each host, from Services of type ExternalName; loops mean nothing."""
    direct = dict(found for key in q(world.all_keys, "Service") if (found := q(_alias, key)))
    reversed_: dict[str, list[str]] = {}
    for name in sorted(direct):
        target, passed = direct[name], {name}
        while target in direct and target not in passed:
            passed.add(target)
            target = direct[target]
        if target not in direct:
            reversed_.setdefault(target, []).append(name)
    return {host: tuple(names) for host, names in sorted(reversed_.items())}


def aliases_of(q: Reader, host: str) -> tuple[str, ...]:
    """The other names of one host."""
    return q(aliases).get(host, ())


def _alias(q: Reader, key: Key) -> tuple[str, str] | None:
    found = q(declared, key)
    return (found[0].host, found[0].alias_of) if found and found[0].resolution is Resolution.ALIAS else None


# names in rules


def resolve(q: Reader, name: str, namespace: str) -> str:
    """The registry's host that a rule in `namespace` means: as Istio reads it, else as it stands there."""
    from_rule = full_host(q, name, namespace)
    return name.lower() if not q(claims_of, from_rule) and q(claims_of, name.lower()) else from_rule


def destination(q: Reader, name: str, namespace: str) -> str:
    """The host that a route in `namespace` leads to.

    A short name that no service answers to gets its namespace and no domain: which domain it would be in is
    not known, and its cluster does not exist either way (docs/decisions/012-dangling-short-names.md).
    """
    host = resolve(q, name, namespace)
    short = name.lower().rstrip(".")
    if host == short or q(claims_of, host) or world.fact(q, Key("Service", namespace, short)):
        return host
    return f"{short}.{namespace}"


def full_host(q: Reader, name: str, namespace: str) -> str:
    """The name with its namespace and domain when it is short."""
    return full(name, namespace, q(world.settings).dns_domain)


# what one object declares


def declared_hosts(q: Reader, key: Key) -> tuple[str, ...]:
    """The hosts that one object declares; not those that only mean another."""
    return tuple(s.host for s in q(declared, key) if s.resolution is not Resolution.ALIAS)


def declared(q: Reader, key: Key) -> tuple[Service, ...]:
    """The services that one object declares, one for each of its hosts."""
    fact = world.fact(q, key)
    if fact is None:
        return ()
    inherited = q(_distribution, key.namespace)
    match fact.spec:
        case ServiceSpec() as spec:
            return (from_service(fact, spec, q(world.settings), inherited),)
        case ServiceEntrySpec() as spec:
            return from_entry(fact, spec, world.status(q, key).get("addresses", ()), inherited)
    return ()


def _distribution(q: Reader, namespace: str) -> str:
    found = world.fact(q, Key("Namespace", "", namespace))
    return found.annotations.get(DISTRIBUTION_ANNOTATION, "") if found else ""
