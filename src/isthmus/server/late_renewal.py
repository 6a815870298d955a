"""The door at which a VM whose certificate has ended gets the next one.

    GET  /isthmus.dev/v1/nonce
    -> 200 {"nonce": "<hex>", "server_time"}
    POST /isthmus.dev/v1/renew
    {"chain": "<PEM>", "csr": "<PEM>", "nonce": "<hex>", "signature": "<hex>"}
    -> 200 {"chain", "roots", "server_time"}
    -> 4xx {"error", "hint", "server_time"}

It lies beside enrolment, and is limited in rate and size as that is: before anything is read.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.identity.csr import MAX_BYTES as MAX_CSR
from isthmus.identity.late import MAX_CHAIN, LateRegistrar, LateRequest
from isthmus.identity.refusal import Refused
from isthmus.server.enrolment import RateLimit, answer, body
from isthmus.store.base import StoreUnavailable

NONCE_PATH = "/isthmus.dev/v1/nonce"
RENEW_PATH = "/isthmus.dev/v1/renew"
_MAX_HEX = 2048

_log = logging.getLogger(__name__)


def late_renewal_routes(
    registrar: LateRegistrar,
    *,
    roots: Callable[[], str],
    now: Callable[[], datetime],
    limit: RateLimit | None = None,
) -> list[Route]:
    """The two routes; nonces and renewals count together."""
    attempts = limit or RateLimit(burst=120, per_second=2)

    def admit(request: Request) -> None:
        wait = attempts.wait_s(request.client.host if request.client else "", time.monotonic())
        if wait:
            raise Refused(429, "too many renewals from this address", f"try again in {wait:.0f} s")

    async def nonce(request: Request) -> Response:
        try:
            admit(request)
        except Refused as refused:
            return answer({"error": refused.error, "hint": refused.hint}, refused.status, now())
        return answer({"nonce": registrar.nonce().hex()}, 200, now())

    async def renew(request: Request) -> Response:
        try:
            admit(request)
            issued = await registrar.renew(late_request(await body(request)))
        except Refused as refused:
            _log.info("late renewal refused status=%d: %s", refused.status, refused.error)
            return answer({"error": refused.error, "hint": refused.hint}, refused.status, now())
        except StoreUnavailable:
            _log.exception("late renewal failed")
            error = {"error": "the control plane cannot read its store now", "hint": "try again; see its log"}
            return answer(error, 503, now())
        return answer({"chain": issued.chain, "roots": roots()}, 200, now())

    return [Route(NONCE_PATH, nonce, methods=["GET"]), Route(RENEW_PATH, renew, methods=["POST"])]


def late_request(content: bytes) -> LateRequest:
    """What the body asks for; Refused unless it is exactly of the described form."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused(400, "the request is not JSON") from None
    if not isinstance(document, dict):
        raise Refused(400, "the request is not a JSON object")
    return LateRequest(
        chain=_text(document, "chain", MAX_CHAIN),
        csr=_text(document, "csr", MAX_CSR),
        nonce=_bytes(document, "nonce"),
        signature=_bytes(document, "signature"),
    )


def _text(document: Mapping[str, Any], field: str, longest: int) -> str:
    value = document.get(field)
    if not isinstance(value, str) or not value.isascii() or len(value) > longest:
        raise Refused(400, f"the request's {field} is not a text of at most {longest} characters")
    return value


def _bytes(document: Mapping[str, Any], field: str) -> bytes:
    try:
        return bytes.fromhex(_text(document, field, _MAX_HEX))
    except ValueError:
        raise Refused(400, f"the request's {field} is not hexadecimal") from None
