"""Service, Secret, ConfigMap and JoinToken -> their problems."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic.alias_generators import to_camel

from isthmus.api.core import ConfigMapSpec, SecretSpec, ServiceSpec
from isthmus.api.duration import parse_duration
from isthmus.api.fields import path
from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Model, Problem
from isthmus.api.rules import duplicates, missing, plain_selector, warning, wrong
from isthmus.api.syntax import address, dns_label, dns_subdomain

TLS = "kubernetes.io/tls"
"""Type of a Secret with a certificate and its key."""
_LONGEST_TTL_S = 24 * 3600.0
_LARGEST_DATA = 1024 * 1024
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def service(spec: ServiceSpec) -> Iterator[Problem]:
    """The problems of a Service by itself."""
    headless = spec.cluster_ip == "None"
    if spec.type == "ExternalName":
        yield from wrong("spec.externalName", spec.external_name, dns_subdomain(spec.external_name.lower()))
    elif not spec.ports and not headless:
        yield missing("spec.ports", hint="give at least one port")
    if spec.cluster_ip and not headless:
        yield from wrong("spec.clusterIP", spec.cluster_ip, address(spec.cluster_ip))
    for index, ip in enumerate(spec.cluster_ips):
        if not (headless and ip == "None"):
            yield from wrong(f"spec.clusterIPs[{index}]", ip, address(ip))
    if spec.cluster_ips and spec.cluster_ip != spec.cluster_ips[0]:
        text = "first value should be the same as spec.clusterIP"
        yield from wrong("spec.clusterIPs", spec.cluster_ips[0], text)
    for index, port in enumerate(spec.ports):
        at = f"spec.ports[{index}]"
        if port.name:
            yield from wrong(f"{at}.name", port.name, dns_label(port.name))
        elif len(spec.ports) > 1:
            yield missing(f"{at}.name", hint="each of several ports needs a name")
        if isinstance(port.target_port, int) and not 1 <= port.target_port <= 65535:
            yield from wrong(f"{at}.targetPort", port.target_port, "must be between 1 and 65535, inclusive")
        elif isinstance(port.target_port, str):
            yield from wrong(f"{at}.targetPort", port.target_port, dns_label(port.target_port))
        if port.protocol != "TCP":
            yield warning(f"{at}.protocol", f"{port.protocol} does not go through the mesh")
    yield from duplicates("spec.ports", (port.name for port in spec.ports if port.name), "port name")
    yield from duplicates("spec.ports", (f"{port.port}/{port.protocol}" for port in spec.ports), "port")
    yield from plain_selector("spec.selector", spec.selector)


def secret(spec: SecretSpec) -> Iterator[Problem]:
    """The problems of a Secret by itself; its values are never told."""
    yield from _base64("data", spec.data)
    yield from _data("data", spec.data)
    if spec.type == TLS:
        for key in ("tls.crt", "tls.key"):
            if key not in spec.data:
                yield missing(path("data", [key]))


def changed(before: Model, after: Model) -> Iterator[Problem]:
    """What may not be changed: the type of a Secret, and what says of itself that it is immutable."""
    match before, after:
        case SecretSpec(), SecretSpec():
            if before.type != after.type:
                yield from wrong("type", after.type, "field is immutable")
            yield from _frozen(before, after, ("data",))
        case ConfigMapSpec(), ConfigMapSpec():
            yield from _frozen(before, after, ("data", "binary_data"))


def _frozen(
    before: SecretSpec | ConfigMapSpec, after: SecretSpec | ConfigMapSpec, names: Sequence[str]
) -> Iterator[Problem]:
    if not before.immutable:
        return
    differing = [name for name in names if dict(getattr(before, name)) != dict(getattr(after, name))]
    for name in (*([] if after.immutable else ["immutable"]), *differing):
        yield Problem(to_camel(name), "Forbidden: field is immutable when `immutable` is set")


def config_map(spec: ConfigMapSpec) -> Iterator[Problem]:
    """The problems of a ConfigMap by itself."""
    yield from _base64("binaryData", spec.binary_data)
    yield from _data("data", {**spec.data, **spec.binary_data})
    for key in sorted(spec.data.keys() & spec.binary_data.keys()):
        yield Problem("binaryData", f'Invalid value: "{key}": duplicate of key present in data')


def join_token(spec: JoinTokenSpec) -> Iterator[Problem]:
    """The problems of a JoinToken by itself."""
    yield from wrong("spec.group", spec.group, dns_subdomain(spec.group))
    if spec.ttl is not None and not 1 <= parse_duration(spec.ttl) <= _LONGEST_TTL_S:
        yield from wrong("spec.ttl", spec.ttl, "is not between 1s and 24h", "15m when left out")


def _data(field: str, value_by_key: Mapping[str, str]) -> Iterator[Problem]:
    for key in value_by_key:
        if not _DATA_KEY.fullmatch(key) or key in {".", ".."}:
            yield from wrong(field, key, "should be at most 253 letters, digits, '-', '_' and '.'")
    if sum(map(len, value_by_key.values())) > _LARGEST_DATA * 4 // 3:
        yield Problem(field, f"Too long: may not be more than {_LARGEST_DATA} bytes")


def _base64(field: str, value_by_key: Mapping[str, str]) -> Iterator[Problem]:
    for key, text in value_by_key.items():
        try:
            base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            yield Problem(
                path(field, [key]), "Invalid value: should be base64", "use stringData for plain text"
            )
