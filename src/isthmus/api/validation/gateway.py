"""A Gateway -> its problems."""

from collections.abc import Iterator, Mapping

from isthmus.api.meta import Problem
from isthmus.api.networking.gateway import GatewaySpec, Server, ServerPort
from isthmus.api.protocols import is_http, is_known, is_tls
from isthmus.api.rules import conflict, duplicates, missing, warning, wrong
from isthmus.api.rules import port as port_number
from isthmus.api.syntax import address, istio_label, partial_wildcard, wildcard_domain
from isthmus.api.validation.server_tls import server_tls
from isthmus.api.validation.unix_socket import PREFIX, unix_socket

_SEMANTICS = "internal.istio.io/gateway-semantics"
"""Set on what Istio made from an object of the Gateway API; such a one may have a host for nobody, `~/…`."""


def gateway(spec: GatewaySpec, name: str, annotations: Mapping[str, str]) -> Iterator[Problem]:
    """The problems of a Gateway by itself."""
    converted = annotations.get(_SEMANTICS) == "gateway"
    if istio_label(name) and not converted:
        yield from wrong("metadata.name", name, f"invalid gateway name: {istio_label(name)}")
    if not spec.servers:
        yield missing("spec.servers", "gateway must have at least one server")
    for index, server in enumerate(spec.servers):
        yield from _server(f"spec.servers[{index}]", server, converted=converted)
    names = [server.port.name for server in spec.servers if server.port is not None]
    yield from duplicates("spec.servers", names, "port names in servers must be unique: duplicate name")


def host(field: str, text: str, *, gateway: bool) -> Iterator[Problem]:
    """A host of a Gateway (`dnsName` or `namespace/dnsName`) or of a Sidecar (the latter)."""
    namespace, slash, name = text.partition("/")
    if not slash:
        if not gateway:
            yield from wrong(field, text, "host must be of form namespace/dnsName")
            return
        name = text
    elif not namespace or not name:
        yield from wrong(field, text, "config namespace and dnsName in host entry cannot be empty")
    plain = namespace if gateway else namespace.removeprefix("~")
    if slash and plain not in {"", "*", "."} and istio_label(plain):
        where = "gateway" if gateway else "sidecar"
        yield from wrong(field, text, f'invalid namespace value "{namespace}" in {where}')
    if name != "*" and "." not in name:
        yield from wrong(field, text, "short names (non FQDN) are not allowed")
    if not gateway or address(name):
        yield from wrong(field, text, wildcard_domain(name))
    yield from wrong(field, text, partial_wildcard(name))


def _server(at: str, server: Server, *, converted: bool) -> Iterator[Problem]:
    if not server.hosts:
        yield missing(f"{at}.hosts", "server config must contain at least one host")
    for index, text in enumerate(server.hosts):
        if not (converted and text.startswith("~/")):
            yield from host(f"{at}.hosts[{index}]", text, gateway=True)
    yield from _port(f"{at}.port", server.port, server.bind)
    yield from _bind(at, server)
    if server.tls is not None:
        yield from server_tls(f"{at}.tls", server.tls)
    if server.port is not None and is_known(server.port.protocol):
        yield from _tls_of_protocol(at, server, server.port.protocol)


def _port(at: str, port: ServerPort | None, bind: str) -> Iterator[Problem]:
    if port is None:
        yield missing(at, "port is required")
        return
    if not is_known(port.protocol):
        known = "HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP, TLS"
        text = f"invalid protocol: supported protocols are {known}"
        yield from wrong(f"{at}.protocol", port.protocol, text)
    if port.number > 0 or not bind.startswith(PREFIX):
        yield from port_number(f"{at}.number", port.number)
    if port.target_port:
        yield from wrong(f"{at}.targetPort", port.target_port, "targetPort has no impact on Gateways")
    if not port.name:
        yield missing(f"{at}.name", "port name must be set")


def _bind(at: str, server: Server) -> Iterator[Problem]:
    if server.bind.startswith(PREFIX):
        yield from unix_socket(f"{at}.bind", server.bind)
        if server.port is not None and server.port.number:
            text = "port number must be 0 for unix domain socket"
            yield from wrong(f"{at}.port.number", server.port.number, text)
    elif server.bind:
        yield from wrong(f"{at}.bind", server.bind, address(server.bind))


def _tls_of_protocol(at: str, server: Server, protocol: str) -> Iterator[Problem]:
    tls = server.tls
    if tls is None:
        if is_tls(protocol):
            yield missing(f"{at}.tls", "server must have TLS settings for HTTPS/TLS protocols")
        return
    if is_http(protocol):
        passed_on = tls.mode in {"PASSTHROUGH", "AUTO_PASSTHROUGH"}
        if not passed_on or tls.ca_certificates or tls.private_key or tls.server_certificate:
            yield conflict(f"{at}.tls", "server cannot have TLS settings for plain text HTTP ports")
    elif not is_tls(protocol):
        yield conflict(f"{at}.tls", "server cannot have TLS settings for non HTTPS/TLS ports")
    if tls.https_redirect and not is_http(protocol):
        yield warning(f"{at}.tls.httpsRedirect", "tls.httpsRedirect should only be used with http servers")
