"""What a port speaks and how much mTLS it wants -> the kinds of connections that it takes.

              nobody said (and undeclared ports)               HTTP                 TCP
PERMISSIVE    mTLS HTTP, HTTP, mTLS TCP, TCP, other TLS        mTLS HTTP, HTTP      mTLS TCP, other TLS, TCP
STRICT        mTLS HTTP, mTLS TCP, mTLS of any ALPN            mTLS HTTP            mTLS TCP
DISABLE       HTTP, TCP                                        HTTP                 TCP

Callers of the mesh are known by the ALPN that they offer; other TLS is the application's own business. What
PERMISSIVE takes over mTLS, STRICT takes by the same chains: Envoy ends the connections of a chain that
changes, and mTLS is not to be cut off when plaintext is.
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
_MESH_HTTP, _MESH_TCP = Kind(True, TLS, MESH_HTTP, True), Kind(False, TLS, MESH_TCP, True)
_MESH_AS_HTTP, _MESH_AS_TCP = (Kind(http, TLS, tls.MESH_ALPN, True) for http in (True, False))
_ANY_MTLS_AS_HTTP, _ANY_MTLS_AS_TCP = (Kind(http, TLS, (), True) for http in (True, False))

_KINDS = {
    (MtlsMode.PERMISSIVE, "auto"): (_MESH_HTTP, _SNIFFED_HTTP, _MESH_TCP, _TCP, _OTHER_TLS),
    (MtlsMode.PERMISSIVE, "http"): (_MESH_AS_HTTP, _HTTP),
    (MtlsMode.PERMISSIVE, "tcp"): (_MESH_AS_TCP, _OTHER_TLS, _TCP),
    (MtlsMode.STRICT, "auto"): (_MESH_HTTP, _MESH_TCP, _ANY_MTLS_AS_TCP),
    (MtlsMode.STRICT, "http"): (_MESH_AS_HTTP, _ANY_MTLS_AS_HTTP),
    (MtlsMode.STRICT, "tcp"): (_MESH_AS_TCP, _ANY_MTLS_AS_TCP),
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
