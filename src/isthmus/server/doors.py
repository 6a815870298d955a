"""The doors of the control plane: sockets, certificates and the servers behind them.

HTTPS   API and enrolment        uvicorn; a client's certificate is asked for, none is needed
mTLS    configuration, renewal   gRPC; no one comes in without a certificate of the mesh
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import uvicorn

from isthmus.identity.serving import ServingIdentity
from isthmus.server.connections import ApiServer
from isthmus.server.paths import Paths
from isthmus.server.people_tls import for_people
from isthmus.server.users import Users
from isthmus.xds.stream import SERVER_OPTIONS


class Refusal(Exception):
    """The control plane cannot start as asked; the message says why and what to try."""


def listening(bind: str, port: int, option: str) -> socket.socket:
    """A listening TCP socket; `::` takes both families where the machine has IPv6."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server(
            (bind, port),
            family=family,
            backlog=1024,
            dualstack_ipv6=bind == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise not_listening(option, port, bind, error) from error


def not_listening(option: str, port: int, bind: str, error: OSError) -> Refusal:
    """Why a door cannot be opened at its port, and what to do."""
    advice = {
        errno.EADDRINUSE: f"stop what listens there (`ss -ltnp sport = :{port}` names it), or choose another "
        f"port with {option}",
        errno.EADDRNOTAVAIL: "give with --bind an address of this machine",
    }.get(error.errno or 0, f"choose another port with {option}")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Refusal(f"cannot listen on port {port} of {bind} ({option}): {reason}; {advice}")


def ads_server(
    bind: str,
    port: int,
    identity: ServingIdentity,
    handlers: Sequence["grpc.GenericRpcHandler[Any, Any]"],
) -> tuple[grpc.aio.Server, int]:
    """The server of the mTLS door, bound and not yet started, and its port."""
    server = grpc.aio.server(options=[*SERVER_OPTIONS])
    server.add_generic_rpc_handlers(handlers)
    configuration, fetch = _door_credentials(identity)
    credentials = grpc.dynamic_ssl_server_credentials(
        configuration, fetch, require_client_authentication=True
    )
    address = f"[{bind}]" if ":" in bind else bind
    # gRPC does not say why it cannot listen
    listening(bind, port, "--ads-port").close()
    try:
        return server, server.add_secure_port(f"{address}:{port}", credentials)
    except RuntimeError as error:
        raise Refusal(f"--ads-port {port}: cannot listen: {error}") from error


def _door_credentials(
    identity: ServingIdentity,
) -> tuple[grpc.ServerCertificateConfiguration, Callable[[], grpc.ServerCertificateConfiguration]]:
    """The door's certificate, and what gRPC asks for at each handshake: the present one."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        key = identity.key_path.read_bytes()
        return grpc.ssl_server_certificate_configuration(
            [(key, identity.chain.encode())], root_certificates=identity.roots.encode()
        )

    shown = identity.chain, configuration()

    def fetch() -> grpc.ServerCertificateConfiguration:
        nonlocal shown
        if identity.chain != shown[0]:
            shown = identity.chain, configuration()
        return shown[1]

    return shown[1], fetch


def api_server(app: Paths, identity: ServingIdentity, users: Users) -> ApiServer:
    """The server of the HTTPS door."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=1,
    )
    config.load()
    for_people(config, identity.server_context(alpn=["http/1.1"], clients=False), users)
    return ApiServer(config)
