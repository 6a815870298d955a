"""Changes of configuration break nothing that is under way: long connections stay, no request fails."""

import json
import os
import random
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from isthmus.api.kinds import KINDS
from isthmus.cli.client import Client, Document
from isthmus.cli.waiting import Verdict, wait
from isthmus.demo import mariadb
from isthmus.demo.load import Load
from isthmus.demo.vm import VM, join
from isthmus.lab import control, namespaces
from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Host, Process
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0) or mariadb.lacking()),
        reason="this machine can run no lab, or has no MariaDB",
    ),
]

SERVERS = Path(__file__).parent.parent / "scenarios" / "servers.py"
STREAMS = Path(__file__).with_name("steady_streams.py")
CHANGES, BATCH = 500, 25
"""So many changes, and after how many of them every proxy must have them."""
LANES = 2
LEAST_RATE = 3
"""Requests that each lane makes in a second, on a slow machine, too."""
URL = "http://shop.shop:9080/reviews/0"
GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: NAME, namespace: shop}
spec:
  metadata: {labels: {app: APP, version: VERSION}}
  template: {serviceAccount: shop}
---
"""
WORLD = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: shop, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: shop}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 9080}]
---
apiVersion: v1
kind: Service
metadata: {name: database, namespace: shop}
spec:
  selector: {app: shop, version: v1}
  ports: [{name: tcp-mysql, port: 3306}]
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: shop}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 8080}, {name: grpc, port: 9090}, {name: tcp, port: 7000}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: public, namespace: shop}
spec: {hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: shop}}]}]}
---
""" + "".join(
    GROUP.replace("NAME", name).replace("APP", app).replace("VERSION", version)
    for name, app, version in (("vm", "shop", "v1"), ("web", "shop", "v2"), ("client", "client", "v1"))
)
# One connection for as long as the program runs; the server numbers its connections.
QUERIES = """
    import json, signal, time, pymysql
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    said = {"ids": [], "queries": 0, "error": ""}
    try:
        connection = pymysql.connect(
            host="database.shop", user="ratings", password="password", ssl_disabled=True, read_timeout=10
        )
        print("connected", flush=True)
        with connection.cursor() as cursor:
            while not ended:
                cursor.execute("SELECT CONNECTION_ID()")
                (number,) = cursor.fetchone()
                said["ids"] = sorted({*said["ids"], number})
                said["queries"] += 1
                time.sleep(0.01)
    except Exception as error:
        said["error"] = repr(error)
    print("ended", json.dumps(said), flush=True)
"""


@dataclass
class Shop:
    """A VM with a database and a web server, a second web server, a caller, and a gateway before them."""

    lab: Lab
    plane: ControlPlane
    client: Client
    vms: dict[str, VM]
    gateway: Host
    outside: Host
    guest: Host
    """Serves as v2 and is in no mesh; tests make it an endpoint."""

    @property
    def caller(self) -> Host:
        return self.vms["client"].host

    def apply(self, *documents: Document) -> list[Document]:
        """Applies without waiting."""
        return [result["object"] for result in self.client.apply(documents)]

    def await_programmed(self, applied: Sequence[Document]) -> None:
        verdicts: list[Verdict] = []
        good = wait(self.client, applied, 30, verdicts.append)
        assert good, [verdict for verdict in verdicts if verdict.state != "programmed"]

    def delete(self, kind: str, name: str) -> None:
        self.client.delete(KINDS[kind], "shop", name)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("steady") as lab:
            plane = control.start(lab)
            plane.apply(WORLD, wait=False)
            hosts = {name: lab.host(name) for name in ("vm", "web", "client", "guest")}
            mariadb.install(hosts["vm"])
            for name, version in (("vm", "v1"), ("web", "v2"), ("guest", "v2")):
                reviews = hosts[name].python("isthmus.demo.bookinfo.reviews", "9080")
                servers = [sys.executable, str(SERVERS), name, version]
                for what, command in (("reviews", reviews), ("echo", servers)):
                    hosts[name].spawn(command, log=f"{name}-{what}.log").wait_for_line(
                        "listening", timeout_s=60
                    )
            vms = {name: join(plane, hosts[name], f"shop/{name}") for name in ("vm", "web", "client")}
            gateway = lab.host("gateway")
            token = plane.isthmus("gateway", "create", "shop/ingress").strip()
            agent = gateway.spawn(["isthmus", "gateway", "run", token], log="gateway.log")
            agent.wait_for_line("joined", timeout_s=60)
            path = lab.directory / "kubeconfig"
            path.write_text(plane.host.read(control.KUBECONFIG))
            made = Client.from_kubeconfig(path)
            reached = replace(made, host="localhost", port=lab.forward(control.HOST, made.port))
            yield Shop(lab, plane, reached, vms, gateway, lab.host("outside"), hosts["guest"])


