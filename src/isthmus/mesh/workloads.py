"""WorkloadEntries and Pods -> who is selected by services, whether they are healthy, what they serve.

    labels --by_label--> selected by a service
    services that select a proxy's workload, or name its address --targets--> ports that its proxy must take

The index holds only labels that some selector asks for: a change of any other label stops there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.api.meta import Key
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import (
    GROUP_ANNOTATION,
    PROBED_ANNOTATION,
    ReadinessProbe,
    WorkloadGroupSpec,
)
from isthmus.engine import Reader
from isthmus.identity.spiffe import SpiffeId
from isthmus.mesh import pods, protocols, proxies, services, world
from isthmus.mesh.declared import locality_of
from isthmus.mesh.model import (
    TLS_MODE_LABEL,
    InboundPort,
    Labels,
    Port,
    Protocol,
    Workload,
    has_labels,
    labels_of,
)

KIND = "WorkloadEntry"
_MEMBER_KINDS = (KIND, pods.KIND)


def workload(q: Reader, key: Key) -> Workload | None:
    """One WorkloadEntry or Pod as the mesh sees it."""
    if key.kind == pods.KIND:
        return q(pods.pod, key)
    fact = world.fact(q, key)
    spec = world.spec(q, key, WorkloadEntrySpec)
    if fact is None or spec is None:
        return None
    labels = labels_of(spec.labels, fact.labels)
    return Workload(
        key=key,
        address=spec.address,
        labels=labels,
        ports=tuple(sorted(spec.ports.items())),
        service_account=spec.service_account,
        identity=identity(q, key.namespace, spec.service_account),
        # a gateway takes mutual TLS where its Gateway says so, which callers are told by a DestinationRule
        mtls=speaks_mtls(labels, "" if q(proxies.is_gateway, key) else spec.service_account),
        locality=locality_of(spec.locality, dict(labels)),
        weight=spec.weight or 1,
        network=spec.network or dict(labels).get(pods.NETWORK_LABEL, ""),
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
    """Whether the workload takes traffic: as its condition `Healthy` says.

    Without the condition it does, unless it is probed: then it must have passed once. What was found out
    before its group's probe was taken away does not count any more.
    """
    group = q(_group, key)
    if group is not None and group.probe is None:
        return True
    conditions = world.status(q, key).get("conditions", ())
    said = next((c.get("status") for c in conditions if c.get("type") == "Healthy"), None)
    return said != "False" if said is not None else not q(is_probed, key)


def is_probed(q: Reader, key: Key) -> bool:
    """Whether a workload counts as unhealthy until it is known to be healthy."""
    fact = world.fact(q, key)
    return fact is not None and fact.annotations.get(PROBED_ANNOTATION, "").lower() in {"1", "t", "true"}


def probe(q: Reader, key: Key) -> ReadinessProbe | None:
    """How the agent of a WorkloadEntry's VM finds out about its health: as its group says."""
    group = q(_group, key)
    return group.probe if group else None


def _group(q: Reader, key: Key) -> WorkloadGroupSpec | None:
    fact = world.fact(q, key)
    name = fact.annotations.get(GROUP_ANNOTATION) if fact else None
    return world.spec(q, Key("WorkloadGroup", key.namespace, name), WorkloadGroupSpec) if name else None


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
    for kind in _MEMBER_KINDS:
        for key in world.keys(q, kind, namespace):
            for label in q(workload_labels, key):
                if label in wanted:
                    found.setdefault(label, []).append(key)
    return {label: tuple(keys) for label, keys in sorted(found.items())}


def selected(q: Reader, namespace: str, selector: Labels) -> tuple[Key, ...]:
    """The workloads with all labels of the selector: WorkloadEntries by name, then Pods by name.

    An empty selector selects none.
    """
    if not selector:
        return ()
    index = q(by_label, namespace)
    first, *others = (index.get(label, ()) for label in selector)
    return tuple(key for key in first if all(key in other for other in others))


def target(port: Port, ports: Mapping[str, int], *, pod: bool = False) -> int | None:
    """The workload's port behind a service port: its own port of that name, else the service's target.

    A Pod's named ports count only where the service asks for one by name.
    """
    if isinstance(port.target, str):
        return ports.get(port.target, None if pod else ports.get(port.name))
    return port.target if pod else ports.get(port.name, port.target)


# what a workload serves


