"""PeerAuthentication and RequestAuthentication -> their problems."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from isthmus.api.meta import Problem
from isthmus.api.rules import attachment, conflict, duration, has, label_selector, missing, warning, wrong
from isthmus.api.security import JWTRule, PeerAuthenticationSpec, RequestAuthenticationSpec

_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}
"""What a key of each type must have (RFC 7518)."""


def peer_authentication(spec: PeerAuthenticationSpec) -> Iterator[Problem]:
    """The problems of a PeerAuthentication by itself."""
    yield from label_selector("spec.selector", spec.selector)
    if not has(spec, "port_level_mtls"):
        return
    if not spec.port_level_mtls:
        text = "spec.portLevelMtls in body should have at least 1 properties"
        yield from wrong("spec.portLevelMtls", 0, text, "leave it out")
    if spec.selector is None or not spec.selector.match_labels:
        text = (
            "portLevelMtls requires selector: mesh/namespace peer authentication cannot have port level mTLS"
        )
        yield conflict("spec", text, "say by spec.selector.matchLabels whose ports")


def request_authentication(spec: RequestAuthenticationSpec) -> Iterator[Problem]:
    """The problems of a RequestAuthentication by itself."""
    yield from attachment(spec)
    for index, rule in enumerate(spec.jwt_rules):
        yield from _rule(f"spec.jwtRules[{index}]", rule)


def _rule(at: str, rule: JWTRule) -> Iterator[Problem]:
    url = rule.jwks_uri or rule.jwks_uri_snake
    if not rule.issuer and not url:
        yield missing(f"{at}.issuer", "issuer or jwksUri must be non-empty string")
    if sum((has(rule, "jwks_uri"), has(rule, "jwks_uri_snake"), has(rule, "jwks"))) > 1:
        yield conflict(at, "only one of jwks or jwksUri can be set")
    if url is not None:
        yield from wrong(f"{at}.jwksUri", url, _url_fault(url))
    if rule.jwks:
        yield from _keys(f"{at}.jwks", rule.jwks)
    yield from duration(f"{at}.timeout", rule.timeout)


def _url_fault(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme not in {"http", "https"}:
        return f'url must have scheme http:// or https://: URI scheme "{parts.scheme}" is not supported'
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return "is no URL: it holds blanks or control characters"
    return ""


def _keys(field: str, text: str) -> Iterator[Problem]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield Problem(field, f"Invalid value: jwks parse error: {error}")
        return
    if not isinstance(document, dict):
        yield Problem(field, "Invalid value: jwks parse error: should be an object with keys")
        return
    keys = document.get("keys", [document] if "kty" in document else None)
    if not isinstance(keys, list):
        yield Problem(field, "Invalid value: jwks parse error: should be an object with keys")
        return
    for index, key in enumerate(keys):
        if fault := _key_fault(key):
            yield Problem(field, f"Invalid value: jwks parse error: key {index} {fault}")
        elif "d" in key or key["kty"] == "oct":
            text = f"jwks key at index {index} contains private key material"
            yield warning(field, text, "only public keys are used for verification: take the private one out")


def _key_fault(key: Any) -> str:
    if not isinstance(key, Mapping):
        return "is no object"
    needed = _MEMBERS.get(str(key.get("kty")))
    if needed is None:
        return f"has the type {key.get('kty')!r:.20}, not one of {', '.join(_MEMBERS)}"
    absent = [name for name in needed if not isinstance(key.get(name), str)]
    return f"has no {', '.join(absent)}" if absent else ""
