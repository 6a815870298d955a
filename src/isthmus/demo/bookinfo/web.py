"""HTTP requests become plain functions' answers: the little that Bookinfo's services have in common."""

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What a service hands on so that one request can be traced, and routed by its user, through all of them.
FORWARDED = (
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "traceparent",
    "tracestate",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "sw8",
    "end-user",
    "user-agent",
    "authorization",
    "cookie",
    "jwt",
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a handler sees it; header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: status, body and headers beyond the usual ones."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(status: int, value: object) -> Answer:
    """An answer that carries a JSON value."""
    return Answer(status, json.dumps(value).encode())


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request that go on with the calls it causes."""
    return {name: headers[name] for name in FORWARDED if name in headers}


def get_json(host: str, port: int, path: str, headers: Mapping[str, str], *, timeout_s: float) -> Any:
    """GET a JSON document from another service; raises OSError or ValueError when that fails."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={**headers, "Connection": "close"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ConnectionError(f"http://{host}:{port}{path} answered {response.status}")
        return json.loads(body)
    except http.client.HTTPException as error:
        raise ConnectionError(f"http://{host}:{port}{path}: {error}") from error
    finally:
        connection.close()


def upstream(service: str) -> tuple[str, int]:
    """Where another service is, from Bookinfo's environment names for it."""
    domain = os.environ.get("SERVICES_DOMAIN", "")
    host = os.environ.get(f"{service.upper()}_HOSTNAME", service)
    return f"{host}.{domain}" if domain else host, int(
        os.environ.get(f"{service.upper()}_SERVICE_PORT", "9080")
    )


def serve(handle: Callable[[Request], Answer]) -> None:
    """Answer requests on the port given as the argument (9080 by default), on both address families."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 75

        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made = handle(Request(self.command, path, query, headers, body))
            self.send_response(made.status)
            for name, value in {
                "Content-Type": made.content_type,
                "Content-Length": str(len(made.body)),
                **made.headers,
            }.items():
                self.send_header(name, value)
            # end_headers() would write the head alone: two small writes cost 40 ms with delayed ACKs.
            self._headers_buffer: list[bytes]
            self._headers_buffer.append(b"\r\n" + (b"" if self.command == "HEAD" else made.body))
            self.flush_headers()

        do_GET = do_POST = do_HEAD = answer

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6
        daemon_threads = True
        request_queue_size = 128

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socket.socket.bind(self.socket, self.server_address)
            self.server_name, self.server_port = socket.gethostname(), self.server_address[1]

        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # a client that went away is not this service's business

    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9080
    with Server(("::", port), Handler) as server:
        print(f"listening on port {port}", flush=True)
        server.serve_forever()
