"""A Sidecar -> its problems."""

from collections.abc import Iterator, Sequence

from isthmus.api.meta import Problem
from isthmus.api.networking.gateway import ServerTLSSettings
from isthmus.api.networking.sidecar import (
    IstioEgressListener,
    IstioIngressListener,
    OutboundTrafficPolicy,
    SidecarPort,
    SidecarSpec,
)
from isthmus.api.protocols import is_http, is_known, is_tls
from isthmus.api.rules import conflict, duplicates, has, missing, port_name, warning, workload_selector, wrong
from isthmus.api.rules import port as port_number
from isthmus.api.syntax import address, fqdn
from isthmus.api.validation.connection_pool import connection_pool
from isthmus.api.validation.destination import destination
from isthmus.api.validation.gateway import host
from isthmus.api.validation.server_tls import server_tls
from isthmus.api.validation.unix_socket import PREFIX, unix_socket

_LOCAL = {"", "127.0.0.1", "0.0.0.0", "::1", "::"}


def sidecar(spec: SidecarSpec, namespace: str) -> Iterator[Problem]:
    """The problems of a Sidecar by itself."""
    yield from workload_selector("spec.workloadSelector", spec.workload_selector)
    set_at_all = has(spec, "outbound_traffic_policy", "inbound_connection_pool")
    if not spec.egress and not spec.ingress and not set_at_all:
        yield missing("spec", "sidecar: empty configuration provided")
    for index, ingress in enumerate(spec.ingress):
        yield from _ingress(f"spec.ingress[{index}]", ingress)
    numbers = [listener.port.number for listener in spec.ingress if listener.port is not None]
    yield from duplicates("spec.ingress", numbers, "sidecar: ports on IP bound listeners must be unique")
    if spec.inbound_connection_pool is not None:
        yield from connection_pool("spec.inboundConnectionPool", spec.inbound_connection_pool)
    for index, egress in enumerate(spec.egress):
        yield from _egress(f"spec.egress[{index}]", egress, namespace)
    yield from _egress_ports(spec.egress)
    if spec.outbound_traffic_policy is not None:
        yield from _outbound("spec.outboundTrafficPolicy", spec.outbound_traffic_policy)


def _ingress(at: str, listener: IstioIngressListener) -> Iterator[Problem]:
    port = listener.port
    if port is None:
        yield missing(f"{at}.port", "sidecar: port is required for ingress listeners")
    else:
        yield from _port(f"{at}.port", port)
        yield from port_number(f"{at}.port.number", port.number)
    if listener.bind:
        yield from wrong(f"{at}.bind", listener.bind, address(listener.bind))
    if listener.default_endpoint:
        yield from _default_endpoint(f"{at}.defaultEndpoint", listener.default_endpoint)
    if listener.tls is not None:
        yield from _ingress_tls(f"{at}.tls", listener.tls, port)
    if listener.connection_pool is not None:
        yield from connection_pool(f"{at}.connectionPool", listener.connection_pool)
        if port and listener.connection_pool.http is not None and not is_http(port.protocol):
            text = (
                f"sidecar: HTTP connection pool settings are configured for port {port.number} "
                f"but its protocol is not HTTP ({port.protocol}); only TCP settings will apply"
            )
            yield warning(f"{at}.connectionPool.http", text)


def _port(at: str, port: SidecarPort) -> Iterator[Problem]:
    if port.target_port:
        yield from wrong(f"{at}.targetPort", port.target_port, "targetPort has no impact on Sidecars")
    if port.name:
        yield from port_name(f"{at}.name", port.name)
    if port.protocol and not is_known(port.protocol):
        yield from wrong(f"{at}.protocol", port.protocol, "unsupported protocol")


def _default_endpoint(field: str, endpoint: str) -> Iterator[Problem]:
    if endpoint.startswith(PREFIX):
        yield from unix_socket(field, endpoint)
        return
    name, colon, port = endpoint.rpartition(":")
    plain = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if not colon or (":" in plain and plain == name) or plain not in _LOCAL:
        text = (
            "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, "
            "[::]:<port>, unix://filepath or unset"
        )
        yield from wrong(field, endpoint, text)
    if not (port.isascii() and port.isdigit()):
        yield from wrong(field, endpoint, f"sidecar: defaultEndpoint port ({port}) is not a number")
    else:
        yield from port_number(field, int(port[:6]))


