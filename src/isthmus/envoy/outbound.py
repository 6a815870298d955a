"""What a scope may call -> its clusters and endpoints, made once for all scopes that obey the same rules."""

from collections.abc import Mapping
from dataclasses import replace

from isthmus.engine import Reader
from isthmus.envoy import clusters, endpoints, gateway_secrets, local_clusters, upstream_tls
from isthmus.envoy.resource import Resource, content_version
from isthmus.envoy.targets import Place, Target
from isthmus.mesh import destinations, localities, networks, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.model import Protocol, Scope


def outbound_clusters(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The clusters of everything that a scope can call."""
    found = (q(clusters.cluster, target) for target in q(targets, scope))
    return _by_name(*q(local_clusters.fixed_clusters), *(made for made in found if made))


def outbound_endpoints(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The endpoints of those clusters that do not find them by themselves."""
    found = (q(cluster_endpoints, target) for target in q(targets, scope))
    return _by_name(*(made for made in found if made))


def targets(q: Reader, scope: Scope) -> tuple[Target, ...]:
    """What each cluster of a scope leads to."""
    found: list[Target] = []
    for seen in q(scopes.imported, scope):
        service = q(services.merged, seen.host, seen.sources)
        if service is None:
            continue
        owner = service.namespace
        rules = q(destinations.rules_for, scope.namespace, seen.host, scope.labels, owner)
        names = ("", *(subset.name for subset in q(destinations.subsets, rules)))
        for number in seen.ports:
            port = service.port(number)
            if port is None or port.protocol is Protocol.UDP:
                continue
            whole = Target(seen.host, number, "", seen.sources, rules)
            found += (q(_placed, replace(whole, subset=name), scope) for name in names)
    return tuple(found)


def _placed(q: Reader, target: Target, scope: Scope) -> Target:
    """The target with as much of the scope's place as makes a difference to it."""
    service = q(services.merged, target.host, target.sources)
    policy = q(destinations.policy, target.rules, target.subset, target.port)
    if service is None:
        return target
    spread = localities.spread(policy, service, q(world.settings).locality)
    place = Place(
        router=scope.router,
        locality=scope.locality if spread.depends_on_place else "",
        labels=scope.labels if spread.depends_on_labels else (),
        network=q(networks.own_network, scope),
        ipv6=scope.dials_ipv6 and service.resolution.asks_dns,
    )
    return replace(target, place=place)


def cluster_endpoints(q: Reader, target: Target) -> Resource | None:
    """The endpoints of one cluster, in a version that covers the cluster's.

    Envoy warms a changed cluster until it gets the endpoints again and does not ask for them, so a changed
    cluster must make them be sent again.
    """
    cluster = q(clusters.cluster, target)
    if cluster is None or not q(clusters.sends_endpoints, target):
        return None
    assignment = q(endpoints.assignment, target)
    return replace(assignment, version=content_version(assignment.body, cluster.version.encode()))


def credentials(q: Reader, scope: Scope) -> Mapping[str, Resource]:
    """The secrets that DestinationRules give to a scope for its TLS to others, as far as there are any."""
    names: set[str] = set()
    for target in q(targets, scope):
        said = q(destinations.policy, target.rules, target.subset, target.port).tls
        if said and said.credential_name and said.mode in {"SIMPLE", "MUTUAL"}:
            selected = q(clusters.may_hold_credentials, target)
            certificate, roots = upstream_tls.secrets_of(said, selected=selected)
            names.update(filter(None, (certificate, roots)))
    found = (q(gateway_secrets.secret, name, scope.namespace) for name in sorted(names))
    return _by_name(*(made for made in found if made))


def _by_name(*resources: Resource) -> dict[str, Resource]:
    return {resource.name: resource for resource in sorted(resources, key=lambda r: r.name)}
