"""Gateway: what a proxy at the mesh's edge listens to.

https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from isthmus.api.meta import Later, Model, Refused
from isthmus.api.shapes import UInt32

TLSProtocol = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class TLSCertificate(Model):
    """One of several certificates of a server."""

    server_certificate: str = ""
    """Path of the server's certificate."""
    private_key: str = ""
    """Path of the server's private key."""
    ca_certificates: Annotated[str, Later("those of the server itself count, beside `tlsCertificates`")] = ""
    """Path of the certificates that clients' must lead to."""


class ServerTLSSettings(Model):
    """TLS of a server."""

    https_redirect: bool = False
    """Whether plaintext requests are answered with a redirect to https."""
    mode: Literal[
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ] = "PASSTHROUGH"
    """Whether TLS is opened here, and whether clients must show a certificate."""
    server_certificate: str = ""
    """Path of the server's certificate."""
    private_key: str = ""
    """Path of the server's private key."""
    ca_certificates: str = ""
    """Path of the certificates that clients' must lead to, for MUTUAL."""
    ca_crl: str = ""
    """Path of a list of revoked client certificates."""
    ca_cert_credential_name: str = ""
    """Name of the secret or config map with the certificates that clients' must lead to."""
    credential_name: str = ""
    """Name of the secret with key and certificates; not together with paths."""
    credential_names: Annotated[tuple[str, ...], Field(max_length=2)] = ()
    """Names of up to two secrets (RSA and ECDSA); not together with other sources."""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    """Up to two certificates (RSA and ECDSA) by path; not together with other sources."""
    subject_alt_names: tuple[str, ...] = ()
    """Names of which a client's certificate must have one."""
    verify_certificate_spki: tuple[str, ...] = ()
    """SHA-256 of the public keys that clients may have, base64."""
    verify_certificate_hash: tuple[str, ...] = ()
    """SHA-256 of the certificates that clients may have, hexadecimal."""
    min_protocol_version: TLSProtocol = "TLS_AUTO"
    """Oldest version of TLS; 1.2 when left out."""
    max_protocol_version: TLSProtocol = "TLS_AUTO"
    """Newest version of TLS; 1.3 when left out."""
    cipher_suites: tuple[str, ...] = ()
    """Cipher suites by OpenSSL's names; Envoy's when left out."""
    ecdh_curves: tuple[str, ...] = ()
    """Curves for the key exchange; Envoy's when left out."""
    insecure_skip_verify: bool | None = None
    """Whether a client's certificate is taken unseen."""


class ServerPort(Model):
    """The port of a server."""

    number: UInt32 = 0
    """Port number; 0 with a Unix socket in `bind`."""
    protocol: str = ""
    """HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, REDIS, MYSQL, TCP or TLS."""
    name: str = ""
    """Name of the port, unique in the Gateway."""
    target_port: Annotated[UInt32, Refused("as in Istio, where it never had an effect")] = 0
    """Port of an endpoint."""


class Server(Model):
    """One server of the Gateway: a port, and the hosts that it answers for."""

    port: ServerPort | None = None
    """The port to listen on."""
    bind: str = ""
    """Address or Unix socket (`unix:///path`, `unix://@name`) to listen on; all addresses when left out."""
    hosts: tuple[str, ...] = ()
    """Hosts that are served, as `dnsName` or `namespace/dnsName`; either may be `*`."""
    tls: ServerTLSSettings | None = None
    """TLS of the server."""
    default_endpoint: Annotated[str, Later("as in Istio; a VirtualService says where requests go")] = ""
    """Where traffic goes that no rule is about."""
    name: str = ""
    """Name of the server, for statistics."""


class GatewaySpec(Model):
    """Spec of a Gateway."""

    servers: tuple[Server, ...] = ()
    """The servers."""
    selector: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the workloads whose proxy is this Gateway."""
