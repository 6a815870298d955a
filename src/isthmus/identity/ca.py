"""A public key and an identity that the caller decided -> a certificate chain that was checked.

    template -> signed -> parsed again -> compared with the template -> handed out

The authority's files are called as in Istio's `cacerts` secret, so an operator's own intermediate is given
by putting its files there before the first start; with no files a root of our own is made.

    ca-key.pem      0600, the signing key        cert-chain.pem   what stands between it and the root
    ca-cert.pem     its certificate              root-cert.pem    the trust bundle
"""

import ipaddress
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.identity import keys
from isthmus.identity.csr import accepted
from isthmus.identity.keys import PrivateKey, PublicKey
from isthmus.identity.spiffe import SpiffeId

ROOT_LIFE = timedelta(days=3650)
BACKDATE = timedelta(minutes=2)
"""How far a certificate's start lies before its signing, for clocks that are a little late."""
MAX_TTL = timedelta(days=90)
MAX_COMMON_NAME = 64
"""X.509's upper bound (RFC 5280, ub-common-name)."""

KEY, CERTIFICATE, CHAIN, ROOTS = "ca-key.pem", "ca-cert.pem", "cert-chain.pem", "root-cert.pem"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Now = Callable[[], datetime]


class AuthorityUnusable(RuntimeError):
    """The authority's files cannot be signed with; the message tells which and why."""


class Missigned(AssertionError):
    """A certificate that we signed is not what we meant to sign: it must not leave."""


@dataclass(frozen=True, slots=True)
class Template:
    """Everything that goes into a leaf; decided by us, never by a request."""

    key: PublicKey
    spiffe: SpiffeId
    common_name: str
    not_before: datetime
    not_after: datetime
    dns: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that may leave: the leaf and its intermediates as PEM, without the root."""

    chain: str
    serial: int
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs leaves for one trust domain."""

    trust_domain: str
    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    """From the signing certificate (itself included unless it is a root) up to, not including, the root."""
    roots: str
    """The trust bundle as PEM."""
    _key: PrivateKey
    _now: Now

    @classmethod
    def open(cls, directory: Path, trust_domain: str, now: Now) -> "Authority":
        """The authority whose files are in the directory; an empty or absent one gets a new root."""
        if not directory.exists() or not any(directory.iterdir()):
            _make_root(directory, trust_domain, now())
        missing = [name for name in (KEY, CERTIFICATE, ROOTS) if not (directory / name).is_file()]
        if missing:
            raise AuthorityUnusable(
                f"{directory} lacks {', '.join(missing)}: put {KEY}, {CERTIFICATE}, {CHAIN} and {ROOTS}"
                " there, or empty it to get a new root"
            )
        try:
            return cls._load(directory, trust_domain, now)
        except ValueError as error:
            raise AuthorityUnusable(f"the authority in {directory} is unusable: {error}") from None

    @classmethod
    def _load(cls, directory: Path, trust_domain: str, now: Now) -> "Authority":
        key = keys.load_key(directory / KEY)
        (certificate, *rest) = keys.certificates((directory / CERTIFICATE).read_text())
        roots = keys.certificates((directory / ROOTS).read_text())
        if (directory / CHAIN).is_file():
            rest += keys.certificates((directory / CHAIN).read_text())
        if certificate.public_key() != key.public_key():
            raise ValueError(f"{KEY} is not the key of {CERTIFICATE}")
        path = _path_to_root(certificate, rest, roots)
        for part in path:
            _check_signer(part, now())
        intermediates = tuple(part for part in path if part not in roots)
        bundle = "".join(map(keys.certificate_pem, roots))
        return cls(trust_domain, certificate, intermediates, bundle, key, now)

    @property
    def expires(self) -> datetime:
        """When the signing certificate ends; nothing that we sign outlives it."""
        return self.certificate.not_valid_after_utc

    def sign(
        self,
        key: PublicKey,
        spiffe: SpiffeId,
        *,
        common_name: str,
        ttl: timedelta,
        names: Sequence[str] = (),
    ) -> Issued:
        """A chain for the key under this identity; `names` are a server's DNS names and addresses.

        The life counts from now; the start is backdated, so half of it is not the middle of the dates.
        """
        if spiffe.trust_domain != self.trust_domain:
            raise ValueError(f"{spiffe} is not in this authority's trust domain {self.trust_domain}")
        if not timedelta(0) < ttl <= MAX_TTL:
            raise ValueError(f"a certificate may live up to {MAX_TTL.days} days, not {ttl}")
        if not 0 < len(common_name) <= MAX_COMMON_NAME:
            raise ValueError(
                f"{common_name!r} has {len(common_name)} characters, at most 64 fit a common name"
            )
        now = self._now().astimezone(UTC).replace(microsecond=0)
        if now >= self.expires:
            raise AuthorityUnusable(
                f"the signing certificate ended at {self.expires.isoformat()}: replace it"
            )
        template = Template(
            accepted(key),
            spiffe,
            common_name,
            max(now - BACKDATE, self.certificate.not_valid_before_utc),
            min(now + ttl, self.expires),
            *split_names(names),
        )
        leaf = x509.load_der_x509_certificate(self._signed(template))
        if faults := differences(leaf, template, self.certificate):
            raise Missigned("; ".join(faults))
        chain = "".join(map(keys.certificate_pem, (leaf, *self.intermediates)))
        return Issued(chain, leaf.serial_number, template.not_before, template.not_after)

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate bears this authority's present signature."""
        return _signed_by(certificate, self.certificate)

    def _signed(self, template: Template) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_common_name(template.common_name))
            .issuer_name(self.certificate.subject)
            .public_key(template.key)
            .serial_number(x509.random_serial_number() >> 32)  # 127 of its random bits: 16 bytes, positive
            .not_valid_before(template.not_before)
            .not_valid_after(template.not_after)
        )
        for extension, critical in _leaf_extensions(template, self.certificate):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)


