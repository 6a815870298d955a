"""A TLS peer's verified certificate -> who it is: a SPIFFE id and the workload's name.

The chain was verified in the handshake; here only the names in the leaf are read. Identity comes from
nowhere else: no header, node metadata or request field takes part.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from isthmus.identity.ca import BACKDATE
from isthmus.identity.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other end of a connection."""

    spiffe: SpiffeId
    workload: str
    """The name of its WorkloadEntry in `spiffe.namespace`: the certificate's common name."""
    signed_at: datetime = field(compare=False)
    """When the certificate was signed, whole seconds."""
    pin: str = field(compare=False)
    """SHA-256 of the certificate's public key (SubjectPublicKeyInfo, DER), hexadecimal."""


def peer_identity(auth_context: Mapping[str, Sequence[bytes]], trust_domain: str = "cluster.local") -> Peer:
    """The peer that gRPC's auth context (`ServicerContext.auth_context()`) tells; ValueError if it is nobody.

    The names are read from the certificate itself: gRPC's own list mixes DNS names with URIs.
    """
    pems = auth_context.get("x509_pem_cert", ())
    if len(pems) != 1:
        raise ValueError("the connection carries no client certificate")
    return certificate_identity(x509.load_pem_x509_certificate(pems[0]), trust_domain)


def certificate_identity(certificate: x509.Certificate, trust_domain: str) -> Peer:
    """The peer that a verified leaf names; ValueError unless it names exactly one of our trust domain."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension):
        raise ValueError("the certificate must have one subject alternative name extension") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ValueError(f"the certificate has {len(uris)} URI names, a workload's has exactly one")
    spiffe = SpiffeId.parse(uris[0])
    if spiffe.trust_domain != trust_domain:
        raise ValueError(f"trust domain {spiffe.trust_domain!r} is not this mesh's, {trust_domain!r}")
    common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(common_names) != 1 or not common_names[0].value:
        raise ValueError("the certificate must name its workload in exactly one common name")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signed_at = certificate.not_valid_before_utc + BACKDATE
    return Peer(spiffe, str(common_names[0].value), signed_at, hashlib.sha256(key).hexdigest())
