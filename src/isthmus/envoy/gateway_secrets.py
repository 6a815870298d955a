"""Credentials of Gateways -> Secrets over ADS. Key and chain of one are one resource and change together."""

from collections.abc import Mapping

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_secret_v3

from isthmus.engine import Reader
from isthmus.envoy.message import resource
from isthmus.envoy.resource import SECRET, Resource
from isthmus.mesh import gateways_credentials as credentials
from isthmus.mesh.gateways import Edge


def secrets(q: Reader, edge: Edge) -> Mapping[str, Resource]:
    """The secrets that the gateways of an edge may hold, as far as there are any."""
    made = (q(secret, name, edge.namespace) for name in q(credentials.names, edge))
    return {each.name: each for each in made if each}


def secret(q: Reader, name: str, namespace: str) -> Resource | None:
    """One secret for gateways of a namespace; None when nothing usable is there."""
    held = q(credentials.credential, name, namespace).value
    key = credentials.place_of(name, namespace)
    if held is None or key is None:
        return None
    message = tls_secret_v3.Secret(name=name)
    if held.key:
        certificate = message.tls_certificate
        certificate.certificate_chain.inline_bytes = held.certificates
        certificate.private_key.inline_bytes = held.key
        if held.staple:
            certificate.ocsp_staple.inline_bytes = held.staple
    else:
        message.validation_context.trusted_ca.inline_bytes = held.certificates
        if held.revoked:
            message.validation_context.crl.inline_bytes = held.revoked
    return resource(SECRET, name, message, (key,))
