"""Names of protocols -> what kind of protocol it is, as Istio reads them: upper and lower case alike."""

from typing import Final

_HTTP: Final = {"http", "http2", "http_proxy", "grpc", "grpc-web"}
_TLS: Final = {"https", "tls"}
_PLAIN: Final = {"tcp", "udp", "mongo", "redis", "mysql"}
_KNOWN: Final = _HTTP | _TLS | _PLAIN
_BYTES: Final = _TLS | _PLAIN - {"udp"}


def is_known(protocol: str) -> bool:
    """Whether it is a protocol that Istio knows."""
    return protocol.lower() in _KNOWN


def is_http(protocol: str) -> bool:
    """Whether requests can be told apart."""
    return protocol.lower() in _HTTP


def is_tls(protocol: str) -> bool:
    """Whether it is wrapped in TLS."""
    return protocol.lower() in _TLS


def is_tcp(protocol: str) -> bool:
    """Whether it is carried as bytes."""
    return protocol.lower() in _BYTES
