"""Namespace, Sidecar and exportTo -> what a class of proxies may see: the key to sharing configuration.

    proxy --scope_of--> Scope --egress--> listeners with their services and VirtualServices
                              --imported--> every host that may be called, with its ports

A Sidecar is chosen by its workload selector, else it is the namespace's own, else the root namespace's; of
several the oldest. https://istio.io/latest/docs/reference/config/networking/sidecar/
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import DestinationRuleSpec
from isthmus.api.networking.sidecar import IstioEgressListener, SidecarSpec
from isthmus.api.networking.virtual_service import Destination, VirtualServiceSpec
from isthmus.engine import Reader
from isthmus.mesh import destinations, protocols, proxies, scope_hosts, services, world
from isthmus.mesh.hosts import exported
from isthmus.mesh.model import Labels, Outbound, Port, Protocol, Scope, Service, has_labels, labels_of

KIND = "Sidecar"
MESH = "mesh"
_FAMILIES = ("IPv4", "IPv6")
"""Of a registered machine one address is known; it may have others, so that it is taken to speak both."""


@dataclass(frozen=True, slots=True)
class Called:
    """A service as a listener sees it: its host, the object that declares it, its ports (None: all)."""

    host: str
    source: Key
    ports: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Egress:
    """One way out: at a port and address of its own, or (`port` None) for all that no other one names."""

    port: Port | None
    bind: str
    bound: bool
    """Whether the proxy really listens there, instead of taking what was captured."""
    services: tuple[Called, ...]
    rules: tuple[Key, ...]
    """The VirtualServices that hold here, the one that counts first."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A host that may be called, the objects that make it up (the first counts), and its ports."""

    host: str
    sources: tuple[Key, ...]
    ports: tuple[int, ...]


def scope_of(q: Reader, workload: Key) -> Scope | None:
    """The scope of a workload's proxy; None when there is no such proxy."""
    proxy = q(proxies.proxy, workload)
    if proxy is None:
        return None
    router = proxy.type is proxies.ProxyType.ROUTER
    return Scope(
        namespace=workload.namespace,
        sidecar=None if router else q(sidecar_for, workload.namespace, proxy.labels),
        labels=tuple(
            label
            for label in proxy.labels
            if label in q(asked_labels) or label[0] in q(destinations.failover_labels)
        ),
        families=_FAMILIES if world.fact(q, workload) else _families(proxy.addresses),
        network=proxy.network,
        locality=proxy.locality,
        router=router,
        dials_ipv6=bool(proxy.addresses) and all(":" in address for address in proxy.addresses),
    )


def _families(addresses: Iterable[str]) -> tuple[str, ...]:
    spoken = {"IPv6" if ":" in address else "IPv4" for address in addresses}
    return tuple(sorted(spoken)) or _FAMILIES


# which Sidecar


def sidecar_for(q: Reader, namespace: str, labels: Labels) -> Key | None:
    """The Sidecar that a workload obeys."""
    own = [(key, q(selector_of, key)) for key in q(sidecars, namespace)]
    chosen = next((key for key, wanted in own if wanted is not None and has_labels(labels, wanted)), None)
    chosen = chosen or next((key for key, wanted in own if wanted is None), None)
    root = q(world.settings).root_namespace
    if chosen is None:
        chosen = next((key for key in q(sidecars, root) if q(selector_of, key) is None), None)
    return chosen


def sidecars(q: Reader, namespace: str) -> tuple[Key, ...]:
    """The Sidecars of a namespace, the oldest first."""
    return tuple(sorted(world.keys(q, KIND, namespace), key=lambda key: q(world.seniority, key)))


def selector_of(q: Reader, key: Key) -> Labels | None:
    """The workloads that a Sidecar is about; None when it is about the whole namespace."""
    spec = world.spec(q, key, SidecarSpec)
    return labels_of(spec.workload_selector.labels) if spec and spec.workload_selector else None


def sidecar(q: Reader, scope: Scope) -> SidecarSpec | None:
    """The Sidecar's own words."""
    return world.spec(q, scope.sidecar, SidecarSpec) if scope.sidecar else None


def outbound_policy(q: Reader, scope: Scope) -> Outbound:
    """What happens to calls of hosts that nobody declared."""
    spec = q(sidecar, scope)
    if spec and spec.outbound_traffic_policy:
        return Outbound(spec.outbound_traffic_policy.mode)
    return q(world.settings).outbound


def egress_proxy(q: Reader, scope: Scope) -> Destination | None:
    """Where calls of undeclared hosts are sent instead of to their own address."""
    spec = q(sidecar, scope)
    return spec.outbound_traffic_policy.egress_proxy if spec and spec.outbound_traffic_policy else None


def asked_labels(q: Reader) -> frozenset[tuple[str, str]]:
    """The labels of callers that some rule asks for."""
    found: set[tuple[str, str]] = set()
    for kind in ("VirtualService", "DestinationRule"):
        for key in q(world.all_keys, kind):
            found.update(q(_asked_by, key))
    return frozenset(found)


