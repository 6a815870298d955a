"""What AuthorizationPolicies compare with -> its problems: addresses, ports, paths, accounts, attributes."""

import re
from collections.abc import Callable, Iterator, Sequence

from isthmus.api.meta import Problem
from isthmus.api.rules import wrong
from isthmus.api.syntax import address, subnet

_PCHARS = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")
"""RFC 3986, appendix A."""
_MAP_KEY = re.compile(r"[^\[]+\[.+\]", re.DOTALL)
_PLAIN_KEYS = {
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
}
_KEYED = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_LONGEST_ACCOUNT, _MOST_ACCOUNTS = 320, 16


def not_empty(field: str, texts: Sequence[str]) -> Iterator[Problem]:
    """Any text but an empty one."""
    for index, text in enumerate(texts):
        if not text:
            yield from wrong(f"{field}[{index}]", text, f"empty value not allowed, found in {_last(field)}")


def addresses(field: str, texts: Sequence[str]) -> Iterator[Problem]:
    """IP addresses and CIDR ranges."""
    for index, text in enumerate(texts):
        if "/" in text and subnet(text):
            yield from wrong(f"{field}[{index}]", text, f"bad CIDR range ({text})")
        elif "/" not in text and address(text):
            yield from wrong(f"{field}[{index}]", text, f"bad IP address ({text})")


def ports(field: str, texts: Sequence[str]) -> Iterator[Problem]:
    """Port numbers, as text."""
    for index, text in enumerate(texts):
        if not (text.isascii() and text.isdigit() and int(text[:10]) <= 65535):
            yield from wrong(f"{field}[{index}]", text, f"bad port ({text})")


def service_accounts(field: str, texts: Sequence[str]) -> Iterator[Problem]:
    """`serviceAccount` or `namespace/serviceAccount`."""
    if len(texts) > _MOST_ACCOUNTS:
        yield from wrong(field, len(texts), f"may not have more than {_MOST_ACCOUNTS} values")
    yield from not_empty(field, texts)
    for index, text in enumerate(texts):
        if "*" in text:
            yield from wrong(f"{field}[{index}]", text, f"wildcard not allowed, found in {_last(field)}")
        elif text and ("" in text.split("/") or text.count("/") > 1):
            fault = "expected format 'serviceAccount' or 'namespace/serviceAccount'"
            yield from wrong(f"{field}[{index}]", text, fault)
        elif len(text) > _LONGEST_ACCOUNT:
            yield from wrong(f"{field}[{index}]", text, f"value cannot exceed {_LONGEST_ACCOUNT} characters")


def trust_domains(field: str, texts: Sequence[str]) -> Iterator[Problem]:
    """Trust domains, which a wildcard may begin or end."""
    yield from wildcards(field, texts)
    for index, text in enumerate(texts):
        if "/" in text:
            yield from wrong(f"{field}[{index}]", text, "trust domain must not contain '/'")


def wildcards(field: str, texts: Sequence[str]) -> Iterator[Problem]:
    """Text with at most one wildcard, at its beginning or end."""
    yield from not_empty(field, texts)
    for index, text in enumerate(texts):
        if text.count("*") > 1:
            yield from wrong(f"{field}[{index}]", text, "at most one wildcard is allowed")
        elif "*" in text and not text.startswith("*") and not text.endswith("*"):
            yield from wrong(f"{field}[{index}]", text, "wildcard is only allowed at the start or end")


def paths(field: str, texts: Sequence[str]) -> Iterator[Problem]:
    """Paths; a template has `{*}` for one part and at its end `{**}` for all others."""
    for index, text in enumerate(texts):
        fault = _path_fault(text)
        if fault:
            yield from wrong(f"{field}[{index}]", text, f"invalid or unsupported path: {fault}")


def _path_fault(path: str) -> str:
    template = "{*}" in path or "{**}" in path
    ended = False
    for part in path.strip("/").split("/"):
        if part in {"{*}", "{**}"}:
            if ended:
                return "{**} is not the last operator"
            ended = part == "{**}"
        elif "{" in part or "}" in part:
            return "contains '{' or '}' beyond a supported path template"
        elif template and not _PCHARS.fullmatch(part):
            return f"contains segment {part} with invalid string literal"
    return ""


def key_fault(key: str) -> str:
    """What is wrong with the attribute of a condition; empty when nothing is."""
    if key.startswith(_KEYED):
        return "" if _MAP_KEY.fullmatch(key) else f"bad key ({key}): should have format a[b]"
    if key in _PLAIN_KEYS:
        return ""
    if key == "destination.namespace":
        return "attribute destination.namespace is replaced by the metadata.namespace"
    if key.startswith("destination.labels"):
        return f"attribute {key} is replaced by the workload selector"
    if key in {"destination.name", "destination.user"}:
        return f"deprecated attribute {key}: only supported in v1alpha1"
    return f"unknown attribute: {key}"


_RULES: dict[str, Callable[[str, Sequence[str]], Iterator[Problem]]] = {
    "source.ip": addresses,
    "remote.ip": addresses,
    "destination.ip": addresses,
    "destination.port": ports,
    "source.serviceAccount": service_accounts,
    "source.trustDomain": wildcards,
}


def values(field: str, key: str, texts: Sequence[str]) -> Iterator[Problem]:
    """What an attribute is compared with."""
    yield from _RULES.get(key, not_empty)(field, texts)


def _last(field: str) -> str:
    return field.rpartition(".")[2]