def split_names(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[Address, ...]]:
    """A server's names as DNS names and IP addresses, each in the order given, without repetition."""
    dns: dict[str, None] = {}
    addresses: dict[Address, None] = {}
    for name in names:
        try:
            addresses[ipaddress.ip_address(name)] = None
        except ValueError:
            dns[name] = None
    return tuple(dns), tuple(addresses)


def differences(leaf: x509.Certificate, template: Template, issuer: x509.Certificate) -> list[str]:
    """How a signed leaf differs from what was meant; empty when it may leave."""
    expected: dict[type[x509.ExtensionType], tuple[x509.ExtensionType, bool]] = {
        type(extension): (extension, critical) for extension, critical in _leaf_extensions(template, issuer)
    }
    found = {type(extension.value): (extension.value, extension.critical) for extension in leaf.extensions}
    public_key = leaf.public_key()
    checks = [
        (found == expected, "extensions"),
        (leaf.subject == _common_name(template.common_name), "subject"),
        (leaf.issuer == issuer.subject, "issuer"),
        (leaf.not_valid_before_utc == template.not_before, "start"),
        (leaf.not_valid_after_utc == template.not_after, "end"),
        (leaf.not_valid_after_utc <= issuer.not_valid_after_utc, "an end after the signer's"),
        (keys.public_key_der(accepted(public_key)) == keys.public_key_der(template.key), "key"),
        (0 < leaf.serial_number < 1 << 128, "serial number"),
        (leaf.version is x509.Version.v3, "version"),
        (_signed_by(leaf, issuer), "signature"),
        (_uris(leaf) == [str(template.spiffe)], "URI names other than exactly the one id"),
    ]
    return [f"the signed certificate has another {what} than meant" for fits, what in checks if not fits]


def _leaf_extensions(template: Template, issuer: x509.Certificate) -> list[tuple[x509.ExtensionType, bool]]:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(template.spiffe))]
    names += map(x509.DNSName, template.dns)
    names += map(x509.IPAddress, template.addresses)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(signs=False), True),
        (x509.ExtendedKeyUsage(usages), False),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(template.key), False),
        (_authority_key_identifier(issuer), False),
    ]


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        digest = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest
        return x509.AuthorityKeyIdentifier(digest, None, None)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _uris(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_signer(certificate: x509.Certificate, now: datetime) -> None:
    """ValueError unless the certificate may sign others now."""
    who = certificate.subject.rfc4514_string() or "the certificate"
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        span = (
            f"{certificate.not_valid_before_utc.isoformat()} to {certificate.not_valid_after_utc.isoformat()}"
        )
        raise ValueError(f"{who} is valid from {span}, and now it is {now.isoformat(timespec='seconds')}")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise ValueError(f"{who} is not a CA certificate (no basic constraints)") from None
    if not constraints.ca:
        raise ValueError(f"{who} is not a CA certificate")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise ValueError(f"{who} may not sign certificates (key usage)")


def _path_to_root(
    certificate: x509.Certificate, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """From the signing certificate up to a root of the bundle, each signed by the next."""
    path = [certificate]
    while path[-1] not in roots:
        above = [c for c in (*roots, *chain) if c not in path and _signed_by(path[-1], c)]
        if not above:
            raise ValueError(f"{CHAIN} and {ROOTS} hold no signer of {path[-1].subject.rfc4514_string()!r}")
        path.append(above[0])
    return path


def _make_root(directory: Path, trust_domain: str, now: datetime) -> None:
    """Writes a new root beside the directory and moves it there whole: no crash leaves half of one."""
    draft = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    key = keys.new_key()
    start = now.astimezone(UTC).replace(microsecond=0)
    name = _common_name(f"isthmus root {key.public_key().public_numbers().x % (1 << 32):08x}")
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() >> 32)
        .not_valid_before(start - BACKDATE)
        .not_valid_after(start + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = keys.certificate_pem(root).encode()
    keys.write_durably(draft / KEY, keys.key_pem(key), 0o600)
    keys.write_durably(draft / CERTIFICATE, pem, 0o644)
    keys.write_durably(draft / ROOTS, pem, 0o644)
    draft.replace(directory)
    keys.sync_directory(directory.parent)