def _ingress_tls(at: str, tls: ServerTLSSettings, port: SidecarPort | None) -> Iterator[Problem]:
    unsupported = {
        "subjectAltNames": ("subjectAltNames is not supported in ingress tls", tls.subject_alt_names),
        "httpsRedirect": ("httpsRedirect is not supported", tls.https_redirect),
        "credentialName": ("credentialName is not currently supported", tls.credential_name),
        "credentialNames": ("credentialNames is not currently supported", tls.credential_names),
        "tlsCertificates": ("tls_certificates is not currently supported", tls.tls_certificates),
    }
    for field, (text, value) in unsupported.items():
        if value:
            yield conflict(f"{at}.{field}", f"sidecar: {text}")
    if tls.mode in {"ISTIO_MUTUAL", "AUTO_PASSTHROUGH"}:
        text = f"configuration is invalid: cannot set mode to {tls.mode} in sidecar ingress tls"
        yield from wrong(f"{at}.mode", tls.mode, text)
    if port is not None and not is_tls(port.protocol):
        yield conflict(at, "server cannot have TLS settings for non HTTPS/TLS ports")
    yield from server_tls(at, tls)


def _egress(at: str, listener: IstioEgressListener, namespace: str) -> Iterator[Problem]:
    if listener.port is not None:
        yield from _egress_port(at, listener, listener.port)
    if not listener.hosts:
        yield missing(f"{at}.hosts", "sidecar: egress listener must contain at least one host")
    services: dict[str, set[str]] = {}
    for index, text in enumerate(listener.hosts):
        field = f"{at}.hosts[{index}]"
        yield from host(field, text, gateway=False)
        home, slash, name = text.partition("/")
        if not slash or home.startswith("~"):
            continue
        known = services.setdefault(namespace if home == "." else home, set())
        if known if name == "*" else known & {name, "*"}:
            yield warning(field, f"duplicated egress host: {text}")
        known.add(name)
    if "*" in services.get("*", ()) and len(services) != 1:
        yield warning(f"{at}.hosts", "`*/*` host select all resources, no other hosts can be added")


def _egress_port(at: str, listener: IstioEgressListener, port: SidecarPort) -> Iterator[Problem]:
    yield from _port(f"{at}.port", port)
    if port.number:
        yield from port_number(f"{at}.port.number", port.number)
        if listener.bind:
            yield from wrong(f"{at}.bind", listener.bind, address(listener.bind))
        return
    if listener.bind.startswith(PREFIX):
        yield from unix_socket(f"{at}.bind", listener.bind)
    else:
        text = "sidecar: ports with 0 value must have a unix domain socket bind address"
        yield from wrong(f"{at}.bind", listener.bind, text)
    if listener.capture_mode == "IPTABLES":
        text = "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners"
        yield from wrong(f"{at}.captureMode", listener.capture_mode, text)


def _egress_ports(listeners: Sequence[IstioEgressListener]) -> Iterator[Problem]:
    last = len(listeners) - 1
    for index, listener in enumerate(listeners):
        if listener.port is None and index != last:
            text = "sidecar: the egress listener with empty port should be the last listener in the list"
            yield conflict(f"spec.egress[{index}]", f"{text}, and there can be only one")
    ports = [listener.port.number for listener in listeners if listener.port and listener.port.number]
    yield from duplicates("spec.egress", ports, "sidecar: ports on IP bound listeners must be unique")
    sockets = [listener.bind for listener in listeners if listener.port and not listener.port.number]
    text = "sidecar: unix domain socket values for listeners must be unique"
    yield from duplicates("spec.egress", sockets, text)


def _outbound(at: str, policy: OutboundTrafficPolicy) -> Iterator[Problem]:
    proxy = policy.egress_proxy
    if proxy is None:
        return
    if policy.mode != "ALLOW_ANY":
        text = "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode"
        yield conflict(f"{at}.egressProxy", text)
    yield from wrong(f"{at}.egressProxy.host", proxy.host, fqdn(proxy.host))
    if proxy.port is None:
        yield missing(f"{at}.egressProxy.port", "sidecar: egress_proxy port must be non-nil")
    if not fqdn(proxy.host):
        yield from destination(f"{at}.egressProxy", proxy)
