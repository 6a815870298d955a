"""Kubernetes Services and ServiceEntries -> one registry of services by host.

    Service, ServiceEntry --declared--> Service values --declarations--> by host --service--> one of them

When several objects declare one host, a Kubernetes Service wins over ServiceEntries, then the oldest wins;
the others lose that host and are told so (`analyse`).
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from isthmus.api.core import ServiceSpec
from isthmus.api.meta import Fact, Key
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.engine import Reader
from isthmus.mesh import world
from isthmus.mesh.hosts import full
from isthmus.mesh.model import InlineEndpoint, Labels, Port, Protocol, Resolution, Service, labels_of

KINDS = ("Service", "ServiceEntry")
EXPORT_TO_ANNOTATION = "networking.istio.io/exportTo"

_PROTOCOLS = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "h2c": Protocol.HTTP2,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.HTTP,
    "https": Protocol.TLS,
    "tls": Protocol.TLS,
    "kubernetes.io/wss": Protocol.TLS,
    "tcp": Protocol.TCP,
    "mongo": Protocol.TCP,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
    "postgres": Protocol.TCP,
    "udp": Protocol.UDP,
}


def declarations(q: Reader) -> Mapping[str, tuple[Key, ...]]:
    """The objects that declare each host, the one that counts first."""
    found: dict[str, list[Key]] = {}
    for kind in KINDS:
        for key in q(world.all_keys, kind):
            for host in q(declared_hosts, key):
                found.setdefault(host, []).append(key)
    return {
        host: tuple(sorted(claims, key=lambda key: (KINDS.index(key.kind), q(world.seniority, key))))
        for host, claims in sorted(found.items())
    }


def hosts(q: Reader) -> tuple[str, ...]:
    """Every host of the registry, sorted."""
    return tuple(q(declarations))


def service(q: Reader, host: str) -> Service | None:
    """The service of a host."""
    claims = q(claims_of, host)
    return next((s for s in q(declared, claims[0]) if s.host == host), None) if claims else None


def claims_of(q: Reader, host: str) -> tuple[Key, ...]:
    """The objects that declare this host, the one that counts first."""
    return q(declarations).get(host, ())


def resolve(q: Reader, name: str, namespace: str) -> str:
    """The registry's host that a rule in `namespace` means: as Istio reads it, else as it stands there."""
    from_rule = full_host(q, name, namespace)
    return name.lower() if not q(claims_of, from_rule) and q(claims_of, name.lower()) else from_rule


def full_host(q: Reader, name: str, namespace: str) -> str:
    """The name with its namespace and domain when it is short."""
    return full(name, namespace, q(world.settings).dns_domain)


def declared_hosts(q: Reader, key: Key) -> tuple[str, ...]:
    """The hosts that one object declares."""
    return tuple(service.host for service in q(declared, key))


def declared(q: Reader, key: Key) -> tuple[Service, ...]:
    """The services that one object declares, one for each of its hosts."""
    fact = world.fact(q, key)
    if fact is None:
        return ()
    match fact.spec:
        case ServiceSpec() as spec:
            return (_from_service(fact, spec, q(world.settings).dns_domain),)
        case ServiceEntrySpec() as spec:
            allocated = world.status(q, key).get("addresses", ())
            return tuple(
                _from_entry(fact, spec, host.lower(), _vips(spec, host, allocated))
                for host in dict.fromkeys(spec.hosts)
            )
    return ()


def protocol_of(*words: str | None) -> Protocol:
    """The protocol that the first meaningful word names: appProtocol, a port's name, a declared protocol.

    A port's name counts up to its first `-` (`http-web`). What nobody names is TCP: it is carried as bytes,
    which is right for every protocol, also for those where the server speaks first. Finding out by looking
    at the bytes is not done.
    """
    for word in words:
        known = _PROTOCOLS.get((word or "").lower()) or _PROTOCOLS.get((word or "").lower().partition("-")[0])
        if known:
            return known
    return Protocol.TCP


def _from_service(fact: Fact, spec: ServiceSpec, dns_domain: str) -> Service:
    ports = tuple(
        Port(
            number=port.port,
            name=port.name,
            protocol=(protocol_of(port.app_protocol, port.name) if port.protocol == "TCP" else Protocol.UDP),
            target=port.target_port or port.port,
        )
        for port in spec.ports
    )
    given = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    exports = fact.annotations.get(EXPORT_TO_ANNOTATION, "")
    return Service(
        host=f"{fact.key.name}.{fact.key.namespace}.svc.{dns_domain}",
        namespace=fact.key.namespace,
        ports=ports,
        vips=_sorted_addresses(address for address in given if address != "None"),
        external=False,
        resolution=Resolution.ENDPOINTS,
        selector=labels_of(spec.selector),
        inline=(),
        export_to=tuple(part.strip() for part in exports.split(",") if part.strip()),
        subject_alt_names=(),
        headless="None" in given,
        source=fact.key,
    )


def _from_entry(fact: Fact, spec: ServiceEntrySpec, host: str, vips: tuple[str, ...]) -> Service:
    resolutions = {
        "NONE": Resolution.NONE,
        "STATIC": Resolution.ENDPOINTS,
        "DNS": Resolution.DNS,
        "DNS_ROUND_ROBIN": Resolution.DNS,
        "DYNAMIC_DNS": Resolution.NONE,
    }
    selector: Labels = labels_of(spec.workload_selector.labels) if spec.workload_selector else ()
    ports = tuple(
        Port(
            number=port.number,
            name=port.name,
            protocol=protocol_of(port.protocol) if port.protocol else protocol_of(port.name),
            target=port.target_port or port.number,
        )
        for port in spec.ports
    )
    return Service(
        host=host,
        namespace=fact.key.namespace,
        ports=ports,
        vips=vips,
        external=spec.location == "MESH_EXTERNAL",
        resolution=resolutions[spec.resolution],
        selector=selector,
        inline=tuple(_inline(endpoint) for endpoint in spec.endpoints),
        export_to=spec.export_to,
        subject_alt_names=spec.subject_alt_names,
        headless=False,
        source=fact.key,
    )


def _inline(spec: WorkloadEntrySpec) -> InlineEndpoint:
    return InlineEndpoint(
        address=spec.address,
        ports=tuple(sorted(spec.ports.items())),
        labels=labels_of(spec.labels),
        service_account=spec.service_account,
        locality=spec.locality,
        weight=spec.weight or 1,
    )


def _vips(spec: ServiceEntrySpec, host: str, allocated: object) -> tuple[str, ...]:
    if spec.addresses:
        return _sorted_addresses(spec.addresses)
    rows = allocated if isinstance(allocated, list | tuple) else ()
    return _sorted_addresses(row["value"] for row in rows if row.get("host") == host)


def _sorted_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    plain = {address for text in addresses if (address := _plain_address(text))}
    return tuple(sorted(plain, key=lambda address: (":" in address, address)))


def _plain_address(text: str) -> str | None:
    # a CIDR range that holds one address is that address; what is neither was refused at the door
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return str(network.network_address if network.num_addresses == 1 else network)
