"""The door at which a VM that has nothing but a join token becomes a workload.

    POST /isthmus.dev/v1/enrol
    {"token": "<namespace>/<name>", "secret": "<hex>", "csr": "<PEM>", "addresses": ["<primary>", …],
     "hostname": "<name>", "time": "<RFC 3339>"}
    -> 200 {"workload", "namespace", "spiffe_id", "chain", "roots", "bootstrap", "ads": ["host:port", …],
            "certificate_ttl_s", "token_expires", "server_time"}
    -> 4xx {"error", "hint", "server_time"}

Rate and size are limited before anything is read, and everything is checked before anything is believed.
"""

import asyncio
import ipaddress
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.clock import rfc3339
from isthmus.identity.enrol import Application, Enrolled, Registrar
from isthmus.identity.refusal import Refused
from isthmus.store.base import StoreUnavailable

_log = logging.getLogger(__name__)

PATH = "/isthmus.dev/v1/enrol"
MAX_BODY = 64 * 1024
_BODY_TIMEOUT_S = 10.0
_MAX_ADDRESSES = 16


@dataclass(slots=True)
class RateLimit:
    """A bucket of attempts per client network; the least recently seen are forgotten beyond `clients`."""

    burst: float = 60
    per_second: float = 1
    clients: int = 10_000
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait_s(self, host: str, now: float) -> float:
        """Takes one attempt of the client, at `now` seconds; how long to wait when there is none left."""
        client = client_network(host)
        left, seen = self._buckets.pop(client, (self.burst, now))
        left = min(self.burst, left + (now - seen) * self.per_second)
        wait = max(0.0, (1 - left) / self.per_second)
        self._buckets[client] = (left if wait else left - 1, now)
        if len(self._buckets) > self.clients:
            self._buckets.popitem(last=False)
        return wait


def enrolment_routes(
    registrar: Registrar,
    *,
    roots: Callable[[], str],
    bootstrap: Callable[[Enrolled], Mapping[str, Any]],
    ads_addresses: Callable[[], Sequence[str]],
    now: Callable[[], datetime],
    limit: RateLimit | None = None,
) -> list[Route]:
    """The enrolment door; `bootstrap` makes the Envoy start file of a new workload."""
    attempts = limit or RateLimit()

    async def enrol(request: Request) -> Response:
        try:
            wait = attempts.wait_s(request.client.host if request.client else "", time.monotonic())
            if wait:
                raise Refused(429, "too many enrolments from this address", f"try again in {wait:.0f} s")
            enrolled = await registrar.enrol(application(await body(request)))
        except Refused as refused:
            _log.info("enrolment refused status=%d: %s", refused.status, refused.error)
            return answer({"error": refused.error, "hint": refused.hint}, refused.status, now())
        except StoreUnavailable:
            _log.exception("enrolment failed")
            error = {"error": "the control plane cannot store anything now", "hint": "try again; see its log"}
            return answer(error, 503, now())
        return answer(
            {
                "workload": enrolled.entry.key.name,
                "namespace": enrolled.entry.key.namespace,
                "spiffe_id": str(enrolled.spiffe),
                "chain": enrolled.issued.chain,
                "roots": roots(),
                "bootstrap": bootstrap(enrolled),
                "ads": list(ads_addresses()),
                "certificate_ttl_s": int(enrolled.ttl.total_seconds()),
                "token_expires": enrolled.token_expires,
            },
            200,
            now(),
        )

    return [Route(PATH, enrol, methods=["POST"])]


def application(content: bytes) -> Application:
    """What the body asks for; Refused unless it is exactly of the described form."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused(400, "the request is not JSON") from None
    if not isinstance(document, dict):
        raise Refused(400, "the request is not a JSON object")
    namespace, slash, token = _text(document, "token", 512).partition("/")
    addresses = document.get("addresses")
    if not slash or not isinstance(addresses, list) or not 0 < len(addresses) <= _MAX_ADDRESSES:
        raise Refused(400, f"the request needs a token NAMESPACE/NAME and 1 to {_MAX_ADDRESSES} addresses")
    try:
        secret = bytes.fromhex(_text(document, "secret", 256))
    except ValueError:
        raise Refused(400, "the request's secret is not hexadecimal") from None
    return Application(
        namespace=namespace,
        token=token,
        secret=secret,
        csr=_text(document, "csr", MAX_BODY),
        address=_text({"addresses": addresses[0]}, "addresses", 64),
        hostname=_text(document, "hostname", 255),
        time=_time(_text(document, "time", 64)),
    )


def _text(document: Mapping[str, Any], field_: str, longest: int) -> str:
    value = document.get(field_)
    if not isinstance(value, str) or not (value.isprintable() or field_ == "csr"):
        raise Refused(400, f"the request's {field_} is not a text")
    if len(value) > longest:
        raise Refused(400, f"the request's {field_} has {len(value)} characters, at most {longest} will do")
    return value


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Refused(400, "the request's time is not RFC 3339 with a time zone")
    return moment


async def body(request: Request) -> bytes:
    """The request's body; Refused when it is too large, or too long on its way."""
    received = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for chunk in request.stream():
                received += chunk
                if len(received) > MAX_BODY:
                    raise Refused(413, f"the request has more than {MAX_BODY} bytes")
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {_BODY_TIMEOUT_S:.0f} s") from None
    except ClientDisconnect:
        raise Refused(400, "the client went away") from None
    return bytes(received)


def answer(document: Mapping[str, Any], status: int, now: datetime) -> Response:
    """A JSON answer that nobody keeps, with the server's time."""
    content = {**document, "server_time": rfc3339(now.timestamp())}
    return JSONResponse(content, status, headers={"cache-control": "no-store"})


def client_network(host: str) -> str:
    """Who is counted as one client: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped or address.version == 4:
        return str(mapped or address)  # a socket of both families shows IPv4 as ::ffff:a.b.c.d
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
