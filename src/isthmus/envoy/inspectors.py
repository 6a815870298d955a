"""What looks at the first bytes of a connection, and what it finds: TLS with its names, or plaintext HTTP."""

from collections.abc import Iterable

from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2 as http_inspector_v3
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2 as original_dst_v3
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2 as proxy_protocol_v3
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2 as tls_inspector_v3

from isthmus.envoy.message import packed

ListenerFilter = listener_components_v3.ListenerFilter
_Predicate = listener_components_v3.ListenerFilterChainMatchPredicate

TLS = "tls"
RAW = "raw_buffer"
PLAINTEXT_HTTP = ("http/1.1", "h2c")
"""What the HTTP inspector calls what it finds. HTTP/1.0 is not served."""

TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"


def original_destination() -> listener_components_v3.ListenerFilter:
    """Finds out where a captured connection was going."""
    return ListenerFilter(
        name="envoy.filters.listener.original_dst", typed_config=packed(original_dst_v3.OriginalDst())
    )


def proxy_protocol() -> listener_components_v3.ListenerFilter:
    """Takes the caller's address from what a proxy in front sends first."""
    return ListenerFilter(
        name="envoy.filters.listener.proxy_protocol", typed_config=packed(proxy_protocol_v3.ProxyProtocol())
    )


def tls(ports: Iterable[int] = (), *, only: bool = False) -> listener_components_v3.ListenerFilter:
    """Looks for TLS, except (or only) on these ports."""
    config = tls_inspector_v3.TlsInspector(initial_read_buffer_size={"value": 512})
    return _limited(ListenerFilter(name=TLS_INSPECTOR, typed_config=packed(config)), ports, only)


def http(ports: Iterable[int] = (), *, only: bool = False) -> listener_components_v3.ListenerFilter:
    """Looks for plaintext HTTP, except (or only) on these ports."""
    found = ListenerFilter(name=HTTP_INSPECTOR, typed_config=packed(http_inspector_v3.HttpInspector()))
    return _limited(found, ports, only)


def _limited(
    found: listener_components_v3.ListenerFilter, ports: Iterable[int], only: bool
) -> listener_components_v3.ListenerFilter:
    rules = [_Predicate(destination_port_range={"start": port, "end": port + 1}) for port in sorted(ports)]
    if not rules:
        return found
    those = rules[0] if len(rules) == 1 else _Predicate(or_match={"rules": rules})
    found.filter_disabled.CopyFrom(_Predicate(not_match=those) if only else those)
    return found