@dataclass(frozen=True, slots=True)
class Target:
    """A port of a workload that a service leads to: the service's port, and the object that declares it."""

    number: int
    port: Port
    source: Key


def inbound_ports(q: Reader, key: Key) -> tuple[InboundPort, ...]:
    """The ports on which a proxy's workload serves: targets of services, and its own `ports`.

    The oldest service's word on the protocol counts, and any service's more than the workload's own names.
    """
    found = q(proxies.proxy, key)
    if found is None:
        return ()
    claims: dict[int, list[tuple[Protocol, Key]]] = {}
    for served in q(targets, key):
        claims.setdefault(served.number, []).append((served.port.protocol, served.source))
    for name, number in found.ports:
        claims.setdefault(number, []).append((protocols.of_port(number, name), key))
    return tuple(
        InboundPort(number, claimed[0][0], tuple(sorted({source for _, source in claimed})))
        for number, claimed in sorted(claims.items())
    )


def targets(q: Reader, key: Key) -> tuple[Target, ...]:
    """The ports of a proxy's workload that services lead to, those of the oldest service first."""
    found: list[Target] = []
    for source in q(selecting, key):
        ports = _serving_ports(q, source, key)
        found += [Target(number, port, source) for port, number in ports if port.protocol is not Protocol.UDP]
    return tuple(found)


def selecting(q: Reader, key: Key) -> tuple[Key, ...]:
    """The Services and ServiceEntries that lead to a proxy's workload, the oldest first."""
    labels = q(_proxy_labels, key)
    found = {source for source, wanted in q(selectors, key.namespace) if has_labels(labels, wanted)}
    found.update(_naming(q, key))
    return tuple(sorted(found, key=lambda source: (q(world.seniority, source), source.kind)))


def _serving_ports(q: Reader, source: Key, key: Key) -> tuple[tuple[Port, int], ...]:
    """The ports of a service with those of the proxy's workload behind them."""
    proxy, behind = q(proxies.proxy, key), q(_pod_of, key)
    service = q(services.declared, source)[0]
    if proxy is None:
        return ()
    named = {inline.address: inline for inline in service.inline}
    inline = next((named[address] for address in proxy.addresses if address in named), None)
    found = []
    for port in service.ports:
        number = None
        if inline:
            number = target(port, dict(inline.ports))
        elif service.selector and has_labels(q(_proxy_labels, key), service.selector):
            own = dict(behind.ports) if behind else dict(proxy.ports)
            number = target(port, own, pod=behind is not None)
        elif source.kind == "Service":
            listed = pods.known_endpoints(q, service, port.name) or ()
            number = next((e.port for e in listed if e.address in proxy.addresses), None)
        if number is not None:
            found.append((port, number))
    return tuple(found)


def _naming(q: Reader, key: Key) -> tuple[Key, ...]:
    """The objects that name the address of a proxy's workload."""
    proxy = q(proxies.proxy, key)
    by_address = q(_named_addresses, key.namespace)
    return tuple(
        source for address in (proxy.addresses if proxy else ()) for source in by_address.get(address, ())
    )


def _named_addresses(q: Reader, namespace: str) -> Mapping[str, tuple[Key, ...]]:
    """The objects of a namespace that list endpoints themselves, by the addresses of these."""
    found: dict[str, list[Key]] = {}
    for kind in services.KINDS:
        for key in world.keys(q, kind, namespace):
            for address in q(_listed_addresses, key):
                found.setdefault(address, []).append(key)
    return {address: tuple(keys) for address, keys in sorted(found.items())}


def _listed_addresses(q: Reader, key: Key) -> tuple[str, ...]:
    declared = q(services.declared, key)
    if not declared:
        return ()
    found = {inline.address for inline in declared[0].inline}
    if key.kind == "Service" and not declared[0].selector:
        for port in declared[0].ports:
            found.update(e.address for e in pods.known_endpoints(q, declared[0], port.name) or ())
    return tuple(sorted(found - {""}))


def _pod_of(q: Reader, key: Key) -> Workload | None:
    """The Pod that has the address of a proxy."""
    proxy = q(proxies.proxy, key)
    for address in proxy.addresses if proxy else ():
        behind = q(pods.by_address, key.namespace).get(address)
        if behind:
            return q(pods.pod, behind)
    return None


def _proxy_labels(q: Reader, key: Key) -> Labels:
    behind = q(_pod_of, key)
    return labels_of(dict(behind.labels), dict(q(proxies.labels, key))) if behind else q(proxies.labels, key)