def obj(kind: str, name: str, **spec: object) -> Document:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "metadata": metadata, "spec": spec}


def unrelated(chance: random.Random) -> Document:
    """A change that has nothing to do with the database or the shop."""
    number = chance.randrange(20)
    host, port = f"other-{number}.test", chance.choice((80, 443, 3306, 5432, 9080))
    match chance.choice(("entry", "rule", "policy", "sidecar", "service", "machine", "mtls")):
        case "entry":
            protocol = {80: "HTTP", 443: "TLS", 9080: "GRPC"}.get(port, "TCP")
            ports = [{"number": port, "name": f"p{port}", "protocol": protocol}]
            endpoints = [{"address": f"192.0.2.{chance.randrange(1, 200)}"}]
            return obj(
                "ServiceEntry",
                f"e{number}",
                hosts=[host],
                ports=ports,
                resolution="STATIC",
                location="MESH_EXTERNAL",
                endpoints=endpoints,
            )
        case "rule":
            route = [{"destination": {"host": host}}]
            http = [{"timeout": f"{chance.randrange(1, 9)}s", "route": route}]
            return obj("VirtualService", f"v{number}", hosts=[host], http=http)
        case "policy":
            pool = {"http": {"http1MaxPendingRequests": chance.randrange(1, 99)}}
            return obj("DestinationRule", f"d{number}", host=host, trafficPolicy={"connectionPool": pool})
        case "sidecar":
            selector = {"labels": {"app": f"other-{number}"}}
            return obj("Sidecar", f"s{number}", workloadSelector=selector, egress=[{"hosts": ["./*"]}])
        case "service":
            ports = [{"name": "tcp", "port": port + chance.randrange(9)}]
            return obj("Service", f"svc{number}", selector={"app": f"other-{number}"}, ports=ports)
        case "machine":
            address, labels = f"198.51.100.{number + 1}", {"app": f"other-{chance.randrange(20)}"}
            return obj("WorkloadEntry", f"w{number}", address=address, labels=labels)
        case _:
            selector = {"matchLabels": {"app": f"other-{number}"}}
            mode = {"mode": chance.choice(("STRICT", "PERMISSIVE"))}
            return obj("PeerAuthentication", f"p{number}", selector=selector, mtls=mode)


def updates(vm: VM) -> dict[str, int]:
    """How often an Envoy has taken clusters, listeners and route tables."""
    stats = vm.envoy("/stats?format=json&filter=update_success$")["stats"]
    return {
        kind: sum(each.get("value", 0) for each in stats if f".{kind}." in each.get("name", ""))
        for kind in ("cds", "lds", "rds")
    }


def test_a_mysql_connection_and_requests_survive_unrelated_changes(shop: Shop) -> None:
    chance = random.Random(4)
    watched = {name: shop.vms[name] for name in ("vm", "client")}
    before = {name: updates(vm) for name, vm in watched.items()}
    loads, streams = _loads(shop), _streams(shop)
    queries = shop.caller.spawn([sys.executable, "-c", textwrap.dedent(QUERIES)], log="queries.log")
    queries.wait_for_line("connected", timeout_s=60)
    standing: dict[tuple[str, str], Document] = {}
    written: list[tuple[str, str]] = []
    for number in range(1, CHANGES + 1):
        if len(standing) > 10 and chance.random() < 0.25:
            key = chance.choice(sorted(standing))
            shop.delete(*key)
            del standing[key]
        else:
            (applied,) = shop.apply(unrelated(chance))
            standing[applied["kind"], applied["metadata"]["name"]] = applied
            written.append((applied["kind"], applied["metadata"]["name"]))
        if number % BATCH == 0:
            shop.await_programmed([standing[key] for key in dict.fromkeys(written) if key in standing])
            written.clear()
    after = {name: updates(vm) for name, vm in watched.items()}
    queries.signal(signal.SIGTERM)
    said = json.loads(queries.wait_for_line("ended", timeout_s=60).removeprefix("ended "))
    _nothing_broke(loads, streams)
    for key in standing:
        shop.delete(*key)
    assert said["error"] == ""
    assert len(said["ids"]) == 1, f"the connection was made anew: {said}"
    assert said["queries"] > 100
    for name in watched:
        taken = {kind: after[name][kind] - before[name][kind] for kind in after[name]}
        # each batch has several changes of every type; they may arrive merged
        assert min(taken.values()) >= CHANGES // BATCH, (name, taken)