def _asked_by(q: Reader, key: Key) -> Labels:
    fact = world.fact(q, key)
    match fact.spec if fact else None:
        case VirtualServiceSpec() as spec:
            asked = [m.source_labels for http in spec.http for m in http.match]
            asked += [m.source_labels for tcp in spec.tcp for m in tcp.match]
            asked += [m.source_labels for tls in spec.tls for m in tls.match]
            return tuple(sorted({label for labels in asked for label in labels.items()}))
        case DestinationRuleSpec(workload_selector=selector) if selector:
            return labels_of(selector.match_labels)
    return ()


# what may be called


def egress(q: Reader, scope: Scope) -> tuple[Egress, ...]:
    """The ways out of a scope, in the order of its Sidecar; one for everything without a Sidecar."""
    spec = q(sidecar, scope)
    listeners = (spec.egress if spec else ()) or (IstioEgressListener(hosts=("*/*",)),)
    return tuple(_egress(q, scope, listener) for listener in listeners)


def _egress(q: Reader, scope: Scope, listener: IstioEgressListener) -> Egress:
    named = scope_hosts.parse(listener.hosts, scope.namespace)
    said = listener.port
    port = Port(said.number, said.name, protocols.parse(said.protocol), said.number) if said else None
    only = said.number if port and said and said.number and port.protocol is not Protocol.HTTP_PROXY else None
    unix = listener.bind.startswith("unix://") or listener.bind.startswith("@")
    return Egress(
        port=port,
        bind=listener.bind,
        bound=listener.capture_mode == "NONE" or unix,
        services=_called(q, scope, named, only),
        rules=tuple(
            key
            for key in q(virtual_services, scope.namespace)
            if scope_hosts.names_rule(named, key.namespace, q(rule_hosts, key))
        ),
    )


def _called(
    q: Reader, scope: Scope, named: Mapping[str, scope_hosts.Named], only: int | None
) -> tuple[Called, ...]:
    control_plane = q(_control_plane) if only is None else None
    seen = [
        (host, key)
        for host, key in q(offered, scope.namespace)
        if host == control_plane or scope_hosts.names_service(named, key.namespace, host)
    ]
    claims: dict[tuple[str, str], list[Key]] = {}
    for host, key in seen:
        claims.setdefault((host, key.namespace), []).append(key)
    found = [
        Called(host, key, ports)
        for host, key in seen
        if (ports := _given(q, host, key, tuple(claims[host, key.namespace]), only)) != ()
    ]
    # one host, one namespace: the proxy's own, else that of a Service, else that of the oldest object
    place: dict[str, Key] = {}
    for called in found:
        key, held = called.source, place.setdefault(called.host, called.source)
        if key.namespace == scope.namespace or (
            held.kind != "Service" and key.kind == "Service" and held.namespace != scope.namespace
        ):
            place[called.host] = key
    return tuple(called for called in found if place[called.host].namespace == called.source.namespace)


def _given(
    q: Reader, host: str, key: Key, claims: tuple[Key, ...], only: int | None
) -> tuple[int, ...] | None:
    """The ports that one of the claims gives to a host (None: all of its own), or `only` that one of them."""
    given = q(services.counted_ports, host, claims).get(key, ()) if len(claims) > 1 else None
    if only is None:
        return given
    return (only,) if only in (q(_ports, key) if given is None else given) else ()


def _control_plane(q: Reader) -> str:
    """The host of the control plane: a machine proves with it that its capture works, whatever its Sidecar
    lets its programs call."""
    settings = q(world.settings)
    return f"{settings.control_plane_account}.{settings.root_namespace}.svc.{settings.dns_domain}"


def offered(q: Reader, namespace: str) -> tuple[tuple[str, Key], ...]:
    """The hosts that are exported to a namespace with the objects that declare them: first what is exported
    to few, then what is exported to all, each the oldest first."""
    private: list[tuple[str, Key]] = []
    public: list[tuple[str, Key]] = []
    for _, host, key in q(_by_age):
        export_to = q(services.export_to, key)
        if "*" in export_to:
            public.append((host, key))
        elif exported(export_to, key.namespace, namespace):
            private.append((host, key))
    return (*private, *public)


def _by_age(q: Reader) -> tuple[tuple[tuple[str, str, str], str, Key], ...]:
    found = []
    for kind in services.KINDS:
        for key in q(world.all_keys, kind):
            created, name, namespace = q(world.seniority, key)
            for host in q(services.declared_hosts, key):
                found.append(((created, name if kind == "Service" else host, namespace), host, key))
    return tuple(sorted(found))


def _ports(q: Reader, key: Key) -> tuple[int, ...]:
    declared = q(services.declared, key)
    return tuple(port.number for port in declared[0].ports) if declared else ()


# which VirtualServices


