"""Text that must have a form (names, hosts, labels, headers, expressions) -> what is wrong with it.

Each function returns an empty string when nothing is. Istio's forms are wider than Kubernetes': its DNS
labels may have upper-case letters.
"""

import re
from ipaddress import ip_address

from isthmus.api.expressions import unusable

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*+")
_LABEL_1035 = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ISTIO_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(rf"{_ISTIO_LABEL.pattern}(\.{_ISTIO_LABEL.pattern})*+\.?")
_ISTIO_TAG = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)?[A-Za-z0-9]")
_WILDCARD = re.compile(r"\*|(\*-?)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = re.compile(rf"({_BYTE}\.){{3}}{_BYTE}")
_NUMBER = re.compile(r"[-+]?[0-9]+")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_STRICT_HEADER = re.compile(r"[-_A-Za-z0-9]+")
_PSEUDO_HEADERS = {":method", ":scheme", ":authority", ":path", ":status"}
_JWT_CLAIM = re.compile(r"@request\.auth\.claims(\..+|\[.+\])", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LONGEST_REGEX = 1024

# Envoy's %VARIABLES% in headers: %NAME%, %NAME(text)%, %NAME(["a", "b"])%; %% is one %
_STRING = r"(?:\\.|[^\\)\"])*+"
_AFTER_STRING = r"(?:\" *+, *+\"" + _STRING + r")*+(?:\) *+%|\" *+\] *+\) *+%)"
_VARIABLE = r"%(?!%)[^%(]*+(?:%|\( *+(?:\[ *+\"|[^ \[])" + _STRING + _AFTER_STRING + ")"
_HEADER_VALUE = re.compile(rf"(?:[^%]|%%|{_VARIABLE})*+", re.DOTALL)


def dns_label(text: str) -> str:
    """RFC 1123 label, such as a namespace's name."""
    return (
        ""
        if _LABEL.fullmatch(text)
        else "should be 1 to 63 of a-z, 0-9 and '-', beginning and ending with a-z or 0-9"
    )


def dns_label_1035(text: str) -> str:
    """RFC 1035 label, such as a Service's name: it begins with a letter."""
    return "" if _LABEL_1035.fullmatch(text) else "should be 1 to 63 of a-z, 0-9 and '-', beginning with a-z"


def dns_subdomain(text: str) -> str:
    """RFC 1123 subdomain, such as most objects' names."""
    if len(text) <= 253 and _SUBDOMAIN.fullmatch(text):
        return ""
    return "should be at most 253 of a-z, 0-9, '-' and '.', each part beginning and ending with a-z or 0-9"


def istio_label(text: str) -> str:
    """A DNS label as Istio takes it: subsets, ports, namespaces in references."""
    if _ISTIO_LABEL.fullmatch(text):
        return ""
    return "should be 1 to 63 letters, digits and '-', beginning and ending with a letter or digit"


def label_key(text: str) -> str:
    """The key of a label or annotation: an optional DNS prefix and a name."""
    prefix, slash, name = text.rpartition("/")
    if _QUALIFIED.fullmatch(name) and (not slash or not dns_subdomain(prefix)):
        return ""
    return "should be at most 63 letters, digits, '-', '_' and '.', after an optional DNS prefix and '/'"


def label_value(text: str) -> str:
    """The value of a label; it may be empty."""
    if text == "" or _QUALIFIED.fullmatch(text):
        return ""
    return (
        "should be at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
    )


def tag_key(text: str) -> str:
    """The key of a label inside an Istio spec."""
    prefix, slash, name = text.rpartition("/")
    if slash and (len(prefix) > 253 or not all(map(_ISTIO_TAG_PREFIX.fullmatch, prefix.split(".")))):
        return "invalid tag key: what stands before '/' should be a DNS name"
    if len(name) <= 63 and _ISTIO_TAG.fullmatch(name):
        return ""
    return "invalid tag key: should be at most 63 letters, digits, '-', '_' and '.', after a DNS name and '/'"


_ISTIO_TAG_PREFIX = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")


def tag_value(text: str) -> str:
    """The value of a label inside an Istio spec; it may be empty and long."""
    if text == "" or _ISTIO_TAG.fullmatch(text):
        return ""
    return "invalid tag value: should be letters, digits, '-', '_' and '.'"


def _domain_size(text: str) -> str:
    if not text:
        return "empty domain name not allowed"
    return "domain name too long (more than 255)" if len(text) > 255 else ""


def _domain_labels(text: str) -> str:
    *parts, last = text.split(".")
    if _NUMBER.fullmatch(last):
        return f'domain name invalid: top level domain "{last}" cannot be all numeric'
    if _DOMAIN.fullmatch(text):
        return ""
    wrong = next(
        (part for part in (*parts, *([last] if last or not parts else ())) if istio_label(part)), None
    )
    return "" if wrong is None else f'domain name invalid: label "{wrong}" is no DNS label'


def fqdn(text: str) -> str:
    """A host name without wildcard; a dot at its end is fine."""
    return _domain_size(text) or _domain_labels(text)


def wildcard_domain(text: str) -> str:
    """A host name whose first part may be or begin with a wildcard."""
    if fault := _domain_size(text):
        return fault
    first, dot, others = text.partition(".")
    if len(first) > 63 or not _WILDCARD.fullmatch(first):
        return f'domain name invalid: label "{first}" is no DNS label and no wildcard'
    return _domain_labels(others) if dot else ""


def partial_wildcard(text: str) -> str:
    """A host name whose wildcard, if any, is a whole part."""
    if "*" in text and len(text) != 1 and not text.startswith("*."):
        return f"partial wildcard \"{text}\" not allowed: '*' stands for whole parts of a name"
    return ""


def host(text: str) -> str:
    """A host name whose first part may be or begin with a wildcard, or an IP address."""
    return "" if not address(text) else wildcard_domain(text)


def address(text: str) -> str:
    """An IPv4 or IPv6 address."""
    if ":" not in text:
        return "" if _V4.fullmatch(text) else f"{text} is not a valid IP address"
    try:
        ip_address(text)
    except ValueError:
        return f"{text} is not a valid IP address"
    return ""


def subnet(text: str) -> str:
    """An IP address or CIDR range."""
    ip, slash, bits = text.partition("/")
    if not slash:
        return address(text)
    try:
        longest: int = ip_address(ip).max_prefixlen
    except ValueError:
        longest = -1
    plain = bits.isascii() and bits.isdigit() and (bits == "0" or not bits.startswith("0"))
    if "%" in ip or not plain or int(bits[:4]) > longest:
        return "is not a valid CIDR block, such as 10.1.0.0/16"
    return ""


def jwt_claim(header: str) -> bool:
    """Whether a header name stands for a claim of a token: `@request.auth.claims.<name>`."""
    return _JWT_CLAIM.fullmatch(header) is not None


def header_name(text: str) -> str:
    """The name of an HTTP header (RFC 9110 token)."""
    if not text:
        return "header name cannot be empty"
    return "" if _HEADER.fullmatch(text) else "is not a valid header name: letters, digits and '-'"


def strict_header_name(text: str) -> str:
    """The name of an HTTP header of letters, digits, '-' and '_' only."""
    if not text:
        return "header name cannot be empty"
    return (
        "" if _STRICT_HEADER.fullmatch(text) else "is not a valid header name: letters, digits, '-' and '_'"
    )


def matched_header(text: str) -> str:
    """A header that a route may ask for: any, a pseudo-header, or a claim of a token."""
    return "" if text in _PSEUDO_HEADERS or jwt_claim(text) else header_name(text)


def header_value(text: str) -> str:
    """The value that a header is given, with Envoy's %VARIABLES%."""
    if _CONTROL.search(text):
        return "header value may not hold control characters"
    if not _HEADER_VALUE.fullmatch(text):
        return "invalid header value configuration: write %% for a percent sign, %NAME% for a variable"
    return ""


def regex(text: str) -> str:
    """An RE2 expression, as far as that can be told without RE2."""
    if not text:
        return "regex string match should not be empty"
    if len(text) > _LONGEST_REGEX:
        return f"regex is too large, max length allowed is {_LONGEST_REGEX}"
    reason = unusable(text)
    return f"is no RE2 style regex: {reason}" if reason else ""