def test_no_request_fails_while_routes_subsets_endpoints_and_mtls_change(shop: Shop) -> None:
    loads, streams = _loads(shop), _streams(shop)
    until = time.monotonic() + 15
    number = 0
    while time.monotonic() < until or number < 10:
        number += 1
        _change(shop, number)
    answers = _nothing_broke(loads, streams)
    shop.await_programmed(shop.apply(_public([{"destination": {"host": "shop"}}])))
    for host in ("shop", "echo"):
        for kind in ("VirtualService", "DestinationRule"):
            shop.delete(kind, host)
    shop.delete("PeerAuthentication", "mode")
    for answered in answers:
        assert answered == {"vm", "web", "guest"}, f"all servers should have answered: {answered}"


def _change(shop: Shop, number: int) -> None:
    """A new name for each subset, routes to them, and every third time a server on a host that goes again.

    Servers refuse plaintext every other time: what is mTLS stays as it is.
    """
    old, new = ("v1", "v2") if number % 2 else ("v2", "v1")
    subsets = [{"name": f"{version}-{number}", "labels": {"version": version}} for version in (old, new)]
    documents = [obj("PeerAuthentication", "mode", mtls={"mode": ("PERMISSIVE", "STRICT")[number % 2]})]
    for host in ("shop", "echo"):
        route: list[dict[str, object]] = [
            {"destination": {"host": host, "subset": f"{version}-{number}"}, "weight": weight}
            for version, weight in ((old, 30), (new, 70))
        ]
        documents += [
            obj("DestinationRule", host, host=host, subsets=subsets),
            obj("VirtualService", host, hosts=[host], http=[{"route": route}]),
        ]
        if host == "shop":
            documents.append(_public(route))
    if number % 3 == 1:
        labels = {"app": "shop", "version": "v2"}
        documents.append(obj("WorkloadEntry", "guest", address=shop.guest.address, labels=labels))
    shop.await_programmed(shop.apply(*documents))
    if number % 3 == 2:
        shop.delete("WorkloadEntry", "guest")


def _public(route: list[dict[str, object]]) -> Document:
    """What the gateway leads to."""
    return obj("VirtualService", "public", hosts=["*"], gateways=["door"], http=[{"route": route}])


@dataclass(frozen=True)
class Lane:
    """A load, and when it began."""

    name: str
    process: Process
    began: float


def _loads(shop: Shop) -> list[Lane]:
    """Requests of a VM and, through the gateway, of a stranger: on kept connections and on fresh ones."""
    through_gateway = f"http://{shop.gateway.address}/reviews/0"
    return [
        _load(host, f"{name}-{where}-{lane}", url, *options)
        for host, where, url in ((shop.caller, "mesh", URL), (shop.outside, "gateway", through_gateway))
        for name, *options in (("kept",), ("fresh", "--fresh"))
        for lane in range(LANES)
    ]


def _load(host: Host, name: str, url: str, *options: str) -> Lane:
    command = host.python("isthmus.demo.load", url, "--pause-ms", "15", *options)
    process = host.spawn(command, log=f"{name}.log")
    process.wait_for_line("loading", timeout_s=60)
    return Lane(name, process, time.monotonic())


def _streams(shop: Shop) -> Process:
    """A gRPC, a TCP and a WebSocket stream of a VM to VMs, all of them open."""
    command = [sys.executable, str(STREAMS), "echo.shop"]
    process = shop.caller.spawn(command, log="streams.log")
    process.wait_for_line("open", timeout_s=60)
    return process


def _nothing_broke(lanes: Sequence[Lane], streams: Process) -> list[set[str]]:
    """Ends all, and returns who answered each lane."""
    for process in (*(lane.process for lane in lanes), streams):
        process.signal(signal.SIGTERM)
    ended = time.monotonic()
    answers = []
    for lane in lanes:
        load = Load(**json.loads(lane.process.wait_for_line("{", timeout_s=60)))
        assert load.failed == 0, f"{lane.name}: {load.failed} of {load.requests}: {load.failures}"
        assert load.requests >= LEAST_RATE * (ended - lane.began), f"{lane.name}: {load.requests}"
        answers.append(set(load.answers))
    told = json.loads(streams.wait_for_line("{", timeout_s=60))
    assert told.keys() == {"grpc", "tcp", "websocket"}
    for kind, said in told.items():
        assert said["error"] == "", (kind, said)
        assert said["rounds"] > 100, (kind, said)
    return answers
