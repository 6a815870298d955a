"""WorkloadEntry, and WorkloadGroup with its probe -> their problems."""

from collections.abc import Collection, Iterator, Mapping

from isthmus.api.capture import capture_problems
from isthmus.api.meta import Problem
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import ReadinessProbe, WorkloadGroupSpec
from isthmus.api.rules import conflict, has, listed, missing, port, short, tags, warning, wrong
from isthmus.api.syntax import address, fqdn, istio_label, label_key
from isthmus.api.validation.unix_socket import PREFIX, unix_socket


def workload_entry(spec: WorkloadEntrySpec, annotations: Mapping[str, str]) -> Iterator[Problem]:
    """The problems of a WorkloadEntry by itself."""
    yield from capture_problems("metadata.annotations", annotations)
    yield from endpoint("spec", spec, names_allowed=True)


def workload_group(spec: WorkloadGroupSpec) -> Iterator[Problem]:
    """The problems of a WorkloadGroup by itself."""
    if spec.metadata:
        yield from tags("spec.metadata.labels", spec.metadata.labels)
        for key in spec.metadata.annotations:
            yield from wrong("spec.metadata.annotations", key, label_key(key.lower()))
        yield from capture_problems("spec.metadata.annotations", spec.metadata.annotations)
    template = spec.template
    if template.address:
        yield warning("spec.template.address", "is not used: each workload brings its own", "leave it out")
        yield from _unix("spec.template", template)
    for name in template.ports:
        yield from _port_key("spec.template.ports", name)
    yield from tags("spec.template.labels", template.labels)
    if spec.probe is not None:
        yield from _probe("spec.probe", spec.probe)


def endpoint(
    at: str,
    spec: WorkloadEntrySpec,
    *,
    names_allowed: bool,
    service_ports: Collection[str] | None = None,
    sockets_allowed: bool = True,
) -> Iterator[Problem]:
    """A workload, or one of a service's endpoints: then its ports must be among the service's."""
    yield from _address(at, spec, names_allowed=names_allowed, sockets_allowed=sockets_allowed)
    for name in spec.ports:
        if service_ports is not None and name not in service_ports:
            known = f"ports are {listed(service_ports)}" if service_ports else ""
            text = f'endpoint port "{short(name)}" is not defined by the service entry'
            yield from wrong(f"{at}.ports", name, text, known)
        yield from _port_key(f"{at}.ports", name)
    yield from tags(f"{at}.labels", spec.labels)
    if spec.address.startswith(PREFIX) and service_ports is not None and len(service_ports) != 1:
        yield conflict(at, "exactly 1 service port required for unix endpoints")


def _address(
    at: str, spec: WorkloadEntrySpec, *, names_allowed: bool, sockets_allowed: bool
) -> Iterator[Problem]:
    text = spec.address
    if not text:
        if not spec.network:
            yield missing(f"{at}.address", "Address is required")
        elif sockets_allowed:
            yield warning(f"{at}.address", f'address is unset with network "{spec.network}"')
        else:
            yield missing(f"{at}.address", "endpoint address is not a valid FQDN or an IP address")
    elif text.startswith(PREFIX) and sockets_allowed:
        yield from _unix(at, spec)
    elif address(text):
        if not names_allowed:
            hint = "for a DNS name set resolution to DNS"
            yield from wrong(f"{at}.address", text, "endpoint address is not a valid IP address", hint)
        elif fqdn(text):
            yield from wrong(f"{at}.address", text, "endpoint address is not a valid FQDN or an IP address")


def _unix(at: str, spec: WorkloadEntrySpec) -> Iterator[Problem]:
    if not spec.address.startswith(PREFIX):
        return
    yield from unix_socket(f"{at}.address", spec.address)
    if has(spec, "ports"):
        yield conflict(at, "UDS may not include ports: unix endpoint must not include ports")


def _port_key(at: str, name: str) -> Iterator[Problem]:
    if istio_label(name) or len(name) > 62:
        yield from wrong(at, name, f"port name must be valid: invalid port name: {istio_label(name)}")


def _probe(at: str, probe: ReadinessProbe) -> Iterator[Problem]:
    methods = [
        name
        for name, given in (
            ("httpGet", probe.http_get),
            ("tcpSocket", probe.tcp_socket),
            ("exec", probe.exec),
            ("grpc", probe.grpc),
        )
        if given is not None
    ]
    if not methods:
        yield missing(at, "unknown health check method: give httpGet, tcpSocket, exec or grpc")
    if len(methods) > 1:
        yield conflict(at, f"only one of {' and '.join(methods)} can be set")
    if probe.http_get is not None:
        yield from port(f"{at}.httpGet.port", probe.http_get.port)
        if probe.http_get.scheme not in {"", "HTTP", "HTTPS"}:
            text = "scheme must be one of [HTTP, HTTPS]"
            yield from wrong(f"{at}.httpGet.scheme", probe.http_get.scheme, text)
        for index, header in enumerate(probe.http_get.http_headers):
            if not header.name or "_" in header.name:
                text = "header name is not a valid header name: letters, digits and '-'"
                yield from wrong(f"{at}.httpGet.httpHeaders[{index}].name", header.name, text)
    if probe.tcp_socket is not None:
        yield from port(f"{at}.tcpSocket.port", probe.tcp_socket.port)
    if probe.exec is not None and not probe.exec.command:
        yield missing(f"{at}.exec.command", "exec.command is required")
    if probe.grpc is not None:
        yield from _grpc_port(at, probe)


def _grpc_port(at: str, probe: ReadinessProbe) -> Iterator[Problem]:
    if probe.grpc is not None and probe.grpc.port is None:
        yield missing(f"{at}.grpc.port", "a gRPC probe needs a port")
