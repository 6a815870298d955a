"""Services + DestinationRules -> Cluster: how Envoy connects to a host's port, or to one subset of it.

Endpoints are sent apart (EDS), so a cluster changes only when ports, policies or identities do; names that
Envoy asks DNS for stand in the cluster itself.
"""

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.extensions.clusters.common.dns.v3 import dns_pb2 as dns_v3
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2 as dns_cluster_v3
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_cluster_v3
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2 as dns_cache_v3

from isthmus.engine import Reader
from isthmus.envoy import naming, resolvers, upstream_tls
from isthmus.envoy.balancing import balance, is_passthrough, outliers
from isthmus.envoy.endpoints import load_assignment, members
from isthmus.envoy.message import duration, from_ads, packed, resource
from isthmus.envoy.pools import HttpOptions, attach, http_options, limit
from isthmus.envoy.resource import CLUSTER, Resource
from isthmus.envoy.targets import Place, Target
from isthmus.mesh import destinations, endpoints, localities, services, world
from isthmus.mesh.destinations import Policy
from isthmus.mesh.model import Port, Protocol, Resolution, Service, Subset

Cluster = cluster_v3.Cluster

_DNS_JITTER_S = 0.1
"""So that not all machines ask at the same moment."""


def cluster(q: Reader, target: Target) -> Resource | None:
    """The cluster of a target; None where there is nothing to lead to."""
    service = q(services.merged, target.host, target.sources)
    port = service.port(target.port) if service else None
    chosen = q(destinations.subset, target.rules, target.subset)
    if service is None or port is None or port.protocol is Protocol.UDP or chosen is None:
        return None
    policy = q(destinations.policy, target.rules, target.subset, target.port)
    settings = q(world.settings)
    message = Cluster(name=naming.outbound(target.host, target.port, target.subset))
    limit(message, policy, settings)
    if not _discover(message, q, target, service, port, policy):
        return None
    if policy.outlier_detection:
        message.outlier_detection.CopyFrom(outliers(policy.outlier_detection))
    options = http_options(
        port.protocol, policy, h2_upgrade=settings.h2_upgrade, sniffed=not target.place.router
    )
    options = _secure(message, q, target, service, port, chosen, policy, options)
    if policy.proxy_protocol:
        upstream_tls.announce_caller(message, policy.proxy_protocol)
    attach(message, options)
    return resource(CLUSTER, message.name, message, (*target.sources, *target.rules))


def sends_endpoints(q: Reader, target: Target) -> bool:
    """Whether the endpoints of a target are sent apart."""
    service = q(services.merged, target.host, target.sources)
    if service is None or _follows_caller(q, target, service):
        return False
    return not service.resolution.asks_dns and not _is_dynamic(service)


def _follows_caller(q: Reader, target: Target, service: Service) -> bool:
    """Whether connections go where the caller wanted to; those of a gateway were dialled at the gateway."""
    if service.resolution is Resolution.NONE and not target.place.router:
        return True
    # where the host itself is passed through, so are its subsets
    return any(
        is_passthrough(q(destinations.policy, target.rules, name, target.port))
        for name in {"", target.subset}
    )


def _is_dynamic(service: Service) -> bool:
    return service.resolution is Resolution.DYNAMIC and service.host.startswith("*")


