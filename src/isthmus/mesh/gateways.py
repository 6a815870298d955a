"""Gateways -> which of them a proxy at the edge obeys, and at which ports.

    Gateway --selector--> proxies              proxy --edge_of--> Edge: its Gateways, the oldest first
    port of a Gateway's server --Service in front of the proxy--> port to listen on

Proxies that obey the same Gateways in the same way share everything that is made of them.
https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from dataclasses import dataclass

from isthmus.api.meta import Key
from isthmus.api.networking.gateway import GatewaySpec
from isthmus.engine import Reader
from isthmus.mesh import authorization, proxies, services, workloads, world
from isthmus.mesh.authorization import Policy
from isthmus.mesh.model import Labels, Scope, has_labels, labels_of
from isthmus.mesh.scope import scope_of

KIND = "Gateway"
SERVICES_ANNOTATION = "internal.istio.io/gateway-service"
"""Hosts of services, with `,` between: the Gateway is for the proxies behind these, and for no others."""
PARENT_NAMESPACE_ANNOTATION = "internal.istio.io/parent-namespace"
UNTRANSLATED_LABEL = "experimental.istio.io/disable-gateway-port-translation"
"""On a Service: its ports say nothing about the ports of Gateways."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A Gateway as some proxies obey it: `ports` are (port of a server, port to listen on)."""

    gateway: Key
    ports: tuple[tuple[int, int], ...]

    def listened(self, number: int) -> tuple[int, ...]:
        """The ports at which servers of this port listen."""
        return tuple(port for said, port in self.ports if said == number)


@dataclass(frozen=True, slots=True)
class Edge:
    """What gateways that share their configuration have in common."""

    scope: Scope
    gateways: tuple[Bound, ...]
    policies: tuple[Policy, ...] = ()
    """The AuthorizationPolicies that they enforce."""

    @property
    def namespace(self) -> str:
        """Where the gateways stand."""
        return self.scope.namespace


def edge_of(q: Reader, proxy: Key) -> Edge:
    """What a gateway shares its configuration with others by; it must be one."""
    scope = q(scope_of, proxy)
    assert scope is not None, f"{proxy} is no gateway"
    return Edge(scope, q(bound, proxy), q(authorization.enforced, proxy))


def bound(q: Reader, proxy: Key) -> tuple[Bound, ...]:
    """The Gateways that a proxy obeys, the oldest first."""
    labels = q(proxies.labels, proxy)
    found = (q(_bound, key, proxy) for key in q(by_age) if has_labels(labels, q(selector_of, key)))
    return tuple(each for each in found if each)


def by_age(q: Reader) -> tuple[Key, ...]:
    """All Gateways, the oldest first."""
    return tuple(sorted(q(world.all_keys, KIND), key=lambda key: q(world.seniority, key)))


def selector_of(q: Reader, key: Key) -> Labels:
    """The labels that a Gateway asks of proxies; none asks nothing."""
    spec = world.spec(q, key, GatewaySpec)
    return labels_of(spec.selector) if spec else ()


def _bound(q: Reader, key: Key, proxy: Key) -> Bound | None:
    fact, spec = world.fact(q, key), world.spec(q, key, GatewaySpec)
    if fact is None or spec is None:
        return None
    fronts = q(_fronts, proxy)
    named = fact.annotations.get(SERVICES_ANNOTATION)
    if named is not None:
        namespace = fact.annotations.get(PARENT_NAMESPACE_ANNOTATION) or key.namespace
        fronts = tuple(f for f in fronts if f.host in named.split(",") and f.namespace == namespace)
        if not fronts:
            return None
    ports: list[tuple[int, int]] = []
    for number in dict.fromkeys(server.port.number for server in spec.servers if server.port):
        wanted = [f.target for f in fronts if f.port == number and (f.translated or named is not None)]
        if named is not None:
            ports += ((number, target) for target in dict.fromkeys(wanted))
        else:
            # a selector does not say which Service is meant: the first that has the port counts
            ports.append((number, wanted[0] if wanted else number))
    return Bound(key, tuple(ports))


@dataclass(frozen=True, slots=True)
class _Front:
    """A port of a service that leads to a port of the proxy."""

    host: str
    namespace: str
    port: int
    target: int
    translated: bool


def _fronts(q: Reader, proxy: Key) -> tuple[_Front, ...]:
    found: list[_Front] = []
    for served in q(workloads.targets, proxy):
        for service in q(services.declared, served.source):
            translated = UNTRANSLATED_LABEL not in dict(service.labels)
            port = served.port.number
            found.append(_Front(service.host, service.namespace, port, served.number, translated))
    return tuple(found)


# the gateways that there are


def routers(q: Reader) -> tuple[Key, ...]:
    """The registered proxies that are gateways."""
    return tuple(key for key in q(world.all_keys, workloads.KIND) if q(proxies.is_gateway, key))


def edges(q: Reader) -> tuple[Edge, ...]:
    """What there is of gateways, each way of obeying Gateways once."""
    return tuple(dict.fromkeys(q(edge_of, key) for key in q(routers)))
