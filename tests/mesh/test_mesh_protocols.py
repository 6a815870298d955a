"""What a port speaks, from the words of its objects."""

import pytest

from isthmus.mesh.model import Protocol
from isthmus.mesh.protocols import of_port, parse


@pytest.mark.parametrize(
    ("number", "name", "app_protocol", "protocol"),
    [
        (80, "http", None, Protocol.HTTP),
        (80, "http-web", None, Protocol.HTTP),
        (80, "HTTP2-x", None, Protocol.HTTP2),
        (80, "grpc-web-x", None, Protocol.GRPC_WEB),
        (80, "grpc", None, Protocol.GRPC),
        (80, "https", None, Protocol.HTTPS),
        (80, "tls-x", None, Protocol.TLS),
        (80, "mysql", None, Protocol.MYSQL),
        (80, "web", None, Protocol.AUTO),
        (80, "", None, Protocol.AUTO),
        (80, "http", "tcp", Protocol.TCP),
        (80, "http", "something-else", Protocol.AUTO),
        (80, "", "kubernetes.io/h2c", Protocol.HTTP2),
        (80, "", "kubernetes.io/ws", Protocol.HTTP),
        (80, "", "kubernetes.io/wss", Protocol.HTTPS),
        (3306, "db", None, Protocol.TCP),
        (25, "", None, Protocol.TCP),
        (53, "dns", None, Protocol.TCP),
        (27017, "x", "y", Protocol.TCP),
        (3306, "http", None, Protocol.HTTP),
    ],
)
def test_words(number: int, name: str, app_protocol: str | None, protocol: Protocol) -> None:
    assert of_port(number, name, app_protocol) is protocol


def test_udp_is_left_alone() -> None:
    assert of_port(80, "http", None, "UDP") is Protocol.UDP


def test_what_nobody_is_called_is_found_out() -> None:
    assert parse("HTTP_PROXY") is Protocol.HTTP_PROXY
    assert parse("auto") is Protocol.AUTO
    assert parse("ftp") is Protocol.AUTO
