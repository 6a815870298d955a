"""The words of objects -> the protocol of a port: appProtocol, a port's name, a declared protocol.

What nobody names is found out from the first bytes (AUTO), except on the ports of well-known servers that
speak first: waiting for the caller's bytes there would wait for ever.
https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/
"""

from isthmus.mesh.model import Protocol

SERVER_FIRST_PORTS = frozenset({25, 53, 3306, 27017})
"""SMTP, DNS, MySQL, MongoDB."""

_WORDS = {
    protocol.value: protocol for protocol in Protocol if protocol not in {Protocol.AUTO, Protocol.GRPC_WEB}
}
_KUBERNETES_WORDS = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}


def parse(word: str) -> Protocol:
    """The protocol of this name; AUTO when nothing is called so."""
    word = word.lower()
    return Protocol.GRPC_WEB if word == "grpc-web" else _WORDS.get(word, Protocol.AUTO)


def of_port(number: int, name: str, app_protocol: str | None = None, transport: str = "TCP") -> Protocol:
    """The protocol of a Service's port; its name counts up to the first `-` (`http-web`)."""
    if transport.upper() == "UDP":
        return Protocol.UDP
    known = _KUBERNETES_WORDS.get((app_protocol or "").lower())
    if known:
        return known
    word = (name if app_protocol is None else app_protocol).lower()
    found = Protocol.GRPC_WEB if word.startswith("grpc-web") else parse(word.partition("-")[0])
    return Protocol.TCP if found is Protocol.AUTO and number in SERVER_FIRST_PORTS else found


def spoken(number: int, word: str) -> Protocol:
    """The protocol of a port of which one word is known: an appProtocol, a name or a protocol."""
    return of_port(number, word, word)
