"""A lab with the scenarios' fixed world in it: brought up once, changed and put back by each scenario.

control   the control plane          web-v1, web-v2   joined, one version each
vm        joined: every server       outside          not joined: plaintext and TLS servers
client    joined: every server
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ruamel.yaml import YAML

from isthmus.api.kinds import KINDS
from isthmus.cli.client import Client, Document, Refused
from isthmus.cli.waiting import Verdict, named, wait
from isthmus.demo import mariadb
from isthmus.demo.vm import JOIN_S, VM
from isthmus.lab import control
from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

HERE = Path(__file__).parent
GROUPS = {"vm": "vm/vm", "client": "client/client", "web-v1": "web/web-v1", "web-v2": "web/web-v2"}
VERSIONS = {"web-v2": "v2"}
OUTSIDE = "outside"
NAMES = ("*.outside.test", "outside.test", "secure.test")
"""What the certificate of the TLS server on `outside` is for."""
CERTIFICATE, ROOTS = "/etc/isthmus/certs/server.pem", "/etc/isthmus/certs/roots.pem"
PROGRAMMED_S = 30.0

Call = Mapping[str, Any]
Answer = dict[str, Any]


@dataclass(slots=True)
class Caller:
    """The program on a host that makes its calls."""

    host: Host
    process: "subprocess.Popen[str]"

    def __call__(self, call: Call) -> list[Answer]:
        """Makes a call, as often as it says."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the caller on {self.host.name} ended: see {self.host.logs}/caller-{self.host.name}.log"
        answers: list[Answer] = json.loads(line)
        return answers


@dataclass(slots=True)
class World:
    """The lab as scenarios use it."""

    lab: Lab
    plane: ControlPlane
    client: Client
    vms: dict[str, VM]
    callers: dict[str, Caller]
    certificates: dict[str, str]
    """The key with its certificate that every host has (`pem`), and what trusts it (`roots`)."""

    @property
    def addresses(self) -> dict[str, tuple[str, ...]]:
        """The addresses of every host."""
        return {name: host.record.addresses for name, host in self.lab.hosts.items()}

    def apply(self, documents: Sequence[Document]) -> list[Verdict]:
        """Applies objects and waits until every proxy has answered; Refused when they are not admitted."""
        verdicts: list[Verdict] = []
        applied = [
            result["object"] for result in self.client.apply([dict(document) for document in documents])
        ]
        wait(self.client, applied, PROGRAMMED_S, verdicts.append)
        late = [verdict for verdict in verdicts if verdict.state == "late"]
        assert not late, (
            f"not programmed after {PROGRAMMED_S:g} s: {late}; "
            f"{self.warming()}; {self.stalled()}; {self.debug()}"
        )
        return verdicts

    def delete(self, documents: Sequence[Document]) -> None:
        """Deletes objects; those that are not there are deleted already."""
        for document in documents:
            try:
                self.client.delete(KINDS[document["kind"]], *place(document))
            except Refused as refused:
                if refused.code != 404:
                    raise

    def condition(self, kind: str, name: str, type_: str) -> Mapping[str, Any]:
        """A condition of an object, given as NAMESPACE/NAME; empty when it has none of that type."""
        namespace, _, bare = name.partition("/")
        document = self.client.get(KINDS[kind], namespace, bare)
        found = [c for c in document.get("status", {}).get("conditions", ()) if c["type"] == type_]
        return found[0] if found else {}

    def counters(self, host: str) -> Mapping[str, int]:
        """What the Envoy of a joined host has counted, by name."""
        told = self.vms[host].envoy("/stats?format=json&type=Counters")
        return {each["name"]: each["value"] for each in told["stats"] if "name" in each}

    def warming(self) -> str:
        """What the Envoys wait for that they have been told of: the usual cause of an answer that is late."""
        kinds = ("dynamic_warming_clusters", "dynamic_warming_secrets")
        found = [
            f"{host}: {each.get('name') or each['cluster']['name']}"
            for host, vm in self.vms.items()
            for kind in kinds
            for each in vm.envoy(f"/config_dump?resource={kind}").get("configs", ())
        ]
        return f"warming: {', '.join(found) or 'nothing'}"

    def stalled(self) -> str:
        """What the control plane told last of proxies that do not come on."""
        lines = [line for line in self.plane.process.output().splitlines() if " late node=" in line]
        return f"told: {lines[-3:]}"

    def debug(self) -> str:
        """How to look around in a lab that stands."""
        enter = " ".join(self.lab.hosts["vm"].argv(["bash"]))
        return f"to look around: {enter}; logs in {self.lab.directory}"


