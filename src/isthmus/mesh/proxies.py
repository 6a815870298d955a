"""A proxy as the mesh sees it: who it is, where it stands, what it is there for.

    ("proxy", ns, name) committed --> that description         a proxy that no object speaks of
    WorkloadEntry ns/name         --> the sidecar of that workload

A described proxy is nobody's endpoint: it only asks what it should hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from isthmus.api.meta import Key
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.engine import Reader
from isthmus.mesh import world
from isthmus.mesh.model import Labels, labels_of

TYPE_ANNOTATION = "isthmus.dev/proxy"
"""On a WorkloadEntry (from `spec.metadata.annotations` of its WorkloadGroup): `gateway` for a gateway."""
_GATEWAY = "gateway"


class ProxyType(Enum):
    """What a proxy is there for, in the words of node ids."""

    SIDECAR = "sidecar"
    ROUTER = "router"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy. `ports` are the ports that its workload declares by name."""

    namespace: str
    type: ProxyType = ProxyType.SIDECAR
    addresses: tuple[str, ...] = ()
    labels: Labels = ()
    ports: tuple[tuple[str, int], ...] = ()
    service_account: str = ""
    network: str = ""
    locality: str = ""


def proxy(q: Reader, key: Key) -> Proxy | None:
    """The proxy of a workload (a key of kind WorkloadEntry), None when there is none."""
    described: Proxy | None = q.input("proxy", key.namespace, key.name)
    if described is not None:
        return described
    fact = world.fact(q, key)
    spec = world.spec(q, key, WorkloadEntrySpec)
    if fact is None or spec is None:
        return None
    return Proxy(
        namespace=key.namespace,
        type=type_of(fact.annotations),
        addresses=(spec.address,) if spec.address else (),
        labels=labels_of(spec.labels, fact.labels),
        ports=tuple(sorted(spec.ports.items())),
        service_account=spec.service_account,
        network=spec.network,
        locality=spec.locality,
    )


def type_of(annotations: Mapping[str, str]) -> ProxyType:
    """What a workload's proxy is there for, as its annotations say."""
    return ProxyType.ROUTER if annotations.get(TYPE_ANNOTATION) == _GATEWAY else ProxyType.SIDECAR


def is_gateway(q: Reader, key: Key) -> bool:
    """Whether the proxy of a workload is a gateway."""
    found = q(proxy, key)
    return found is not None and found.type is ProxyType.ROUTER


def labels(q: Reader, key: Key) -> Labels:
    """The labels of a proxy's workload; none when there is no such proxy."""
    found = q(proxy, key)
    return found.labels if found else ()
