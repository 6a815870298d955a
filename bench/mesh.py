"""A lab with a control plane and VMs: how long things take, how much memory they hold."""

import json
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from http.client import HTTPSConnection
from typing import Any

from bench.distribution import Bar, row
from isthmus.lab import control
from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

JOINS = 10
CHANGES = 300
MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: vm}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: vm}
spec:
  metadata: {labels: {app: db}}
  template: {serviceAccount: db, ports: {tcp: 3306}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: vm}
spec:
  selector: {app: db}
  ports: [{name: tcp, port: 3306}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: far, namespace: vm}
spec: {address: 10.99.0.200, labels: {app: db}, weight: 1}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db, namespace: vm}
spec:
  host: db
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}
"""


def run() -> Iterator[str]:
    """The rows of this section."""
    with Lab.start("bench") as lab:
        plane = control.start(lab)
        plane.apply(MESH, wait=False)
        door = lab.forward(control.HOST, 8443)
        hosts = [lab.host(f"vm{number}") for number in range(JOINS)]
        joins = [_join(plane, host) for host in hosts]
        yield row("join: command to proven request", joins, "ms", Bar(2000))
        for host in hosts[1:]:
            host.run(["isthmus", "leave"])
        samples = _changes(_client(plane, door))
        yield row("endpoint write to watcher seeing it Programmed", samples, "ms", Bar(20))
        rules = _rule_changes(_client(plane, door))
        yield row("rule write to the same, seen by the canary first", rules, "ms", Bar(20))
        yield row("the same / a bare durable write", _ratios(_client(plane, door), samples), "x")
        for name, pid_file, most in (("agent", "agent.pid", 60), ("Envoy", "envoy.pid", 80)):
            yield row(f"memory of one {name} (RSS)", [_resident_mb(hosts[0], pid_file)], "MB", Bar(most))


def _join(plane: ControlPlane, host: Host) -> float:
    token = plane.token("vm/db")
    started = time.monotonic()
    process = host.spawn(["isthmus", "join", token], log=f"join-{host.name}.log")
    process.wait_for_line("joined", timeout_s=30)
    return (time.monotonic() - started) * 1000


class _Api:
    """The API over one kept connection, as a controller would use it, and a second one for the watch."""

    def __init__(self, port: int, token: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # loopback relay into our own lab; TLS is there for its cost
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}
        self._calls = HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
        self._watch = HTTPSConnection("127.0.0.1", port, context=context, timeout=30)

    def patch(self, path: str, change: Any) -> Any:
        self._calls.request("PATCH", path, json.dumps(change), self._headers)
        return json.loads(self._calls.getresponse().read())

    def watch(self, path: str, since: str) -> Iterator[Any]:
        self._watch.request("GET", f"{path}?watch=true&resourceVersion={since}", headers=self._headers)
        response = self._watch.getresponse()
        while line := response.readline():
            yield json.loads(line)


def _client(plane: ControlPlane, port: int) -> _Api:
    text = plane.host.read(control.KUBECONFIG)
    (token,) = [line.split()[1] for line in text.splitlines() if line.strip().startswith("token:")]
    return _Api(port, token)


_ENTRIES = "/apis/networking.istio.io/v1/namespaces/vm/workloadentries"
_RULES = "/apis/networking.istio.io/v1/namespaces/vm/destinationrules"


def _changes(api: _Api) -> list[float]:
    """From sending a new weight of an endpoint to a watcher's sight of Programmed for that generation."""
    return _seen(api, _ENTRIES, "far", lambda number: {"weight": 2 + number % 90})


def _rule_changes(api: _Api) -> list[float]:
    """The same of a rule that changes a cluster, with which its endpoints are sent again."""

    def limits(number: int) -> Any:
        return {"trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 2 + number}}}}

    return _seen(api, _RULES, "db", limits)


def _seen(api: _Api, path: str, name: str, change: Callable[[int], Any]) -> list[float]:
    since = api.patch(f"{path}/{name}", {"spec": change(0)})["metadata"]["resourceVersion"]
    events = api.watch(path, since)
    samples = []
    for number in range(CHANGES):
        time.sleep(0.03)  # longer than the feed merges changes for: each is measured alone
        started = time.monotonic()
        generation = api.patch(f"{path}/{name}", {"spec": change(1 + number)})["metadata"]["generation"]
        for event in events:
            if _programmed(event["object"], name, generation):
                break
        samples.append((time.monotonic() - started) * 1000)
    return samples


def _programmed(entry: Any, name: str, generation: int) -> bool:
    return entry["metadata"]["name"] == name and any(
        condition["type"] == "Programmed"
        and condition["status"] == "True"
        and condition["observedGeneration"] >= generation
        for condition in entry.get("status", {}).get("conditions", ())
    )


def _ratios(api: _Api, samples: list[float]) -> list[float]:
    """The median of `samples` over writes that no proxy hears of."""
    path = "/api/v1/namespaces/vm"
    writes = []
    for number in range(CHANGES):
        started = time.monotonic()
        api.patch(path, {"metadata": {"annotations": {"bench": str(number)}}})
        writes.append((time.monotonic() - started) * 1000)
    return [statistics.median(samples) / write for write in writes]


def _resident_mb(host: Host, pid_file: str) -> float:
    script = f'p=$(cut -d" " -f1 /run/isthmus/{pid_file} | head -1); grep VmRSS /proc/$p/status'
    return int(host.run(["sh", "-c", script]).stdout.split()[1]) / 1024
