"""Bodies that nobody would send: refused quickly, in bounded memory, without a trace."""

import json
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from documents import namespace, workload_entry
from isthmus.server.kube_bodies import json_value, yaml_value
from isthmus.server.kube_protobuf import Undecodable, document
from isthmus.server.status_errors import Failure
from kube_server import KubeServer, kube_server

ENTRIES = "/apis/networking.istio.io/v1/namespaces/bookinfo/workloadentries"
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
    started = time.monotonic()
    try:
        reply = server.request("POST", ENTRIES, body)
    except OSError:
        # the server does not wait for the rest of what it will not take
        assert code == 413
        return
    assert (reply.code, reply.document["kind"]) == (code, "Status")
    assert time.monotonic() - started < 2


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


def test_memory_stays_bounded(server: KubeServer) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        for name in ("deep lists", "deep objects", "large"):
            server.request("POST", ENTRIES, HOSTILE[name][0])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


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