def _discover(
    message: cluster_v3.Cluster, q: Reader, target: Target, service: Service, port: Port, policy: Policy
) -> bool:
    """Sets how endpoints are found and chosen; False when there is nothing that could be found."""
    spread = localities.spread(policy, service, q(world.settings).locality)
    if _is_dynamic(service):
        if target.subset or port.protocol in {Protocol.TCP, Protocol.AUTO}:
            return False
        message.lb_policy = Cluster.CLUSTER_PROVIDED
        message.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
        dynamic = dynamic_cluster_v3.ClusterConfig(
            dns_cache_config=dns_cache(service.host, target.place), allow_insecure_cluster_options=True
        )
        message.cluster_type.typed_config.CopyFrom(packed(dynamic))
        return True
    balance(message, policy, spread)
    if _follows_caller(q, target, service):
        message.type = Cluster.ORIGINAL_DST
        message.lb_policy = Cluster.CLUSTER_PROVIDED
        message.ClearField("lb_config")
        message.ClearField("common_lb_config")
        entry = service.source.kind == "ServiceEntry" and service.resolution is Resolution.NONE
        if entry and port.target not in (0, port.number):
            message.original_dst_lb_config.upstream_port_override.value = int(port.target)
        return True
    if service.resolution.asks_dns:
        found = q(members, target)
        if not found:
            return False
        message.load_assignment.CopyFrom(load_assignment(message.name, found))
        _ask_dns(message, q(world.settings).dns_refresh_s, service.resolution, target.place)
        return True
    message.type = Cluster.EDS
    message.eds_cluster_config.eds_config.CopyFrom(from_ads())
    return True


def _ask_dns(message: cluster_v3.Cluster, refresh_s: float, resolution: Resolution, place: Place) -> None:
    dns = dns_cluster_v3.DnsCluster(
        dns_refresh_rate=duration(refresh_s),
        respect_dns_ttl=True,
        dns_jitter=duration(_DNS_JITTER_S),
        # AUTO asks for IPv6 first
        dns_lookup_family=dns_v3.AUTO if place.ipv6 else dns_v3.V4_PREFERRED,
        all_addresses_in_single_endpoint=resolution is Resolution.DNS_ROUND_ROBIN,
    )
    if not place.router:
        dns.typed_dns_resolver_config.CopyFrom(resolvers.agent())
    message.cluster_type.name = "envoy.clusters.dns"
    message.cluster_type.typed_config.CopyFrom(packed(dns))


def may_hold_credentials(q: Reader, target: Target) -> bool:
    """Whether callers may hold what a rule names by `credentialName`: gateways, and those it selects."""
    return target.place.router or q(destinations.has_selector, target.rules)


def dns_cache(host: str, place: Place) -> dns_cache_v3.DnsCacheConfig:
    """The cache of names below a wildcard; the filter that asks for them names the same one."""
    # Envoy tries the addresses of both families, and takes the one that answers
    cache = dns_cache_v3.DnsCacheConfig(name=f"outbound|dns|{host}", dns_lookup_family=Cluster.ALL)
    if not place.router:
        cache.typed_dns_resolver_config.CopyFrom(resolvers.agent())
    return cache


def _secure(
    message: cluster_v3.Cluster,
    q: Reader,
    target: Target,
    service: Service,
    port: Port,
    subset: Subset,
    policy: Policy,
    options: HttpOptions | None,
) -> HttpOptions | None:
    said = policy.tls
    if said and said.mode == "DISABLE":
        return options
    if said and said.mode != "ISTIO_MUTUAL":
        named = service.subject_alt_names if service.source.kind == "ServiceEntry" else ()
        selected = q(may_hold_credentials, target)
        always = _is_dynamic(service)
        return upstream_tls.originate(message, said, options, named=named, selected=selected, always=always)
    settings = q(world.settings)
    follows = message.HasField("type") and message.type == Cluster.ORIGINAL_DST
    peers = upstream_tls.Peers(
        # what is dialled need not be of the subset
        identities=q(
            endpoints.identities, target.host, target.port, () if follows else subset.labels, target.sources
        ),
        named=service.subject_alt_names,
        namespace=f"spiffe://{settings.trust_domain}/ns/{service.namespace}/sa/",
        automatic=settings.auto_mtls
        and not service.external
        and (not follows or q(endpoints.all_mtls, target.host, target.port, target.sources)),
        all=follows,
    )
    alpn = upstream_tls.mesh_alpn(options, http=port.protocol.is_http)
    sni = naming.sni(target.host, target.port, target.subset)
    if said and _is_dynamic(service):
        options, sni = upstream_tls.named_by_request(options, said, always=True), ""
    sniffed = port.protocol is Protocol.AUTO
    upstream_tls.secure(message, said, peers, alpn, sni=sni, sniffed=sniffed)
    return options
