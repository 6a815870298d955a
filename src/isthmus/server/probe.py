"""A request that came through the mesh -> who the mesh says sent it.

    GET http://isthmus.isthmus-system.svc.cluster.local/<nonce>  ─▶ the VM's Envoy ─▶ mTLS ─▶ here
    {"you": "<SPIFFE id>", "workload": "<WorkloadEntry>", "nonce": "/<nonce>"}

It is the target of an agent's outbound proof: the answer tells which identity arrived.

HTTP/1.1 with kept connections, no bodies, and nothing behind it: all that can be asked is "who am I".
"""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from cryptography import x509

from isthmus.identity.peer import Peer, certificate_identity
from isthmus.identity.serving import ServingIdentity

_log = logging.getLogger(__name__)

ALPN = ("istio-http/1.1", "istio", "http/1.1")
"""What sidecars offer to an HTTP/1.1 upstream, theirs or anyone's."""
MAX_HEAD = 16 * 1024
MAX_CONNECTIONS = 1024
_IDLE_S = 300.0
_HANDSHAKE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    stays: bool
    """Whether the connection is kept for another request."""


@contextlib.asynccontextmanager
async def probe_listener(
    serving: ServingIdentity, *, hosts: Sequence[str] | None = None, port: int = 0
) -> AsyncIterator[int]:
    """Answers while the context is open, on every address unless `hosts` are given. Yields the port."""
    trust_domain = serving.spiffe.trust_domain
    open_: set[asyncio.StreamWriter] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(open_) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        open_.add(writer)
        try:
            peer = certificate_identity(_certificate(writer), trust_domain)
            await _converse(reader, writer, peer)
        except ValueError as error:
            _log.info("probe refused peer=%s: %s", writer.get_extra_info("peername"), error)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client went away or fell silent: nothing to answer
        finally:
            open_.discard(writer)
            writer.close()

    server = await asyncio.start_server(
        accepted,
        hosts,
        port,
        ssl=serving.server_context(alpn=ALPN, clients=True),
        limit=MAX_HEAD,
        ssl_handshake_timeout=_HANDSHAKE_S,
    )
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in list(open_):
                writer.transport.abort()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
    """Answers requests until the client is done or breaks the form."""
    stays = True
    while stays:
        try:
            async with asyncio.timeout(_IDLE_S):
                head = await reader.readuntil(b"\r\n\r\n")
            request = parse_head(head)
        except (asyncio.LimitOverrunError, ValueError) as error:
            writer.write(_response(HTTPStatus.BAD_REQUEST, {"error": str(error)}, stays=False))
            await writer.drain()
            return
        stays = request.stays
        if request.method not in {"GET", "HEAD"}:
            answer = {"error": "only GET is answered"}
            writer.write(_response(HTTPStatus.METHOD_NOT_ALLOWED, answer, stays=stays))
        else:
            answer = {"you": str(peer.spiffe), "workload": peer.workload, "nonce": request.path}
            whole = _response(HTTPStatus.OK, answer, stays=stays)
            writer.write(whole if request.method == "GET" else whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        await writer.drain()


def parse_head(head: bytes) -> _Request:
    """The request that a head spells; ValueError for one that is not HTTP/1.x, or announces a body."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"} or not words[1].startswith("/"):
        raise ValueError("this is not an HTTP/1.1 request for a path")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError("a header line has no name")
        headers[name.lower()] = value.strip().lower()
    # what is not read as a body would be read as the next request
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise ValueError("requests with a body are not answered")
    stays = "keep-alive" in headers.get("connection", "keep-alive" if words[2] == "HTTP/1.1" else "close")
    return _Request(words[0], words[1], stays)


def _response(status: HTTPStatus, document: dict[str, str], *, stays: bool) -> bytes:
    body = json.dumps(document).encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *([] if stays else ["connection: close"]),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _certificate(writer: asyncio.StreamWriter) -> x509.Certificate:
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True)
    if der is None:
        raise ValueError("the client showed no certificate")
    return x509.load_der_x509_certificate(der)
