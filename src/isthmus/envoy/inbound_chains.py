"""What a port speaks and how much mTLS it wants -> the kinds of connections that it takes.

              nobody said (and undeclared ports)               HTTP                 TCP
PERMISSIVE    mTLS HTTP, HTTP, mTLS TCP, TCP, other TLS        mTLS HTTP, HTTP      mTLS TCP, other TLS, TCP
STRICT        mTLS HTTP, mTLS TCP                              mTLS HTTP            mTLS TCP
DISABLE       HTTP, TCP                                        HTTP                 TCP

Callers of the mesh are known by the ALPN that they offer; other TLS is the application's own business.
"""

from dataclasses import dataclass

from isthmus.envoy import tls
from isthmus.envoy.inspectors import PLAINTEXT_HTTP, RAW, TLS
from isthmus.mesh.model import MtlsMode, Protocol

MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH_TCP = ("istio-peer-exchange", "istio")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of connection: how it is told, and what is done with it."""

    http: bool
    transport: str
    alpn: tuple[str, ...] = ()
    mtls: bool = False
    """Whether the proxy opens the TLS."""


_HTTP = Kind(True, RAW)
_TCP = Kind(False, RAW)
_SNIFFED_HTTP = Kind(True, RAW, PLAINTEXT_HTTP)
_OTHER_TLS = Kind(False, TLS)

_KINDS = {
    (MtlsMode.PERMISSIVE, "auto"): (
        Kind(True, TLS, MESH_HTTP, True),
        _SNIFFED_HTTP,
        Kind(False, TLS, MESH_TCP, True),
        _TCP,
        _OTHER_TLS,
    ),
    (MtlsMode.PERMISSIVE, "http"): (Kind(True, TLS, tls.MESH_ALPN, True), _HTTP),
    (MtlsMode.PERMISSIVE, "tcp"): (Kind(False, TLS, tls.MESH_ALPN, True), _OTHER_TLS, _TCP),
    (MtlsMode.STRICT, "auto"): (Kind(True, TLS, MESH_HTTP, True), Kind(False, TLS, (), True)),
    (MtlsMode.STRICT, "http"): (Kind(True, TLS, (), True),),
    (MtlsMode.STRICT, "tcp"): (Kind(False, TLS, (), True),),
    (MtlsMode.DISABLE, "auto"): (_SNIFFED_HTTP, _TCP),
    (MtlsMode.DISABLE, "http"): (_HTTP,),
    (MtlsMode.DISABLE, "tcp"): (_TCP,),
}


def kinds(protocol: Protocol, mode: MtlsMode) -> tuple[Kind, ...]:
    """The kinds of connections that a port takes."""
    return _KINDS[mode, "http" if protocol.is_http else "auto" if protocol is Protocol.AUTO else "tcp"]


def opened(protocol: Protocol) -> tuple[Kind, ...]:
    """The one kind that a port takes where the proxy opens TLS for callers from outside the mesh."""
    return (Kind(protocol.is_http, TLS, (), True),)