def virtual_services(q: Reader, namespace: str) -> tuple[Key, ...]:
    """The VirtualServices for sidecars that a namespace sees: its private ones, those exported to it, those
    exported to all; each the oldest first."""
    ranks: dict[int, list[Key]] = {0: [], 1: [], 2: []}
    for key in sorted(q(world.all_keys, "VirtualService"), key=lambda key: q(world.seniority, key)):
        spec = world.spec(q, key, VirtualServiceSpec)
        if spec is None or (spec.gateways and MESH not in spec.gateways):
            continue
        export_to = spec.export_to or q(world.settings).virtual_service_export_to
        if "*" in export_to:
            ranks[2].append(key)
        elif exported(export_to, key.namespace, namespace):
            ranks[0 if key.namespace == namespace else 1].append(key)
    return (*ranks[0], *ranks[1], *ranks[2])


def rule_hosts(q: Reader, key: Key) -> tuple[str, ...]:
    """The hosts that a VirtualService is about, in full."""
    spec = world.spec(q, key, VirtualServiceSpec)
    return tuple(services.full_host(q, host, key.namespace) for host in spec.hosts) if spec else ()


def _destinations(q: Reader, key: Key, viewer: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Where a VirtualService sends the callers of a namespace, by host; 0 = no port is said."""
    spec = world.spec(q, key, VirtualServiceSpec)
    found: dict[str, set[int]] = {}
    for said in _said_destinations(spec, viewer) if spec else ():
        host = services.full_host(q, said.host, key.namespace)
        found.setdefault(host, set()).add(said.port.number if said.port else 0)
    return tuple((host, tuple(sorted(ports))) for host, ports in sorted(found.items()))


def _said_destinations(spec: VirtualServiceSpec, viewer: str) -> Iterable[Destination]:
    for http in spec.http:
        asked = [match.source_namespace for match in http.match if match.source_namespace]
        if asked and viewer not in asked:
            continue
        yield from (target.destination for target in http.route)
        if http.mirror:
            yield http.mirror
        yield from (mirror.destination for mirror in http.mirrors)
    for tcp in spec.tcp:
        yield from (target.destination for target in tcp.route)
    for tls in spec.tls:
        yield from (target.destination for target in tls.route)


# all together


def imported(q: Reader, scope: Scope) -> tuple[Imported, ...]:
    """The hosts that a scope may call: what its ways out name, and where their VirtualServices lead."""
    found: dict[str, list[Called]] = {}
    for way in q(egress, scope):
        for called in way.services:
            found.setdefault(called.host, []).append(called)
        for rule in way.rules:
            for host, ports in q(_destinations, rule, scope.namespace):
                found.setdefault(host, []).extend(_led_to(q, scope, way, host, ports))
    return tuple(merged for host in sorted(found) if (merged := _merged(q, host, found[host])))


def _led_to(q: Reader, scope: Scope, way: Egress, host: str, ports: tuple[int, ...]) -> list[Called]:
    # the own namespace's, whomever it is for; else a Service's, else the oldest of those that are offered
    keys = q(services.claims_in, host, scope.namespace)
    if not keys:
        seen = {key for known, key in q(offered, scope.namespace) if known == host}
        claims = [key for key in q(services.claims_of, host) if key in seen]
        keys = tuple(key for key in claims if key.namespace == claims[0].namespace)
    given = q(services.counted_ports, host, keys)
    if way.port is not None and way.port.number and way.port.protocol is not Protocol.HTTP_PROXY:
        ports = (way.port.number,)
    if 0 in ports:
        return [Called(host, key, numbers) for key, numbers in given.items()]
    return [Called(host, key, tuple(n for n in ports if n in numbers)) for key, numbers in given.items()]


def _merged(q: Reader, host: str, calls: list[Called]) -> Imported | None:
    """The service that these make together: a Service counts more than entries, then whoever came first;
    others like it add their ports."""
    by_source: dict[Key, Called] = {}
    for called in calls:
        held = by_source.setdefault(called.source, called)
        if held.ports is not None:
            ports = None if called.ports is None else (*held.ports, *called.ports)
            by_source[called.source] = Called(host, called.source, ports)
    parts = services.joined(s for called in by_source.values() if (s := _declared(q, called)))
    sources = dict.fromkeys(part.source for part in parts)
    numbers = dict.fromkeys(port.number for part in parts for port in part.ports)
    return Imported(host, tuple(sources), tuple(numbers)) if numbers else None


def called_service(q: Reader, called: Called) -> Service | None:
    """The service as one listener sees it: with the ports that are called there."""
    return _declared(q, called)


def _declared(q: Reader, called: Called) -> Service | None:
    service = next((s for s in q(services.declared, called.source) if s.host == called.host), None)
    if service is None or called.ports is None:
        return service
    ports = tuple(port for port in service.ports if port.number in called.ports)
    return replace(service, ports=ports) if ports else None
