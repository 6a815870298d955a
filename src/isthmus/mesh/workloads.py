"""WorkloadEntries -> members of services, inbound ports of a workload, health.

    labels --by_label--> selected by a service --endpoints--> addresses and ports    health is asked apart
    services that select a workload + its own `ports` --inbound_ports--> what its proxy must take

The index holds only labels that some selector asks for: a change of any other label stops there.
"""

from collections.abc import Mapping

from isthmus.api.meta import Key
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.engine import Reader
from isthmus.identity.spiffe import SpiffeId
from isthmus.mesh import proxies, services, world
from isthmus.mesh.model import (
    TLS_MODE_LABEL,
    Endpoint,
    InboundPort,
    InlineEndpoint,
    Labels,
    MtlsMode,
    Port,
    Protocol,
    Service,
    Workload,
    has_labels,
    labels_of,
)
from isthmus.mesh.policy import server_mtls

KIND = "WorkloadEntry"


def workload(q: Reader, key: Key) -> Workload | None:
    """One WorkloadEntry as the mesh sees it."""
    fact = world.fact(q, key)
    spec = world.spec(q, key, WorkloadEntrySpec)
    if fact is None or spec is None:
        return None
    labels = labels_of(fact.labels, spec.labels)
    return Workload(
        key=key,
        address=spec.address,
        labels=labels,
        ports=tuple(sorted(spec.ports.items())),
        service_account=spec.service_account,
        identity=identity(q, key.namespace, spec.service_account),
        mtls=speaks_mtls(labels, spec.service_account),
        locality=spec.locality,
        weight=spec.weight or 1,
    )


def exists(q: Reader, key: Key) -> bool:
    """Whether the workload is registered, or its proxy described."""
    return q(proxies.proxy, key) is not None


def identity(q: Reader, namespace: str, service_account: str) -> str:
    """The SPIFFE id of a service account; empty without one, or when the name cannot be one."""
    try:
        return str(SpiffeId(q(world.settings).trust_domain, namespace, service_account))
    except ValueError:
        return ""


def speaks_mtls(labels: Labels, service_account: str) -> bool:
    """Whether a proxy is in front: as its label says, else when it has an identity."""
    said = dict(labels).get(TLS_MODE_LABEL)
    return said == "istio" if said else bool(service_account)


def healthy(q: Reader, key: Key) -> bool:
    """Whether the workload takes traffic: it does until its condition `Healthy` is False."""
    conditions = world.status(q, key).get("conditions", ())
    return not any(c.get("type") == "Healthy" and c.get("status") == "False" for c in conditions)


def workload_labels(q: Reader, key: Key) -> Labels:
    """The labels of a workload."""
    found = q(workload, key)
    return found.labels if found else ()


# selection


def selectors(q: Reader, namespace: str) -> tuple[tuple[Key, Labels], ...]:
    """The objects of a namespace that select workloads, with what they ask for."""
    found = [
        (key, selector)
        for kind in services.KINDS
        for key in world.keys(q, kind, namespace)
        if (selector := q(selector_of, key))
    ]
    return tuple(found)


def selector_of(q: Reader, key: Key) -> Labels:
    """What one Service or ServiceEntry asks of workloads; empty selects nothing."""
    declared = q(services.declared, key)
    return declared[0].selector if declared else ()


def by_label(q: Reader, namespace: str) -> Mapping[tuple[str, str], tuple[Key, ...]]:
    """The workloads that carry each label which some selector of the namespace asks for."""
    wanted = {label for _, selector in q(selectors, namespace) for label in selector}
    found: dict[tuple[str, str], list[Key]] = {}
    for key in world.keys(q, KIND, namespace):
        for label in q(workload_labels, key):
            if label in wanted:
                found.setdefault(label, []).append(key)
    return {label: tuple(keys) for label, keys in sorted(found.items())}


def selected(q: Reader, namespace: str, selector: Labels) -> tuple[Key, ...]:
    """The workloads that have all labels of the selector, by name; an empty selector selects none."""
    if not selector:
        return ()
    index = q(by_label, namespace)
    first, *others = (index.get(label, ()) for label in selector)
    return tuple(key for key in first if all(key in other for other in others))


# members of a service


def endpoints(q: Reader, host: str, port_number: int, subset: Labels) -> tuple[Endpoint, ...]:
    """Where a service port can be reached, healthy or not; `subset` narrows by labels."""
    service = q(services.service, host)
    port = service.port(port_number) if service else None
    if service is None or port is None:
        return ()
    found = [
        q(_member, key, port, service.external) for key in q(selected, service.namespace, service.selector)
    ]
    found += [_inline_member(q, service, port, endpoint) for endpoint in service.inline]
    return tuple(e for e in found if e is not None and has_labels(e.labels, subset))


def identities(q: Reader, host: str, port_number: int, subset: Labels) -> tuple[str, ...]:
    """Who may answer for a service port over mTLS, sorted: the identities of its endpoints."""
    found = {e.identity for e in q(endpoints, host, port_number, subset) if e.mtls and e.identity}
    return tuple(sorted(found))


def _member(q: Reader, key: Key, port: Port, external: bool) -> Endpoint | None:
    found = q(workload, key)
    number = target(port, dict(found.ports)) if found else None
    if found is None or number is None or not found.address:
        return None
    open_text = external or q(server_mtls, key).at(number) is MtlsMode.DISABLE
    return Endpoint(
        address=found.address,
        port=number,
        labels=found.labels,
        identity=found.identity,
        mtls=found.mtls and bool(found.identity) and not open_text,
        locality=found.locality,
        weight=found.weight,
        workload=key,
    )


def _inline_member(q: Reader, service: Service, port: Port, endpoint: InlineEndpoint) -> Endpoint | None:
    number = target(port, dict(endpoint.ports))
    if number is None or not endpoint.address:
        return None
    name = identity(q, service.namespace, endpoint.service_account)
    return Endpoint(
        address=endpoint.address,
        port=number,
        labels=endpoint.labels,
        identity=name,
        mtls=bool(name) and speaks_mtls(endpoint.labels, name) and not service.external,
        locality=endpoint.locality,
        weight=endpoint.weight,
        workload=None,
    )


def target(port: Port, ports: Mapping[str, int]) -> int | None:
    """The workload's port behind a service port: its own port of that name, else the service's target."""
    if isinstance(port.target, str):
        return ports.get(port.target, ports.get(port.name))
    return ports.get(port.name, port.target)


# what a workload serves


def inbound_ports(q: Reader, key: Key) -> tuple[InboundPort, ...]:
    """The ports on which a workload serves: targets of services that select it, and its own `ports`.

    A service's word on the protocol counts more than the name in the workload's own map.
    """
    found = q(proxies.proxy, key)
    if found is None:
        return ()
    claims: dict[int, list[tuple[Protocol, Key]]] = {}
    own = dict(found.ports)
    for source in q(selecting, key):
        for port in q(services.declared, source)[0].ports:
            number = target(port, own)
            if number is not None and port.protocol is not Protocol.UDP:
                claims.setdefault(number, []).append((port.protocol, source))
    for name, number in found.ports:
        claims.setdefault(number, []).append((services.protocol_of(name), key))
    return tuple(
        InboundPort(number, claimed[0][0], tuple(sorted({source for _, source in claimed})))
        for number, claimed in sorted(claims.items())
    )


def selecting(q: Reader, key: Key) -> tuple[Key, ...]:
    """The Services and ServiceEntries that select a workload."""
    labels = q(proxies.labels, key)
    return tuple(source for source, wanted in q(selectors, key.namespace) if has_labels(labels, wanted))