def place(document: Mapping[str, Any]) -> tuple[str, str]:
    """An object's namespace and name."""
    return document["metadata"].get("namespace", ""), document["metadata"]["name"]


@contextmanager
def running() -> Iterator[World]:
    """The world, while the block runs."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.start("scenarios"))
        plane = control.start(lab)
        hosts = {name: lab.host(name) for name in (*GROUPS, OUTSIDE)}
        pem, roots = certificate()
        hosts[OUTSIDE].write(CERTIFICATE, pem)
        client = api(lab, plane)
        objects = documents({name: host.address for name, host in hosts.items()})
        # while a host joins, its address is nobody else's
        client.apply([each for each in objects if each["kind"] != "WorkloadEntry"])
        with ThreadPoolExecutor(8) as pool:
            databases = [pool.submit(mariadb.install, hosts[name]) for name in ("vm", "client")]
            joined = dict(
                zip(GROUPS, pool.map(lambda name: _joined(client, hosts[name]), GROUPS), strict=True)
            )
            _serve(hosts[OUTSIDE], "v1", CERTIFICATE)
            for database in databases:
                database.result()
        for name in GROUPS:
            hosts[name].write(ROOTS, roots)
            hosts[name].write(CERTIFICATE, pem)
        callers = {name: stack.enter_context(caller(host)) for name, host in hosts.items()}
        world = World(lab, plane, client, joined, callers, {"pem": pem, "roots": roots})
        world.apply(objects)
        yield world


def api(lab: Lab, plane: ControlPlane) -> Client:
    """A client of the control plane's API that reaches it from outside the lab."""
    path = lab.directory / "kubeconfig"
    path.write_text(plane.host.read(control.KUBECONFIG))
    made = Client.from_kubeconfig(path)
    return replace(made, host="localhost", port=lab.forward(control.HOST, made.port))


def documents(addresses: Mapping[str, str]) -> list[Document]:
    """The objects of the fixed world."""
    template, _, rest = (HERE / "world.yaml").read_text().partition("# What is written once.")
    texts = [
        template.replace("{joined}", name).replace("{address}", addresses[name]) for name in ("vm", "client")
    ]
    yaml = YAML(typ="safe", pure=True)
    return [document for text in (*texts, rest) for document in yaml.load_all(text) if document]


@contextmanager
def caller(host: Host) -> Iterator[Caller]:
    """The program that makes a host's calls, while the block runs."""
    with (host.logs / f"caller-{host.name}.log").open("wb") as log:
        process = subprocess.Popen(
            host.argv([*host.python("isthmus")[:1], str(HERE / "caller.py")]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=host.clean_environment(),
            cwd="/",
        )
    with process:
        try:
            yield Caller(host, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


def _joined(client: Client, host: Host) -> VM:
    _serve(host, VERSIONS.get(host.name, "v1"))
    namespace, _, group = GROUPS[host.name].partition("/")
    kind = KINDS["JoinToken"]
    token = client.create(
        kind,
        namespace,
        {
            "apiVersion": kind.api_versions[0],
            "kind": kind.kind,
            "metadata": {"generateName": f"{group}-"},
            "spec": {"group": group, "ttl": "15m"},
        },
    ).document["status"]["token"]
    agent = host.spawn(["isthmus", "join", token], log=f"{host.name}-join.log")
    agent.wait_for_line("joined", timeout_s=JOIN_S)
    return VM(host, agent)


def _serve(host: Host, version: str, *certificate: str) -> None:
    command = [host.python("isthmus")[0], str(HERE / "servers.py"), host.name, version, *certificate]
    host.spawn(command, log=f"{host.name}-servers.log").wait_for_line("listening", timeout_s=60)


def certificate() -> tuple[str, str]:
    """A key with its certificate for the TLS server on `outside`, and what trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, OUTSIDE)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in NAMES]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret.decode() + pem, pem


def until(holds: Callable[[], Any], timeout_s: float) -> Any:
    """What `holds` returns when it is true, or at last."""
    deadline = time.monotonic() + timeout_s
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


__all__ = ["Answer", "Caller", "World", "named", "running"]
