"""Service, ServiceEntry, WorkloadEntry, WorkloadGroup and JoinToken -> their problems."""

from collections.abc import Collection, Iterator

from isthmus.api.core import ServiceSpec
from isthmus.api.duration import parse_duration
from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Problem
from isthmus.api.networking.service_entry import ServiceEntryPort, ServiceEntrySpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import WorkloadGroupSpec
from isthmus.api.rules import duplicates, export_to, labels, selector, warning, wrong
from isthmus.api.syntax import address, dns_label, dns_subdomain, fqdn, host, label_key, subnet

_HTTP = {"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"}
_TLS = {"HTTPS", "TLS"}
_PROTOCOLS = _HTTP | _TLS | {"TCP", "MONGO", "REDIS", "MYSQL", "UDP"}
_LONGEST_TTL_S = 24 * 3600.0


def service(spec: ServiceSpec) -> Iterator[Problem]:
    """The problems of a Service by itself."""
    headless = spec.cluster_ip == "None"
    if not spec.ports and not headless:
        yield Problem("spec.ports", "required field is missing", "give at least one port")
    if spec.cluster_ip and not headless:
        yield from wrong("spec.clusterIP", spec.cluster_ip, address(spec.cluster_ip))
    for index, ip in enumerate(spec.cluster_ips):
        if not (headless and ip == "None"):
            yield from wrong(f"spec.clusterIPs[{index}]", ip, address(ip))
    if spec.cluster_ips and spec.cluster_ip != spec.cluster_ips[0]:
        yield Problem("spec.clusterIPs", "first value should be the same as spec.clusterIP")
    for index, port in enumerate(spec.ports):
        at = f"spec.ports[{index}]"
        if port.name:
            yield from wrong(f"{at}.name", port.name, dns_label(port.name))
        elif len(spec.ports) > 1:
            yield Problem(f"{at}.name", "required field is missing", "each of several ports needs a name")
        if isinstance(port.target_port, int) and not 1 <= port.target_port <= 65535:
            yield Problem(f"{at}.targetPort", f"{port.target_port} is not in the range 1 to 65535")
        elif isinstance(port.target_port, str):
            yield from wrong(f"{at}.targetPort", port.target_port, dns_label(port.target_port))
        if port.protocol != "TCP":
            yield warning(f"{at}.protocol", f"{port.protocol} does not go through the mesh")
    yield from duplicates("spec.ports", (port.name for port in spec.ports if port.name), "name")
    yield from duplicates("spec.ports", (f"{port.port}/{port.protocol}" for port in spec.ports), "port")
    yield from selector("spec.selector", spec.selector)


def service_entry(spec: ServiceEntrySpec) -> Iterator[Problem]:
    """The problems of a ServiceEntry by itself."""
    if not spec.hosts:
        yield Problem("spec.hosts", "required field is missing", "service entry must have at least one host")
    for index, name in enumerate(spec.hosts):
        yield from wrong(
            f"spec.hosts[{index}]", name, "cannot be the whole name" if name == "*" else host(name)
        )
    yield from duplicates("spec.hosts", (name.lower() for name in spec.hosts), "host")
    for index, ip in enumerate(spec.addresses):
        yield from wrong(f"spec.addresses[{index}]", ip, subnet(ip))
    if any("/" in ip for ip in spec.addresses) and spec.resolution == "DNS":
        yield Problem("spec.addresses", "CIDR addresses are allowed only for NONE/STATIC resolution types")
    yield from _service_entry_ports(spec)
    yield from _endpoints(spec)
    if spec.workload_selector is not None:
        yield from _workload_selector(spec)
    yield from export_to("spec.exportTo", spec.export_to)


def workload_entry(spec: WorkloadEntrySpec) -> Iterator[Problem]:
    """The problems of a WorkloadEntry by itself."""
    yield from _workload("spec", spec, resolved=False)


def workload_group(spec: WorkloadGroupSpec) -> Iterator[Problem]:
    """The problems of a WorkloadGroup by itself."""
    if spec.metadata:
        yield from labels("spec.metadata.labels", spec.metadata.labels)
        for key in spec.metadata.annotations:
            yield from wrong("spec.metadata.annotations", key, label_key(key))
    template = spec.template
    if template.address:
        yield warning("spec.template.address", "is not used: each workload brings its own", "leave it out")
    yield from _workload_rest("spec.template", template)


