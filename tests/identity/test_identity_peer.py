from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from isthmus.identity import keys
from isthmus.identity.peer import peer_identity
from isthmus.identity.spiffe import SpiffeId

MYSQL = "spiffe://cluster.local/ns/vms/sa/mysql"


def context(names: Sequence[x509.GeneralName] | None, *common_names: str) -> dict[str, list[bytes]]:
    """gRPC's auth context of a client with these names, whoever signed them."""
    key = keys.new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return {"x509_pem_cert": [keys.certificate_pem(builder.sign(key, hashes.SHA256())).encode()]}


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def test_a_workload_is_named_by_its_certificate() -> None:
    peer = peer_identity(context([uri(MYSQL), x509.DNSName("mysql")], "mysql-10.0.0.5"))
    assert peer.spiffe == SpiffeId("cluster.local", "vms", "mysql")
    assert peer.workload == "mysql-10.0.0.5"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (None, "subject alternative name"),
        ([x509.DNSName(MYSQL)], "0 URI names"),
        ([uri(MYSQL), uri("spiffe://cluster.local/ns/vms/sa/root")], "2 URI names"),
        ([uri(MYSQL), uri(MYSQL)], "2 URI names"),
        ([uri("spiffe://evil.example/ns/vms/sa/mysql")], "not this mesh's"),
        ([uri("spiffe://cluster.local/ns/vms/sa/../root")], "is not spiffe"),
        ([uri("spiffe://cluster.local/ns/vms/sa/my%2fsql")], "service account"),
        ([uri("https://cluster.local/ns/vms/sa/mysql")], "is not spiffe"),
        ([uri(MYSQL + "/")], "is not spiffe"),
        ([uri(MYSQL + "?a=b")], "service account"),
    ],
)
def test_who_is_nobody(names: Sequence[x509.GeneralName] | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        peer_identity(context(names, "mysql-10.0.0.5"))


@pytest.mark.parametrize("common_names", [(), ("a", "b")])
def test_a_certificate_names_one_workload(common_names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="exactly one common name"):
        peer_identity(context([uri(MYSQL)], *common_names))


def test_a_connection_without_a_certificate_is_nobody() -> None:
    with pytest.raises(ValueError, match="no client certificate"):
        peer_identity({"transport_security_type": [b"ssl"]})


def test_the_trust_domain_may_be_another() -> None:
    auth = context([uri("spiffe://prod.example/ns/vms/sa/mysql")], "a")
    assert peer_identity(auth, "prod.example").spiffe.trust_domain == "prod.example"
