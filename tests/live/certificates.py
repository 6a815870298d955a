"""A certificate authority outside the mesh, for servers and clients that know nothing of it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: str
    key: str


class Outside:
    """Issues certificates for names."""

    def __init__(self, name: str = "outside") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = _pem(self._signed(self._name, self._key, ca=True))

    def pair(self, *names: str, serial: int = 1) -> Pair:
        """A certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(_name(names[0]), key, names=names, serial=serial)
        return Pair(_pem(signed), _key_pem(key))

    def revoked(self, *serials: int) -> str:
        """Its list of revoked certificates, PEM."""
        made = x509.CertificateRevocationListBuilder(
            self._name, _NOW - timedelta(hours=1), _NOW + timedelta(days=1)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder(serial, _NOW - timedelta(hours=1)).build()
            made = made.add_revoked_certificate(entry)
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        names: tuple[str, ...] = (),
        ca: bool = False,
        serial: int = 1,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(_NOW - timedelta(hours=1))
            .not_valid_after(_NOW + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
