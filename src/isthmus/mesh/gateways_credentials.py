"""Servers of Gateways -> the secrets that they name, and what of them a gateway may hold.

    credentialName: shop     kubernetes://shop          tls.crt, tls.key (or cert, key) of the Secret
                             kubernetes://shop-cacert   ca.crt (or cacert) of it or of Secret `shop-cacert`
    caCertCredentialName     the same, or configmap://<namespace>/<name>

A gateway holds what a Gateway that it obeys names, and only from its own namespace: it could otherwise ask
for the keys of others. A ConfigMap holds certificates for everybody to see.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from isthmus.api.core import ConfigMapSpec, SecretSpec
from isthmus.api.meta import Key, Problem
from isthmus.api.networking.gateway import ServerTLSSettings
from isthmus.engine import Reader
from isthmus.identity import pem
from isthmus.mesh import world
from isthmus.mesh.gateways import Edge
from isthmus.mesh.gateways_plan import Server, plan
from isthmus.mesh.model import Judged

OWN = "builtin://"
"""Instead of a secret's name: the workload's own certificate."""
_SECRET, _SHARED, _CONFIG_MAP, _EXTERNAL = "kubernetes://", "kubernetes-gateway://", "configmap://", "sds://"
_ROOTS_SUFFIX = "-cacert"
_PAIRS = (("cert", "key"), ("tls.crt", "tls.key"))
_ROOTS = (("cacert", "crl"), ("ca.crt", "ca.crl"))
_CHECKED_MODES = frozenset({"MUTUAL", "OPTIONAL_MUTUAL"})


@dataclass(frozen=True, slots=True)
class Credential:
    """What a secret holds for TLS: a key with its chain, or (`key` empty) certificates to trust."""

    certificates: bytes
    key: bytes = field(default=b"", repr=False)
    staple: bytes = b""
    revoked: bytes = b""


# names


def certificates(said: ServerTLSSettings) -> tuple[str, ...]:
    """The names of a server's own certificates."""
    if said.credential_names:
        return said.credential_names
    if said.credential_name:
        return (said.credential_name,)
    if said.tls_certificates:
        return tuple(_file(each.server_certificate, each.private_key) for each in said.tls_certificates)
    return (_file(said.server_certificate, said.private_key),)


def roots(said: ServerTLSSettings) -> str:
    """The name of the certificates that callers' must lead to."""
    if said.ca_cert_credential_name:
        return said.ca_cert_credential_name
    named = said.credential_names[:1] or ((said.credential_name,) if said.credential_name else ())
    return f"{named[0]}{_ROOTS_SUFFIX}" if named else f"file-root:{said.ca_certificates}"


def _file(chain: str, key: str) -> str:
    return f"file-cert:{chain}~{key}"


def resource_name(name: str) -> str:
    """The name by which Envoy asks for a secret."""
    if name.startswith((_SECRET, _SHARED, _CONFIG_MAP)):
        return name
    return _SECRET + name.removeprefix(_EXTERNAL)


def _is_asked(name: str) -> bool:
    """Whether Envoy asks the control plane for a secret."""
    return not name.startswith((OWN, "file-"))


# which, and what they hold


def names(q: Reader, edge: Edge) -> tuple[str, ...]:
    """The secrets that gateways of an edge ask for, by the name by which they ask."""
    planned = q(plan, edge.gateways)
    found = {name for place in planned.places for server in place.servers for name in named_by(server)}
    return tuple(sorted(found))


def named_by(server: Server) -> Iterator[str]:
    """The secrets that one server asks for."""
    if server.tls is None or not server.terminates or server.tls.mode == "ISTIO_MUTUAL":
        return
    yield from (resource_name(name) for name in certificates(server.tls) if _is_asked(name))
    if server.tls.mode in _CHECKED_MODES and _is_asked(name := roots(server.tls)):
        yield resource_name(name)


def place_of(name: str, namespace: str) -> Key | None:
    """The object behind a secret's name for gateways of a namespace; None where they may not have it."""
    for scheme, kind in ((_SECRET, "Secret"), (_SHARED, "Secret"), (_CONFIG_MAP, "ConfigMap")):
        if name.startswith(scheme):
            place, slash, bare = name.removeprefix(scheme).partition("/")
            place, bare = (place, bare) if slash else (namespace, place)
            return Key(kind, place, bare) if place == namespace or kind == "ConfigMap" else None
    return None


def credential(q: Reader, name: str, namespace: str) -> Judged[Credential | None]:
    """What a secret holds for the gateways of a namespace, and why nothing where it holds nothing."""
    key = place_of(name, namespace)
    if key is None:
        text = f"{name} is not of namespace {namespace}, where the gateway stands"
        return _nothing(text, f"put the Secret into namespace {namespace}")
    if key.kind == "ConfigMap":
        spec = world.spec(q, key, ConfigMapSpec)
        data = {n: text.encode() for n, text in spec.data.items()} if spec else None
        return _trusted(key, data)
    if not key.name.endswith(_ROOTS_SUFFIX):
        return _pair(key, _data(q, key))
    held = _data(q, key)
    if held is None:
        key = Key(key.kind, key.namespace, key.name.removesuffix(_ROOTS_SUFFIX))
        held = _data(q, key)
    return _trusted(key, held)


def _data(q: Reader, key: Key) -> Mapping[str, bytes] | None:
    spec = world.spec(q, key, SecretSpec)
    if spec is None:
        return None
    found: dict[str, bytes] = {}
    for name, text in spec.data.items():
        try:
            found[name] = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue  # as if it was not there: what is missing is told
    return found


def _pair(key: Key, data: Mapping[str, bytes] | None) -> Judged[Credential | None]:
    if data is None:
        return _nothing(f"there is no {key}", "apply it: type kubernetes.io/tls, with tls.crt and tls.key")
    for chain, private in _PAIRS:
        if data.get(chain) and data.get(private):
            fault = pem.pair_fault(data[chain], data[private])
            if fault:
                return _nothing(f"{key}: {fault}", "connections fail until the secret is put right")
            return Judged(Credential(data[chain], data[private], data.get("tls.ocsp-staple", b"")))
    there = ", ".join(sorted(data)) or "nothing"
    return _nothing(f"{key} should hold tls.crt and tls.key, holds {there}", "see `type: kubernetes.io/tls`")


def _trusted(key: Key, data: Mapping[str, bytes] | None) -> Judged[Credential | None]:
    if data is None:
        return _nothing(f"there is no {key}", "apply it, with ca.crt")
    for chain, revoked in _ROOTS:
        if data.get(chain):
            fault = pem.roots_fault(data[chain])
            if fault:
                return _nothing(f"{key}: {fault}", "connections fail until the certificates are put right")
            fault = pem.revocations_fault(data[revoked]) if data.get(revoked) else ""
            if fault:
                return _nothing(f"{key}: {revoked}: {fault}", "connections fail until the list is put right")
            return Judged(Credential(data[chain], revoked=data.get(revoked, b"")))
    there = ", ".join(sorted(data)) or "nothing"
    return _nothing(f"{key} should hold ca.crt, holds {there}", "callers' certificates cannot be checked")


def _nothing(text: str, hint: str) -> Judged[Credential | None]:
    return Judged(None, (Problem("", text, hint, "warning"),))
