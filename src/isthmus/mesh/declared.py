"""One Kubernetes Service or ServiceEntry -> the services that it declares, one for each host.

Service       <name>.<namespace>.svc.<domain>      ServiceEntry  each of its hosts
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from isthmus.api.core import ServiceSpec
from isthmus.api.meta import Fact
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.identity.spiffe import SpiffeId
from isthmus.mesh import protocols
from isthmus.mesh.model import (
    VIP,
    InlineEndpoint,
    MeshSettings,
    Port,
    Resolution,
    Service,
    labels_of,
)

EXPORT_TO_ANNOTATION = "networking.istio.io/exportTo"
DISTRIBUTION_ANNOTATION = "networking.istio.io/traffic-distribution"
LOCALITY_LABEL = "istio-locality"
_CANONICAL_ACCOUNTS = "alpha.istio.io/canonical-serviceaccounts"
_KUBERNETES_ACCOUNTS = "alpha.istio.io/kubernetes-serviceaccounts"

_RESOLUTIONS = {
    "NONE": Resolution.NONE,
    "STATIC": Resolution.ENDPOINTS,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DYNAMIC,
}
_DISTRIBUTIONS = {"preferclose": "zone", "prefersamezone": "zone", "prefersamenode": "node"}


def from_service(fact: Fact, spec: ServiceSpec, settings: MeshSettings, inherited: str = "") -> Service:
    """The service that a Kubernetes Service declares. `inherited` is its namespace's traffic distribution."""
    given = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    headless = "None" in given
    alias = spec.external_name if spec.type == "ExternalName" else ""
    resolution = Resolution.NONE if headless else Resolution.ENDPOINTS
    said = (spec.traffic_distribution, fact.annotations.get(DISTRIBUTION_ANNOTATION), inherited)
    return Service(
        host=f"{fact.key.name}.{fact.key.namespace}.svc.{settings.dns_domain}",
        namespace=fact.key.namespace,
        ports=tuple(
            Port(
                number=port.port,
                name=port.name,
                protocol=protocols.of_port(port.port, port.name, port.app_protocol, port.protocol),
                target=port.target_port or port.port,
            )
            for port in spec.ports
        ),
        vips=_sorted_addresses(address for address in given if address != "None"),
        external=bool(alias),
        resolution=Resolution.ALIAS if alias else resolution,
        selector=labels_of(spec.selector),
        inline=(),
        export_to=_words(fact.annotations.get(EXPORT_TO_ANNOTATION)),
        subject_alt_names=_accounts(fact, settings.trust_domain),
        headless=headless,
        source=fact.key,
        labels=labels_of(fact.labels),
        alias_of=alias.lower().rstrip("."),
        node_local=spec.internal_traffic_policy == "Local",
        publish_not_ready=spec.publish_not_ready_addresses,
        traffic_distribution=_distribution(*said),
    )


def from_entry(
    fact: Fact, spec: ServiceEntrySpec, allocated: object, inherited: str = ""
) -> tuple[Service, ...]:
    """The services that a ServiceEntry declares. `allocated` are the addresses in its status."""
    ports = tuple(
        Port(
            number=port.number,
            name=port.name,
            protocol=(
                protocols.parse(port.protocol) if port.protocol else protocols.of_port(port.number, port.name)
            ),
            target=port.target_port or port.number,
        )
        for port in spec.ports
    )
    return tuple(
        Service(
            host=host.lower(),
            namespace=fact.key.namespace,
            ports=ports,
            vips=_vips(spec, host.lower(), allocated),
            external=spec.location == "MESH_EXTERNAL",
            resolution=_RESOLUTIONS[spec.resolution],
            selector=labels_of(spec.workload_selector.labels) if spec.workload_selector else (),
            inline=tuple(_inline(endpoint) for endpoint in spec.endpoints),
            export_to=spec.export_to,
            subject_alt_names=spec.subject_alt_names,
            headless=False,
            source=fact.key,
            labels=labels_of(fact.labels),
            traffic_distribution=_distribution(fact.annotations.get(DISTRIBUTION_ANNOTATION), inherited),
        )
        for host in dict.fromkeys(spec.hosts)
    )


def locality_of(said: str, labels: Mapping[str, str]) -> str:
    """The place of a workload: what it says, else its label, which spells `/` as `.`."""
    label = labels.get(LOCALITY_LABEL, "")
    return said or (label if "/" in label else label.replace(".", "/"))


def _inline(spec: WorkloadEntrySpec) -> InlineEndpoint:
    return InlineEndpoint(
        address=spec.address,
        ports=tuple(sorted(spec.ports.items())),
        labels=labels_of(spec.labels),
        service_account=spec.service_account,
        locality=locality_of(spec.locality, spec.labels),
        weight=spec.weight or 1,
        network=spec.network,
    )


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _accounts(fact: Fact, trust_domain: str) -> tuple[str, ...]:
    """Identities that a Service's annotations name, beside those of its endpoints."""
    named = list(_words(fact.annotations.get(_CANONICAL_ACCOUNTS)))
    for account in _words(fact.annotations.get(_KUBERNETES_ACCOUNTS)):
        try:
            named.append(str(SpiffeId(trust_domain, fact.key.namespace, account)))
        except ValueError:
            continue  # nobody can prove a name that no account can have
    return tuple(sorted(set(named)))


def _distribution(*said: str | None) -> str:
    word = next((text for text in said if text), "")
    return _DISTRIBUTIONS.get(word.lower(), "")


def _vips(spec: ServiceEntrySpec, host: str, allocated: object) -> tuple[str, ...]:
    if spec.addresses:
        return _sorted_addresses(spec.addresses)
    rows = allocated if isinstance(allocated, list | tuple) else ()
    return _sorted_addresses(row["value"] for row in rows if row.get("host", "").lower() == host)


def _sorted_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    plain = {address for text in addresses if (address := _plain_address(text))}
    return tuple(sorted(plain, key=lambda address: (":" in address, address)))


def _plain_address(text: str) -> str | None:
    if VIP.fullmatch(text):
        return text
    # a CIDR range that holds one address is that address; what is neither was refused at the door
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return str(network.network_address if network.num_addresses == 1 else network)
