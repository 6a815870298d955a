"""TLS of a server (of a Gateway, or of a Sidecar's ingress) -> its problems."""

from collections import Counter
from collections.abc import Iterator

from isthmus.api.meta import Problem
from isthmus.api.networking.gateway import ServerTLSSettings
from isthmus.api.rules import conflict, has, listed, missing, warning, wrong

_OLD = {"TLSV1_0", "TLSV1_1"}
_TERMINATED = {"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"}
_PASSED_ON = {"PASSTHROUGH", "AUTO_PASSTHROUGH"}
_MOST_CERTIFICATES = 2
_CIPHERS = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
}
"""What BoringSSL knows."""


def known_ciphers(tls: ServerTLSSettings) -> tuple[str, ...]:
    """The cipher suites that count, each once: all but those that a warning says are ignored.

    What begins with a sign (`-ECDHE+AES`, `[A|B]`) is an expression of BoringSSL's and counts unread, as in
    Istio.
    """
    found = (name for name in tls.cipher_suites if name)
    return tuple(dict.fromkeys(n for n in found if n in _CIPHERS or n == "ALL" or not n[0].isalnum()))


def server_tls(at: str, tls: ServerTLSSettings) -> Iterator[Problem]:
    """The problems of a server's TLS."""
    yield from _ciphers(at, tls)
    if tls.mode == "ISTIO_MUTUAL":
        yield from _istio_mutual(at, tls)
        return
    yield from _sources(at, tls)
    if tls.mode in _TERMINATED:
        if tls.credential_name or tls.credential_names:
            return  # what the secret holds is known only when it is fetched
        yield from _certificates(at, tls)
    if tls.ca_crl:
        if tls.credential_name:
            yield conflict(
                f"{at}.caCrl", "CRL is not supported with credentialName: it is part of the credential"
            )
        if tls.mode == "SIMPLE":
            yield conflict(f"{at}.caCrl", "CRL is not supported with SIMPLE TLS")


def _ciphers(at: str, tls: ServerTLSSettings) -> Iterator[Problem]:
    if tls.min_protocol_version in _OLD and not tls.cipher_suites:
        text = "TLS version below TLSV1_2 require setting compatible ciphers: the defaults are not"
        yield warning(f"{at}.minProtocolVersion", text)
    unknown = {name for name in tls.cipher_suites if name} - set(known_ciphers(tls))
    if unknown:
        yield warning(f"{at}.cipherSuites", f"ignoring invalid cipher suites: {listed(sorted(unknown))}")
    counts = Counter(name for name in tls.cipher_suites if name not in unknown)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        yield warning(f"{at}.cipherSuites", f"ignoring duplicate cipher suites: {listed(repeated)}")


def _istio_mutual(at: str, tls: ServerTLSSettings) -> Iterator[Problem]:
    given = {
        "serverCertificate": ("server certificate", tls.server_certificate),
        "privateKey": ("private key", tls.private_key),
        "caCertificates": ("CA bundle", tls.ca_certificates),
        "tlsCertificates": ("tlsCertificates", tls.tls_certificates),
        "credentialName": ("credentialName", tls.credential_name),
        "credentialNames": ("credentialNames", tls.credential_names),
    }
    for field, (what, value) in given.items():
        if value:
            yield conflict(f"{at}.{field}", f"ISTIO_MUTUAL TLS cannot have associated {what}")


def _sources(at: str, tls: ServerTLSSettings) -> Iterator[Problem]:
    anything = (
        tls.ca_crl,
        tls.server_certificate,
        tls.private_key,
        tls.ca_certificates,
        tls.tls_certificates,
        tls.credential_name,
        tls.credential_names,
    )
    if tls.mode in _PASSED_ON and any(anything):
        yield warning(at, f"{tls.mode} mode does not use certificates, they will be ignored")
    sources = (
        tls.server_certificate and tls.private_key,
        tls.credential_name,
        tls.credential_names,
        tls.tls_certificates,
    )
    if sum(map(bool, sources)) > 1:
        text = (
            "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates "
            "should be specified"
        )
        yield conflict(at, text)
    for name, field in (("credentialNames", "credential_names"), ("tlsCertificates", "tls_certificates")):
        if has(tls, field) and not getattr(tls, field):
            yield from wrong(f"{at}.{name}", 0, f"{at}.{name} in body should have at least 1 items")


def _certificates(at: str, tls: ServerTLSSettings) -> Iterator[Problem]:
    what = "SIMPLE TLS" if tls.mode == "SIMPLE" else "MUTUAL TLS"
    if tls.mode != "SIMPLE" and not tls.ca_certificates:
        yield missing(f"{at}.caCertificates", f"{what} requires a client CA bundle")
    if len(tls.tls_certificates) > _MOST_CERTIFICATES:
        text = f"{what} can support up to {_MOST_CERTIFICATES} server certificates"
        yield warning(f"{at}.tlsCertificates", text)
    pairs = [
        (f"{at}.tlsCertificates[{index}]", certificate.server_certificate, certificate.private_key)
        for index, certificate in enumerate(tls.tls_certificates)
    ] or [(at, tls.server_certificate, tls.private_key)]
    for where, certificate, key in pairs:
        if not certificate:
            yield missing(f"{where}.serverCertificate", f"{what} requires a server certificate")
        if not key:
            yield missing(f"{where}.privateKey", f"{what} requires a private key")
