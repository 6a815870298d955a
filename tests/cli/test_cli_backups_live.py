"""A control plane is lost with its machine: what was saved serves the VMs that had joined, as before."""

import itertools
import queue
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus.agent import keywork
from isthmus.agent.enrol import Enrolled, enrol, knock
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER
from isthmus.identity import jointoken, keys
from quiet_ports import quiet_ports

ISTHMUS = Path(sys.executable).with_name("isthmus")
MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: tcp, port: 3306}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: shop}
spec: {metadata: {labels: {app: db}}, template: {serviceAccount: db, ports: {tcp: 3306}}}
"""
DELTAS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
ANSWER_S = 20.0


@contextmanager
def serving(state: Path, ports: list[int]) -> Iterator[None]:
    """A control plane that ends without a chance to tidy up."""
    names = ("--api-port", "--ads-port", "--probe-port")
    options = [str(part) for pair in zip(names, ports, strict=True) for part in pair]
    command = [str(ISTHMUS), "serve", "--state-dir", str(state), "--bind", "127.0.0.1", *options]
    with (state.parent / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--advertise", "127.0.0.1"], stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("ready"), (state.parent / "serve.log").read_text()
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(60)
            process.stdout.close()


def isthmus(state: Path, *arguments: str, text: str | None = None) -> str:
    """A command that must succeed; what it printed."""
    environment = {"ISTHMUS_KUBECONFIG": str(state / "admin.kubeconfig"), "PATH": "/usr/bin"}
    environment |= {"ISTHMUS_BACKUP_PASSPHRASE": "correct horse battery"}
    done = subprocess.run(
        [str(ISTHMUS), *arguments],
        input=text, capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class Proxy:
    """What Envoy says and hears on its stream: an answer is acknowledged at once."""

    def __init__(self, joined: Enrolled, port: int, known: dict[str, dict[str, str]]) -> None:
        secrets = joined.credentials
        credentials = grpc.ssl_channel_credentials(secrets.roots, secrets.key, secrets.chain)
        named = [("grpc.ssl_target_name_override", "isthmus.isthmus-system.svc")]
        self._channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=named)
        self._asked: queue.SimpleQueue[discovery_v3.DeltaDiscoveryRequest | None] = queue.SimpleQueue()
        self._node = str(joined.bootstrap["node"]["id"])
        self._known = known
        stream = self._channel.stream_stream(
            DELTAS,
            request_serializer=discovery_v3.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_v3.DeltaDiscoveryResponse.FromString,
        )
        self._answers: Any = stream(iter(self._asked.get, None), timeout=ANSWER_S)

    def ask(self, type_url: str, *names: str) -> None:
        """Subscribes, and says what it has."""
        request = discovery_v3.DeltaDiscoveryRequest(
            type_url=type_url, initial_resource_versions=self._known.get(type_url, {})
        )
        request.node.id = self._node
        request.resource_names_subscribe.extend(names)
        self._asked.put(request)

    def answer(self) -> discovery_v3.DeltaDiscoveryResponse:
        """The next answer, acknowledged and remembered."""
        found: discovery_v3.DeltaDiscoveryResponse = next(self._answers)
        held = self._known.setdefault(found.type_url, {})
        held |= {each.name: each.version for each in found.resources}
        ack = discovery_v3.DeltaDiscoveryRequest(type_url=found.type_url, response_nonce=found.nonce)
        self._asked.put(ack)
        return found

    def close(self) -> None:
        """Ends the stream."""
        self._asked.put(None)
        self._channel.close()


@pytest.mark.timeout(300)
def test_a_joined_vm_does_not_notice(tmp_path: Path) -> None:
    one, two, ports = tmp_path / "one", tmp_path / "elsewhere", quiet_ports(3)
    saved, known = tmp_path / "saved", dict[str, dict[str, str]]()
    with serving(one, ports):
        isthmus(one, "apply", "-f", "-", text=MESH)
        token = jointoken.parse(isthmus(one, "token", "create", "--group", "shop/db"))
        key = keys.key_pem(keys.new_key())
        joined = enrol(token, knock(token.addresses, token.pin), keywork.request(key), "10.0.0.7")
        proxy = Proxy(joined, ports[1], known)
        proxy.ask(CLUSTER)
        assert proxy.answer().type_url == CLUSTER
        proxy.ask(LISTENER)
        assert next(a for a in iter(proxy.answer, None) if a.type_url == LISTENER).resources
        unused = isthmus(one, "token", "create", "--group", "shop/db", "--ttl", "10m")
        isthmus(one, "backup", str(saved), "--state-dir", str(one), "--seal")
        proxy.close()
    shutil.rmtree(one)
    isthmus(two, "restore", str(saved), "--state-dir", str(two))
    with serving(two, ports):
        assert joined.membership.workload in isthmus(two, "get", "we", "-n", "shop")
        again = Proxy(joined, ports[1], {each: dict(held) for each, held in known.items()})
        for type_url in (CLUSTER, LISTENER):
            again.ask(type_url)
        # the answer to this comes after those to all that was asked before: nothing else is due
        again.ask(ENDPOINTS, "nobody")
        answers = list(itertools.takewhile(lambda a: a.type_url != ENDPOINTS, iter(again.answer, None)))
        assert answers == [], "sent again"
        again.close()
        # its key is the same: tokens that are not used yet fit
        later = jointoken.parse(unused)
        enrol(later, knock(later.addresses, later.pin), keywork.request(), "10.0.0.8")