def join_token(spec: JoinTokenSpec) -> Iterator[Problem]:
    """The problems of a JoinToken by itself."""
    yield from wrong("spec.group", spec.group, dns_subdomain(spec.group))
    if spec.ttl is not None and not 1 <= parse_duration(spec.ttl) <= _LONGEST_TTL_S:
        yield Problem("spec.ttl", f'"{spec.ttl}" is not between 1s and 24h', "15m when left out")


def _service_entry_ports(spec: ServiceEntrySpec) -> Iterator[Problem]:
    for index, port in enumerate(spec.ports):
        at = f"spec.ports[{index}]"
        yield from wrong(f"{at}.name", port.name, dns_label(port.name))
        if port.protocol and port.protocol.upper() not in _PROTOCOLS:
            known = ", ".join(sorted(_PROTOCOLS))
            yield Problem(
                f"{at}.protocol", f'"{port.protocol}" is no protocol that is known', f"one of {known}"
            )
        if port.protocol.upper() == "UDP":
            yield warning(f"{at}.protocol", "UDP does not go through the mesh")
    yield from duplicates("spec.ports", (port.name for port in spec.ports), "name")
    yield from duplicates("spec.ports", (port.number for port in spec.ports), "port")
    if len(spec.hosts) > 1 and spec.resolution != "NONE" and not all(map(_tells_hosts_apart, spec.ports)):
        text = "multiple hosts provided with non-HTTP, non-TLS ports: nothing in TCP tells them apart"
        yield Problem("spec.hosts", text, "make a ServiceEntry for each host")


def _tells_hosts_apart(port: ServiceEntryPort) -> bool:
    return port.protocol.upper() in _HTTP | _TLS


def _endpoints(spec: ServiceEntrySpec) -> Iterator[Problem]:
    if spec.endpoints and spec.workload_selector is not None:
        yield Problem("spec", "has endpoints and workloadSelector", "only one of both is allowed")
    if spec.endpoints and spec.resolution == "NONE":
        text = "no endpoints should be provided for resolution type NONE"
        yield Problem("spec.endpoints", text, "set resolution to STATIC or DNS")
    names = {port.name for port in spec.ports}
    for index, endpoint in enumerate(spec.endpoints):
        at = f"spec.endpoints[{index}]"
        yield from _workload(at, endpoint, resolved=spec.resolution == "STATIC", service_ports=names)
    if spec.resolution == "DNS" and not spec.endpoints and spec.workload_selector is None:
        for index, name in enumerate(spec.hosts):
            hint = "with a wildcard, give endpoints"
            yield from wrong(f"spec.hosts[{index}]", name, fqdn(name) and "cannot be looked up in DNS", hint)


def _workload_selector(spec: ServiceEntrySpec) -> Iterator[Problem]:
    wanted = spec.workload_selector.labels if spec.workload_selector else {}
    yield from selector("spec.workloadSelector.labels", wanted)
    if not wanted:
        yield warning("spec.workloadSelector", "has no labels: it selects every workload of the namespace")
    if spec.resolution == "NONE":
        text = "is not used with resolution NONE: traffic goes to the address that the caller used"
        yield warning("spec.workloadSelector", text, "set resolution to STATIC")


def _workload(
    at: str, spec: WorkloadEntrySpec, *, resolved: bool, service_ports: Collection[str] | None = None
) -> Iterator[Problem]:
    if not spec.address and not spec.network:
        yield Problem(f"{at}.address", "required field is missing")
    elif not spec.address:
        yield warning(
            f"{at}.address", f'is unset with network "{spec.network}": only a gateway could reach it'
        )
    elif spec.address.startswith("unix:"):
        yield Problem(f"{at}.address", f'"{spec.address}": unix sockets are not served', "give an IP address")
    elif address(spec.address):
        if resolved:
            hint = "for a DNS name set resolution to DNS"
            yield Problem(f"{at}.address", f'"{spec.address}" is not a valid IP address', hint)
        elif fqdn(spec.address):
            yield Problem(f"{at}.address", f'"{spec.address}" is not a valid FQDN or an IP address')
    yield from _workload_rest(at, spec)
    if service_ports is not None:
        for name in spec.ports:
            if name not in service_ports:
                known = f"ports are {', '.join(sorted(service_ports))}" if service_ports else ""
                yield Problem(
                    f"{at}.ports", f'endpoint port "{name}" is not defined by the service entry', known
                )


def _workload_rest(at: str, spec: WorkloadEntrySpec) -> Iterator[Problem]:
    for name in spec.ports:
        yield from wrong(f"{at}.ports", name, dns_label(name))
    yield from labels(f"{at}.labels", spec.labels)
    if spec.service_account:
        yield from wrong(f"{at}.serviceAccount", spec.service_account, dns_subdomain(spec.service_account))
