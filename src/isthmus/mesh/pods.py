"""What Kubernetes runs -> workloads: Pods with their addresses, and the endpoints of a Service.

    Pod, Node ------------------------------> Workload
    EndpointSlice (or Endpoints), Pods -----> the endpoints that Kubernetes knows of a Service

Without slices and Endpoints (configuration read from files), the Pods that a Service selects are meant.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.api.cluster import EndpointSliceSpec, EndpointsSpec, NodeSpec, PodSpec
from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.identity.spiffe import SpiffeId
from isthmus.mesh import world
from isthmus.mesh.declared import locality_of
from isthmus.mesh.model import TLS_MODE_LABEL, Endpoint, Labels, Service, Workload, labels_of

KIND = "Pod"
NETWORK_LABEL = "topology.istio.io/network"
REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"
SUBZONE_LABEL = "topology.istio.io/subzone"
NODE_LABEL = "kubernetes.io/hostname"
_SERVICE_LABEL = "kubernetes.io/service-name"
_OLD_REGION_LABEL = "failure-domain.beta.kubernetes.io/region"
_OLD_ZONE_LABEL = "failure-domain.beta.kubernetes.io/zone"


def pod(q: Reader, key: Key) -> Workload | None:
    """One Pod as the mesh sees it; None while it has no address, and when it has ended."""
    fact = world.fact(q, key)
    spec = world.spec(q, key, PodSpec)
    status = world.status(q, key)
    addresses = _addresses(status)
    if fact is None or spec is None or not addresses or status.get("phase") in {"Succeeded", "Failed"}:
        return None
    ports = {port.name: port.container_port for c in spec.containers for port in c.ports if port.name}
    return Workload(
        key=key,
        address=addresses[0],
        labels=labels_of(fact.labels),
        ports=tuple(sorted(ports.items())),
        service_account=spec.service_account_name or "default",
        identity=_identity(q, key.namespace, spec.service_account_name or "default"),
        mtls=fact.labels.get(TLS_MODE_LABEL) == "istio",
        locality=locality_of("", fact.labels) or q(_node_locality, spec.node_name),
        weight=1,
        network=fact.labels.get(NETWORK_LABEL, ""),
        node=spec.node_name,
        ready=_is_ready(status),
    )


def pod_labels(q: Reader, key: Key) -> Labels:
    """The labels of a Pod that has an address."""
    found = q(pod, key)
    return found.labels if found else ()


def known_endpoints(q: Reader, service: Service, port_name: str) -> tuple[Endpoint, ...] | None:
    """The endpoints that slices (else Endpoints) list for a Service's port; None when there are neither."""
    name, namespace = service.source.name, service.namespace
    slices = q(_slices_by_service, namespace).get(name, ())
    if slices:
        found = [e for key in slices for e in _of_slice(q, key, port_name)]
    elif world.fact(q, listed := Key("Endpoints", namespace, name)):
        found = list(_of_endpoints(q, listed, port_name))
    else:
        return None
    # during a change one address may stand in two slices
    return tuple({(e.address, e.port): e for e in found}.values())


def _slices_by_service(q: Reader, namespace: str) -> Mapping[str, tuple[Key, ...]]:
    found: dict[str, list[Key]] = {}
    for key in world.keys(q, "EndpointSlice", namespace):
        found.setdefault(q(_sliced_service, key), []).append(key)
    return {name: tuple(keys) for name, keys in found.items() if name}


def _sliced_service(q: Reader, key: Key) -> str:
    fact = world.fact(q, key)
    return fact.labels.get(_SERVICE_LABEL, "") if fact else ""


def _of_slice(q: Reader, key: Key, port_name: str) -> Iterator[Endpoint]:
    spec = world.spec(q, key, EndpointSliceSpec)
    if spec is None or spec.address_type == "FQDN":
        return
    for endpoint in spec.endpoints:
        conditions = endpoint.conditions
        ready = conditions is None or conditions.ready is not False
        if not ready and conditions and conditions.terminating:
            continue
        target = endpoint.target_ref
        name = target.name if target and target.kind in {"", KIND} else ""
        for port in spec.ports:
            if (port.name or "") == port_name and port.port is not None:
                for address in endpoint.addresses:
                    member = _Member(name, address, endpoint.node_name or "", ready)
                    yield _endpoint(q, key.namespace, member, port.port)


def _of_endpoints(q: Reader, key: Key, port_name: str) -> Iterator[Endpoint]:
    spec = world.spec(q, key, EndpointsSpec)
    for subset in spec.subsets if spec else ():
        for port in subset.ports:
            if port.name != port_name:
                continue
            for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
                for found in addresses:
                    target = found.target_ref
                    name = target.name if target and target.kind in {"", KIND} else ""
                    member = _Member(name, found.ip, found.node_name or "", ready)
                    yield _endpoint(q, key.namespace, member, port.port)


@dataclass(frozen=True, slots=True)
class _Member:
    """One address in a slice: the Pod behind it (empty when it names none), its node, whether it is ready."""

    pod: str
    address: str
    node: str
    ready: bool


def _endpoint(q: Reader, namespace: str, member: _Member, port: int) -> Endpoint:
    key = Key(KIND, namespace, member.pod) if member.pod else q(by_address, namespace).get(member.address)
    found = q(pod, key) if key else None
    locality = found.locality if found else q(_node_locality, member.node)
    return Endpoint(
        address=member.address,
        port=port,
        labels=found.labels if found else (),
        identity=found.identity if found else "",
        mtls=found.mtls if found else False,
        locality=locality,
        weight=1,
        workload=found.key if found else None,
        network=found.network if found else "",
        node=member.node or (found.node if found else ""),
        ready=member.ready,
    )


def by_address(q: Reader, namespace: str) -> Mapping[str, Key]:
    """The Pods of a namespace by their address; those of the node's network have none of their own."""
    found = (q(pod, key) for key in world.keys(q, KIND, namespace))
    return {w.address: w.key for w in found if w}


def _node_locality(q: Reader, name: str) -> str:
    node = world.fact(q, Key("Node", "", name)) if name else None
    if node is None or not isinstance(node.spec, NodeSpec):
        return ""
    labels = node.labels
    region = labels.get(REGION_LABEL) or labels.get(_OLD_REGION_LABEL, "")
    zone = labels.get(ZONE_LABEL) or labels.get(_OLD_ZONE_LABEL, "")
    subzone = labels.get(SUBZONE_LABEL, "")
    return f"{region}/{zone}/{subzone}" if region or zone or subzone else ""


def _identity(q: Reader, namespace: str, account: str) -> str:
    try:
        return str(SpiffeId(q(world.settings).trust_domain, namespace, account))
    except ValueError:
        return ""


def _addresses(status: Mapping[str, Any]) -> tuple[str, ...]:
    listed = [row.get("ip", "") for row in status.get("podIPs") or () if isinstance(row, Mapping)]
    return tuple(dict.fromkeys(address for address in (status.get("podIP", ""), *listed) if address))


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return not any(c.get("type") == "Ready" and c.get("status") != "True" for c in conditions)
