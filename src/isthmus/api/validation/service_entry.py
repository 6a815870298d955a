"""A ServiceEntry -> its problems."""

from collections.abc import Iterator, Mapping

from isthmus.api.meta import Problem
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.protocols import is_http, is_known, is_tcp, is_tls
from isthmus.api.rules import (
    conflict,
    duplicates,
    export_to,
    has,
    missing,
    port_name,
    warning,
    workload_selector,
    wrong,
)
from isthmus.api.syntax import fqdn, partial_wildcard, subnet, wildcard_domain
from isthmus.api.validation.workload import endpoint

_DNS = {"DNS", "DNS_ROUND_ROBIN"}
_DYNAMIC = {"http", "tls", "grpc", "http2"}
_WAYPOINT_LABEL = "istio.io/use-waypoint"
_ALLOCATE_LABEL = "networking.istio.io/enable-autoallocate-ip"


def service_entry(spec: ServiceEntrySpec, namespace: str, labels: Mapping[str, str]) -> Iterator[Problem]:
    """The problems of a ServiceEntry by itself."""
    yield from workload_selector("spec.workloadSelector", spec.workload_selector)
    if has(spec, "workload_selector") and has(spec, "endpoints"):
        text = "only one of WorkloadSelector or Endpoints can be set: only one is allowed in Service Entry"
        yield conflict("spec", text)
    yield from _hosts(spec)
    for index, text in enumerate(spec.addresses):
        yield from wrong(f"spec.addresses[{index}]", text, subnet(text))
    if any("/" in text for text in spec.addresses) and spec.resolution not in {"NONE", "STATIC"}:
        yield conflict("spec.addresses", "CIDR addresses are allowed only for NONE/STATIC resolution types")
    yield from _ports(spec)
    yield from _addresses(spec, labels)
    yield from _resolution(spec, labels)
    if spec.resolution != "NONE" and len(spec.hosts) > 1:
        if any(not is_http(port.protocol) and not is_tls(port.protocol) for port in spec.ports):
            text = "multiple hosts provided with non-HTTP, non-TLS ports"
            yield conflict("spec.hosts", text, "make a ServiceEntry for each host")
    yield from export_to("spec.exportTo", spec.export_to, namespace, hidden=True)


def _hosts(spec: ServiceEntrySpec) -> Iterator[Problem]:
    if not spec.hosts:
        yield missing("spec.hosts", "service entry must have at least one host")
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        if host == "*":
            yield from wrong(field, host, "hostname cannot be wildcard: invalid host")
            continue
        yield from wrong(field, host, wildcard_domain(host))
        if spec.resolution != "DYNAMIC_DNS" and (text := partial_wildcard(host)):
            yield warning(field, f'"{host}": {text}')


def _ports(spec: ServiceEntrySpec) -> Iterator[Problem]:
    for index, port in enumerate(spec.ports):
        at = f"spec.ports[{index}]"
        yield from port_name(f"{at}.name", port.name)
        if port.protocol and not is_known(port.protocol):
            yield from wrong(f"{at}.protocol", port.protocol, "unsupported protocol")
        if port.protocol.upper() == "UDP":
            yield warning(f"{at}.protocol", "UDP does not go through the mesh")
    names = (port.name for port in spec.ports)
    yield from duplicates("spec.ports", names, "service entry port name already defined")
    numbers = (port.number for port in spec.ports)
    text = "port number cannot be duplicated: service entry port already defined"
    yield from duplicates("spec.ports", numbers, text)


def _addresses(spec: ServiceEntrySpec, labels: Mapping[str, str]) -> Iterator[Problem]:
    allocated = spec.resolution != "NONE" and labels.get(_ALLOCATE_LABEL, "").lower() != "false"
    if spec.addresses or allocated:
        return
    for index, port in enumerate(spec.ports):
        if port.protocol in {"", "TCP"}:
            text = "addresses are required for ports serving TCP (or unset) protocol when none are allocated"
            yield warning(f"spec.ports[{index}]", text, "give addresses, or a resolution other than NONE")


def _resolution(spec: ServiceEntrySpec, labels: Mapping[str, str]) -> Iterator[Problem]:
    if spec.resolution == "NONE":
        if spec.endpoints:  # a list of none is let in, as by Istio's webhook
            text = "NONE mode cannot set endpoints: no endpoints should be provided for resolution type none"
            yield conflict("spec.endpoints", text, "set resolution to STATIC or DNS")
        if spec.workload_selector is not None:
            text = "workloadSelector should not be set when resolution mode is NONE"
            yield warning("spec.workloadSelector", text, "set resolution to STATIC")
    if spec.resolution == "DYNAMIC_DNS":
        yield from _dynamic_dns(spec, labels)
    names = {port.name for port in spec.ports}
    by_name = spec.resolution in _DNS
    for index, one in enumerate(spec.endpoints):
        at = f"spec.endpoints[{index}]"
        yield from endpoint(at, one, names_allowed=by_name, service_ports=names, sockets_allowed=not by_name)
    if by_name:
        yield from _dns(spec)


def _dns(spec: ServiceEntrySpec) -> Iterator[Problem]:
    for index, host in enumerate(() if spec.endpoints else spec.hosts):
        if fault := fqdn(host):
            text = (
                "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for "
                f"resolution mode {spec.resolution}: {fault}"
            )
            yield from wrong(f"spec.hosts[{index}]", host, text)
    if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        text = "DNS_ROUND_ROBIN mode cannot have multiple endpoints: there must only be 0 or 1 endpoint"
        yield conflict("spec.endpoints", text)
    if spec.addresses and len(spec.hosts) > 1 and any(is_tcp(port.protocol) for port in spec.ports):
        text = (
            "service entry can not have more than one host specified simultaneously with address and tcp port"
        )
        yield warning("spec.hosts", text)


def _dynamic_dns(spec: ServiceEntrySpec, labels: Mapping[str, str]) -> Iterator[Problem]:
    for index, host in enumerate(spec.hosts):
        if not host.startswith("*"):
            text = "host must be wildcarded for resolution mode DYNAMIC_DNS"
            yield from wrong(f"spec.hosts[{index}]", host, text)
    for field, given in (("addresses", spec.addresses), ("endpoints", spec.endpoints)):
        if given:
            yield conflict(f"spec.{field}", f"{field} cannot be set for resolution type DYNAMIC_DNS")
    for index, port in enumerate(spec.ports):
        if port.protocol.lower() not in _DYNAMIC:
            text = "only HTTP, TLS, GRPC, and HTTP2 protocols are supported for resolution type DYNAMIC_DNS"
            yield from wrong(f"spec.ports[{index}].protocol", port.protocol, text)
    waypoint = labels.get(_WAYPOINT_LABEL, "")
    if spec.location == "MESH_INTERNAL" and waypoint and waypoint.lower() != "none":
        text = "location MESH_INTERNAL with resolution type DYNAMIC_DNS is not supported when using waypoints"
        yield conflict("spec.location", text)
