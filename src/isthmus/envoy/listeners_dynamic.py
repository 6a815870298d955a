"""Names that are resolved only when somebody calls them: wildcard hosts, and whatever nobody declared.

    a DNS cache --> a cluster that dials what was resolved + a filter that waits for the answer, of one name

The filter and the cluster of one cache must spell it alike.
"""

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_cluster_v3
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2 as dns_cache_v3
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import (
    dynamic_forward_proxy_pb2 as http_dynamic_v3,
)
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_v3,
)
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3 import (
    sni_dynamic_forward_proxy_pb2 as sni_dynamic_v3,
)

from isthmus.engine import Reader
from isthmus.envoy.clusters import dns_cache
from isthmus.envoy.message import duration, packed, resource, time_limits
from isthmus.envoy.pools import HttpOptions, attach
from isthmus.envoy.resource import CLUSTER, Resource
from isthmus.envoy.targets import Place

ANYWHERE = "AllowAnyDynamicDNSCluster"
"""The cluster of requests for hosts that nobody declared."""
ANYWHERE_HOST = "allow_any_dynamic_dns"
"""Their virtual host and route."""

_MOST_HOSTS = 1024
_CONNECT_TIMEOUT_S = 10.0


def cache(host: str) -> dns_cache_v3.DnsCacheConfig:
    """The cache of names below a wildcard host, or (`ANYWHERE`) of all names; on a VM."""
    found = dns_cache(host, Place())
    if host == ANYWHERE:
        found.max_hosts.value = _MOST_HOSTS
    return found


def anywhere_cluster(_: Reader) -> Resource:
    """The cluster that dials the host of each request."""
    message = cluster_v3.Cluster(
        name=ANYWHERE,
        connect_timeout=duration(_CONNECT_TIMEOUT_S),
        lb_policy=cluster_v3.Cluster.CLUSTER_PROVIDED,
    )
    message.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
    config = dynamic_cluster_v3.ClusterConfig(
        dns_cache_config=cache(ANYWHERE), allow_insecure_cluster_options=True
    )
    message.cluster_type.typed_config.CopyFrom(packed(config))
    options = HttpOptions()
    options.use_downstream_protocol_config.http_protocol_options.SetInParent()
    options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    attach(message, options)
    return resource(CLUSTER, message.name, message)


def http_filter(host: str) -> hcm_v3.HttpFilter:
    """Holds a request until its host is resolved."""
    config = http_dynamic_v3.FilterConfig(dns_cache_config=cache(host))
    return hcm_v3.HttpFilter(
        name=f"envoy.filters.http.dynamic_forward_proxy.{host}", typed_config=packed(config)
    )


def sni_filter(host: str, port: int) -> listener_components_v3.Filter:
    """Holds a TLS connection until the server name that it asks for is resolved."""
    config = sni_dynamic_v3.FilterConfig(dns_cache_config=cache(host), port_value=port)
    return listener_components_v3.Filter(
        name="envoy.filters.network.sni_dynamic_forward_proxy", typed_config=packed(config)
    )


def anywhere_host() -> route_components_v3.VirtualHost:
    """The virtual host that takes requests for any host to where that is."""
    route = route_components_v3.Route(
        name=ANYWHERE_HOST,
        match={"prefix": "/"},
        route={"cluster": ANYWHERE, **time_limits()},
    )
    return route_components_v3.VirtualHost(
        name=ANYWHERE_HOST, domains=["*"], routes=[route], include_request_attempt_count=True
    )
