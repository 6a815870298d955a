"""Calls as JSON lines in, how they went as JSON lines out: what a lab host runs to be a scenario's caller.

    {"url": "http://vm.vm:8080/a", "count": 20, …} ─▶ [{"status": 200, "reached": "vm/v1", …}, …]

Run as `python caller.py` on the host. A failure is an answer, too: {"error": "ConnectionResetError: …"}.
"""

import base64
import http.client
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pymysql

Call = dict[str, Any]
Answer = dict[str, Any]
TIMEOUT_S = 10.0


def run(call: Call) -> list[Answer]:
    """Makes the call as often as it says, in as many lanes as it says."""
    count, lanes = int(call.get("count", 1)), int(call.get("parallel", 1))
    session = next(kind for name, kind in KINDS.items() if name in call)
    shares = [count // lanes + (lane < count % lanes) for lane in range(lanes)]
    if lanes == 1:
        return list(session(call, count))
    with ThreadPoolExecutor(lanes) as pool:
        return list(chain.from_iterable(pool.map(lambda share: list(session(call, share)), shares)))


def _timed(make: Callable[[], Answer]) -> Answer:
    began = time.monotonic()
    try:
        answer = make()
    except (OSError, http.client.HTTPException, pymysql.MySQLError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    return {**answer, "seconds": time.monotonic() - began}


def _http(call: Call, count: int) -> Iterator[Answer]:
    place = urlsplit(call["url"])
    target = call["url"].split("/", 3)
    path = "/" + target[3] if len(target) > 3 else "/"
    headers: dict[str, str] = {}
    number = 0
    connection: http.client.HTTPConnection | None = None

    def ask() -> Answer:
        nonlocal connection
        if connection is None:
            connection = _connection(place.scheme, place.hostname or "", place.port, call, number)
        sent = connection
        asked = path.replace("{n}", str(number))
        sent.putrequest(
            call.get("method", "GET"), asked, skip_host="host" in headers, skip_accept_encoding=True
        )
        for name, value in headers.items():
            sent.putheader(name, value)
        body = str(call.get("body", "")).encode() or b"x" * int(call.get("size", 0))
        if body:
            sent.putheader("content-length", str(len(body)))
        sent.endheaders(body or None)
        response = sent.getresponse()
        text = response.read().decode(errors="replace")
        found = {name.lower(): value for name, value in response.getheaders()}
        return {"status": response.status, "headers": found, "body": text, **_echoed(text)}

    given = {name.lower(): str(value) for name, value in call.get("headers", {}).items()}
    if "address" in call:
        given.setdefault("host", place.netloc)
    for number in range(count):
        headers = {name: value.replace("{n}", str(number)) for name, value in given.items()}
        answer = _timed(ask)
        yield answer
        if connection is not None and ("error" in answer or call.get("fresh")):
            connection.close()
            connection = None
    if connection is not None:
        connection.close()


def _connection(
    scheme: str, host: str, port: int | None, call: Call, number: int
) -> http.client.HTTPConnection:
    timeout = float(call.get("timeout", TIMEOUT_S))
    if scheme == "http":
        source = (call["bind"].replace("{n}", str(number + 1)), 0) if "bind" in call else None
        return http.client.HTTPConnection(call.get("address", host), port or 80, timeout, source)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    made = http.client.HTTPSConnection(host, port or 443, timeout=timeout, context=context)
    made.sock = context.wrap_socket(
        socket.create_connection((call.get("address", host), port or 443), timeout),
        server_hostname=call.get("sni", host),
    )
    return made


def _grpc(call: Call, count: int) -> Iterator[Answer]:
    method = f"/echo.Echo/{call.get('method', 'Call')}"
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    if "authority" in call:
        options.append(("grpc.default_authority", call["authority"]))
    metadata = tuple((str(name).lower(), str(value)) for name, value in call.get("headers", {}).items())
    request = json.dumps(call.get("body", {})).encode()
    with grpc.insecure_channel(call["grpc"], options) as channel:

        def ask() -> Answer:
            deadline = float(call.get("timeout", TIMEOUT_S))
            try:
                if method.endswith("/Stream"):
                    several = list(
                        channel.unary_stream(method, None, None)(request, timeout=deadline, metadata=metadata)
                    )
                    return {"status": "OK", "messages": len(several), **_echoed(several[-1].decode())}
                made = channel.unary_unary(method, None, None).with_call(
                    request, timeout=deadline, metadata=metadata
                )
            except grpc.RpcError as error:
                return {"status": error.code().name, "body": error.details() or ""}
            told = {str(name): str(value) for name, value in made[1].initial_metadata() or ()}
            return {"status": "OK", "headers": told, "body": made[0].decode(), **_echoed(made[0].decode())}

        for _ in range(count):
            yield _timed(ask)


def _tcp(call: Call, count: int) -> Iterator[Answer]:
    host, _, port = call["tcp"].rpartition(":")
    timeout = float(call.get("timeout", TIMEOUT_S))

    def ask() -> Answer:
        with socket.create_connection((host.strip("[]"), int(port)), timeout) as sock:
            if call.get("silent"):
                said = sock.recv(65536)
            else:
                sock.sendall(f"{call.get('send', 'hello')}\n".encode())
                said = sock.recv(65536)
            if not said:
                raise ConnectionError("closed without an answer")
            if "pause" in call:
                time.sleep(float(call["pause"]))
                sock.sendall(b"again\n")
                if not (said := sock.recv(65536)):
                    raise ConnectionError("closed while nothing was sent")
            text = said.decode(errors="replace")
            return {"status": "OK", "body": text, **_echoed(text.splitlines()[-1])}

    for _ in range(count):
        yield _timed(ask)


def _udp(call: Call, count: int) -> Iterator[Answer]:
    host, _, port = call["udp"].rpartition(":")

    def ask() -> Answer:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(float(call.get("timeout", TIMEOUT_S)))
            sock.connect((host, int(port)))
            sock.send(str(call.get("send", "hello")).encode())
            text = sock.recv(65536).decode()
            return {"status": "OK", "body": text, **_echoed(text)}

    for _ in range(count):
        yield _timed(ask)


def _file(call: Call, count: int) -> Iterator[Answer]:
    def ask() -> Answer:
        return {"status": "OK", "body": Path(call["file"]).read_text(errors="replace")}

    for _ in range(count):
        yield _timed(ask)


def _websocket(call: Call, count: int) -> Iterator[Answer]:
    place = urlsplit(call["websocket"])
    more = "".join(f"{name}: {value}\r\n" for name, value in call.get("headers", {}).items())

    def ask() -> Answer:
        with socket.create_connection((place.hostname, place.port or 80), TIMEOUT_S) as sock:
            key = base64.b64encode(os.urandom(16)).decode()
            sock.sendall(
                f"GET {place.path or '/'} HTTP/1.1\r\nhost: {place.netloc}\r\nupgrade: websocket\r\n"
                f"connection: Upgrade\r\nsec-websocket-key: {key}\r\n"
                f"sec-websocket-version: 13\r\n{more}\r\n".encode()
            )
            stream = sock.makefile("rb")
            status = int(stream.readline().split()[1])
            while stream.readline().strip():
                pass
            if status != 101:
                return {"status": status, "body": ""}
            text = ""
            for number in range(int(call.get("messages", 1))):
                time.sleep(float(call.get("pause", 0)))
                said, mask = f"{call.get('send', 'hello')} {number}".encode(), os.urandom(4)
                masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(said))
                sock.sendall(bytes([0x81, 0x80 | len(said)]) + mask + masked)
                head = stream.read(4)
                if len(head) < 4:
                    raise ConnectionError("closed without an answer")
                text = stream.read(int.from_bytes(head[2:], "big")).decode()
            return {"status": status, "body": text, **_echoed(text)}

    for _ in range(count):
        yield _timed(ask)


def _mysql(call: Call, count: int) -> Iterator[Answer]:
    host, _, port = call["mysql"].rpartition(":")

    def ask() -> Answer:
        connection = pymysql.connect(
            host=host, port=int(port), user="ratings", password="password", database="test",
            connect_timeout=int(TIMEOUT_S), read_timeout=int(TIMEOUT_S), ssl_disabled=True,
        )  # fmt: skip
        try:
            with connection.cursor() as cursor:
                cursor.execute(call.get("sql", "SELECT Rating FROM ratings ORDER BY ReviewID"))
                return {"status": "OK", "body": repr(cursor.fetchall())}
        finally:
            connection.close()

    for _ in range(count):
        yield _timed(ask)


def _dns(call: Call, count: int) -> Iterator[Answer]:
    def ask() -> Answer:
        found = socket.getaddrinfo(call["dns"], None, type=socket.SOCK_STREAM)
        return {"status": "OK", "body": " ".join(sorted({str(info[4][0]) for info in found}))}

    for _ in range(count):
        yield _timed(ask)


def _echoed(text: str) -> Answer:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(told, dict) or "host" not in told:
        return {"told": told} if isinstance(told, dict) else {}
    return {"reached": f"{told['host']}/{told['version']}", "told": told}


KINDS: dict[str, Callable[[Call, int], Iterator[Answer]]] = {
    "url": _http,
    "grpc": _grpc,
    "tcp": _tcp,
    "udp": _udp,
    "file": _file,
    "websocket": _websocket,
    "mysql": _mysql,
    "dns": _dns,
}


def main() -> None:
    """Answers one line with one line until the input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
