"""Kubernetes Services and ServiceEntries -> one registry of services by host.

    Service, ServiceEntry --declared--> Service values --declarations--> by host
    the objects of one namespace that declare a host --merged--> the service

Several objects may declare one host; a caller sees those of one namespace (`scope`). Among them a Kubernetes
Service wins over ServiceEntries, which then give nothing; of ServiceEntries the oldest counts, others that
are like it add their ports, and endpoints come from all of them (docs/decisions/025-whose-host.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from isthmus.api.core import ServiceSpec
from isthmus.api.meta import Key
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.engine import Reader
from isthmus.mesh import world
from isthmus.mesh.declared import DISTRIBUTION_ANNOTATION, from_entry, from_service
from isthmus.mesh.hosts import full
from isthmus.mesh.model import Resolution, Service

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


def counting(claims: Iterable[Key]) -> tuple[Key, ...]:
    """Of a namespace's claims of a host those that give it anything: a Service leaves entries nothing."""
    found = tuple(claims)
    return tuple(key for key in found if key.kind == "Service") or found


def service(q: Reader, host: str) -> Service | None:
    """The service of a host to those who do not care which namespace's it is."""
    claims = q(claims_of, host)
    return q(merged, host, q(claims_in, host, claims[0].namespace)) if claims else None


def merged(q: Reader, host: str, claims: tuple[Key, ...]) -> Service | None:
    """The service that several declarations of one namespace make together; None when there are none."""
    parts = q(parts_of, host, claims)
    if not parts:
        return None
    first, *others = parts
    ports = {port.number: port for port in first.ports}
    vips = dict.fromkeys(first.vips)
    for other in others:
        if _alike(first, other):
            vips.update(dict.fromkeys(other.vips))
            for port in other.ports:
                ports.setdefault(port.number, port)
    ordered = sorted(vips, key=lambda address: (":" in address, address))
    return replace(first, ports=tuple(ports.values()), vips=tuple(ordered), aliases=q(aliases_of, host))


def parts_of(q: Reader, host: str, claims: tuple[Key, ...]) -> tuple[Service, ...]:
    """What each of the declarations says of the host."""
    return tuple(s for key in claims for s in q(declared, key) if s.host == host)


def _alike(one: Service, other: Service) -> bool:
    return one.source.kind == other.source.kind == "ServiceEntry" and (
        (one.resolution, one.labels, one.selector, sorted(one.export_to))
        == (other.resolution, other.labels, other.selector, sorted(other.export_to))
    )


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
