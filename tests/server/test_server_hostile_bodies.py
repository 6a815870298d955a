"""Bodies that nobody would send: refused quickly, in bounded memory, without a trace."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from control_plane import control_plane
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from documents import namespace, workload_entry
from isthmus.cli.client import Client
from isthmus.server.kube_bodies import OBJECT_LIMIT, json_value, yaml_value
from isthmus.server.kube_protobuf import Undecodable, document
from isthmus.server.status_errors import Failure
from kube_server import KubeServer, kube_server

ENTRIES = "/apis/networking.istio.io/v1/namespaces/bookinfo/workloadentries"
MOST_MB = 120
"""Most that eight hostile clients make a server hold; seen was half of it, eight whole bodies are 320 MB."""
APPLY = {"Content-Type": "application/apply-patch+yaml"}
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server with the namespace bookinfo."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        found.apply(namespace())
        yield found


def entry(**spec: Any) -> dict[str, Any]:
    """A WorkloadEntry with more in its spec."""
    found = workload_entry("a")
    found["spec"] |= spec
    return found


NESTED = b'{"spec":' * 5_000 + b"1" + b"}" * 5_000
HOSTILE = {
    "deep lists": (b"[" * 900_000, 400),
    "deep objects": (NESTED, 400),
    "rather deep": (json.dumps(entry(labels=json.loads("[" * 200 + "]" * 200))).encode(), 400),
    "large": (b'{"x":"' + b"y" * 1_500_000 + b'"}', 413),
    "very large": (b" " * 40_000_000, 413),
    "nul byte": (b'{"kind":"Workload\0Entry"}', 400),
    "nul escaped": (json.dumps(entry(network="a\0b")).encode(), 400),
    "not utf-8": (b'{"kind":"\xff\xfe"}', 400),
    "half a character": (b'{"spec":{"network":"\\ud800"}}', 400),
    "twice": (b'{"kind":"a","kind":"b"}', 400),
    "twice below": (b'{"spec":{"address":"a","address":"b"}}', 400),
    "infinite": (b'{"spec":{"weight":1e999}}', 400),
    "huge number": (b'{"spec":{"weight":' + b"9" * 100_000 + b"}}", 400),
    "empty": (b"", 400),
    "no kind": (b'{"metadata":[],"spec":7}', 400),
    "wrong shape": (json.dumps(entry() | {"metadata": [], "spec": 7}).encode(), 422),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_json_bodies(server: KubeServer, name: str) -> None:
    body, code = HOSTILE[name]
    started = time.process_time()
    try:
        reply = server.request("POST", ENTRIES, body)
    except OSError:
        # the server does not wait for the rest of what it will not take, and says so before: see below
        assert code == 413
        assert server.request("GET", "/healthz").code == 200
        return
    assert (reply.code, reply.document["kind"]) == (code, "Status")
    assert time.process_time() - started < 2


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_what_is_too_large_is_told_so_before_it_is_all_sent(server: KubeServer, declared: bool) -> None:
    """Nothing is under way when the answer comes: no reason for it to get lost."""
    connection = server.connect()
    connection.putrequest("POST", ENTRIES)
    length = ("Content-Length", "40000000") if declared else ("Transfer-Encoding", "chunked")
    for name, value in {**server.headers(), length[0]: length[1]}.items():
        connection.putheader(name, value)
    connection.endheaders()
    if not declared:
        connection.send(b"%x\r\n%s\r\n" % (OBJECT_LIMIT + 1, b" " * (OBJECT_LIMIT + 1)))
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["kind"]) == (413, "Status")
    connection.close()
    assert server.request("GET", "/healthz").code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (BOMB, "aliases"),
        ("a: &a [*a]", "aliases"),
        ("[" * 50_000, "nested too deeply"),
        ("a: 1\na: 2", "not YAML"),
        ("a: !!python/object:os.system x", "not YAML"),
        ("\x00", "not YAML"),
        ("a: b: c", "not YAML"),
        ("? [a]\n: b", "cannot be written as JSON"),
        ("a: .inf", "cannot be written as JSON"),
    ],
    ids=["bomb", "ring", "deep", "twice", "python", "nul", "broken", "odd key", "infinite"],
)
def test_yaml_bodies(server: KubeServer, body: str, words: str) -> None:
    reply = server.request("PATCH", f"{ENTRIES}/a?fieldManager=me", body.encode(), headers=APPLY)
    assert reply.code == 400, reply.document
    assert words in reply.document["message"]


def test_large_yaml_is_refused_and_large_json_is_not(server: KubeServer) -> None:
    path = f"{ENTRIES}/large?fieldManager=me"
    text = "".join(f"# {'x' * 70}\n" for _ in range(5_000))
    assert server.request("PATCH", path, text.encode(), headers=APPLY).code == 413
    wanted = workload_entry("large", annotations={"note": "x" * 200_000})
    assert server.request("PATCH", path, wanted, headers=APPLY).code == 201


def test_an_apply_patch_may_be_yaml(server: KubeServer) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: yaml
  annotations: {day: 2024-01-02}
spec:
  address: 10.0.0.7
"""
    reply = server.request("PATCH", f"{ENTRIES}/yaml?fieldManager=me", text.encode(), headers=APPLY)
    assert reply.code == 201, reply.document
    assert reply.document["metadata"]["annotations"] == {"day": "2024-01-02"}


@pytest.mark.timeout(300)
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Eight clients at once, in a process whose memory is nobody else's."""
    yaml = [BOMB.encode(), b"a: &a [*a]"]
    with control_plane(tmp_path) as plane:
        plane.client.apply([namespace()])
        attack(plane.client, yaml)  # what is made once, whoever asks, is made now
        plane.forget_peak()
        before = plane.memory_mb("VmRSS")
        attackers = [threading.Thread(target=attack, args=(plane.client, yaml)) for _ in range(8)]
        for attacker in attackers:
            attacker.start()
        for attacker in attackers:
            attacker.join()
        assert plane.memory_mb("VmHWM") - before < MOST_MB
        assert plane.client.request("GET", "/api").document["kind"] == "APIVersions"


def attack(client: Client, yaml: list[bytes]) -> None:
    """Sends everything hostile, one after the other, and takes no answer for granted."""
    sent = [("POST", ENTRIES, body, "application/json") for body, _ in HOSTILE.values()]
    sent += [("PATCH", f"{ENTRIES}/a?fieldManager=me", body, APPLY["Content-Type"]) for body in yaml]
    for method, path, body, media_type in sent:
        connection = http.client.HTTPSConnection(client.host, client.port, timeout=60, context=client.context)
        headers = {"Authorization": f"Bearer {client.token}", "Content-Type": media_type}
        with suppress(OSError):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            assert 400 <= answer.status < 500, answer.read()
        connection.close()


SCALARS = (
    st.text(max_size=5) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
)


@settings(max_examples=300)
@given(
    st.recursive(
        SCALARS | st.none(), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v)
    )
)
def test_json_means_the_same_however_it_is_written(value: Any) -> None:
    assume("\\u0000" not in json.dumps(value))
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    for written in (compact, compact + b"\n", json.dumps(value).encode()):
        assert repr(json_value(written)) == repr(value)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    for read in (json_value, yaml_value):
        with suppress(Failure):
            read(body)
    for raw in (
        body,
        b"k8s\0" + body,
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12" + bytes([len(body)]) + body,
    ):
        with suppress(Undecodable):
            document(raw)
