"""The door of enrolment over ASGI: its answers, its limits, and what it does not read."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from enrolment_world import World, world
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.types import Message

from isthmus.clock import rfc3339
from isthmus.identity import keys
from isthmus.identity.jointoken import Token
from isthmus.identity.refusal import Refused
from isthmus.server.enrolment import MAX_BODY, PATH, RateLimit, application, enrolment_routes


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def post(app: Starlette, body: bytes, client: str = "10.0.0.5") -> tuple[int, dict[str, Any]]:
    """One request through the whole ASGI application."""
    sent: list[Message] = []
    chunks = [body[start : start + 8192] for start in range(0, len(body), 8192)] or [b""]

    async def receive() -> Message:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": [],
        "client": (client, 40000),
        "server": ("127.0.0.1", 1),
        "scheme": "https",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


def door(here: World, limit: RateLimit | None = None) -> Starlette:
    routes = enrolment_routes(
        here.registrar,
        roots=lambda: here.authority.roots,
        bootstrap=lambda enrolled: {"node": enrolled.entry.key.name},
        ads_addresses=lambda: ["cp.example.com:15012"],
        now=here.now,
        limit=limit,
    )
    return Starlette(routes=routes)


def body(here: World, token: Token, /, **changes: Any) -> bytes:
    document = {
        "token": token.id,
        "secret": token.secret.hex(),
        "csr": keys.request_pem(keys.new_key()),
        "addresses": ["10.0.0.5", "fd00::5"],
        "hostname": "vm-1",
        "time": rfc3339(here.now().timestamp()),
    }
    return json.dumps(document | changes).encode()


async def test_the_door_answers_with_all_that_an_agent_needs(here: World) -> None:
    await here.group()
    status, answer = await post(door(here), body(here, await here.token()))
    assert status == 200
    assert answer["workload"] == "mysql-10.0.0.5"
    assert answer["namespace"] == "vms"
    assert answer["spiffe_id"] == "spiffe://cluster.local/ns/vms/sa/mysql"
    assert answer["bootstrap"] == {"node": "mysql-10.0.0.5"}
    assert answer["ads"] == ["cp.example.com:15012"]
    assert answer["certificate_ttl_s"] == 86400
    assert answer["server_time"].endswith("Z")
    assert answer["roots"] == here.authority.roots
    assert keys.certificates(answer["chain"])


async def test_the_doors_refusals_say_what_to_do(here: World) -> None:
    await here.group()
    token = await here.token()
    status, answer = await post(door(here), body(here, token, secret="00" * 32))
    assert status == 401
    assert set(answer) == {"error", "hint", "server_time"}
    assert answer["hint"]


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "noslash"},
        {"token": 7},
        {"token": "a" * 600 + "/b"},
        {"secret": "zz"},
        {"secret": None},
        {"secret": "00" * 1000},
        {"csr": ["x"]},
        {"addresses": []},
        {"addresses": "10.0.0.5"},
        {"addresses": [["10.0.0.5"]]},
        {"addresses": ["10.0.0.5"] * 100},
        {"hostname": "a\nb"},
        {"hostname": "a" * 300},
        {"time": "2026-01-01T00:00:00"},
        {"time": "soon"},
        {"time": 1.5},
    ],
)
async def test_malformed_requests_are_refused(here: World, changes: dict[str, Any]) -> None:
    await here.group()
    token = await here.token()
    status, answer = await post(door(here), body(here, token, **changes))
    assert status == 400, answer
    assert await here.status(token) == {}


@pytest.mark.parametrize("sent", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 60_000, b'"x"', b"9" * 5000])
async def test_what_is_no_request_is_refused(here: World, sent: bytes) -> None:
    status, _ = await post(door(here), sent)
    assert status == 400


async def test_a_megabyte_is_not_read(here: World) -> None:
    status, answer = await post(door(here), b" " * 1_000_000)
    assert status == 413
    assert str(MAX_BODY) in answer["error"]


async def test_the_door_is_rate_limited_per_client(here: World) -> None:
    app = door(here, RateLimit(burst=3, per_second=0.01))
    seen = [(await post(app, b"{}", "10.0.0.5"))[0] for _ in range(5)]
    assert seen == [400, 400, 400, 429, 429]
    assert (await post(app, b"{}", "10.0.0.6"))[0] == 400


async def test_a_store_that_cannot_write_is_no_success(here: World) -> None:
    await here.group()
    token = await here.token()
    await here.store.close()
    status, answer = await post(door(here), body(here, token))
    assert status == 503
    assert "chain" not in answer


def test_the_rate_limit_refills_and_forgets() -> None:
    limit = RateLimit(burst=2, per_second=0.5, clients=2)
    assert [limit.wait_s("a", 0), limit.wait_s("a", 0), limit.wait_s("a", 0)] == [0, 0, 2]
    assert limit.wait_s("a", 2) == 0
    assert limit.wait_s("a", 2) == 2
    limit.wait_s("b", 2)
    limit.wait_s("c", 2)
    assert limit.wait_s("a", 2) == 0


def test_one_ipv6_subscriber_is_one_client() -> None:
    limit = RateLimit(burst=1, per_second=1)
    assert limit.wait_s("2001:db8::1", 0) == 0
    assert limit.wait_s("2001:db8::2", 0) == 1
    assert limit.wait_s("2001:db8:0:1::1", 0) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = ["token", "secret", "csr", "addresses", "hostname", "time"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    with contextlib.suppress(Refused):
        application(json.dumps(document).encode())
