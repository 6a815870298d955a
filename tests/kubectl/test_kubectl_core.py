"""Stock kubectl on Kubernetes' own kinds: their defaults are there, and stay out of the way."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubectl_client import Kubectl

from documents import document, service
from isthmus.api.meta import Key
from isthmus.identity.ca import Authority
from isthmus.identity.serving import ServingIdentity
from isthmus.store.base import Delete

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]


def bare(api_version: str, kind: str, name: str = "a", **body: Any) -> dict[str, Any]:
    """A document whose fields stand beside the metadata."""
    found = document(api_version, kind, name, "bookinfo", {}) | body
    return {name: value for name, value in found.items() if name != "spec"}


SLICE = bare(
    "discovery.k8s.io/v1",
    "EndpointSlice",
    addressType="IPv4",
    endpoints=[{"addresses": ["10.0.0.1"]}],
    ports=[{"port": 80}],
)
ENDPOINTS = bare(
    "v1", "Endpoints", subsets=[{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "name": "http"}]}]
)
POD = document("v1", "Pod", "a", "bookinfo", {"containers": [{"name": "c", "image": "c"}]})
KINDS = [
    service("a"),
    bare("v1", "Secret", data={"a": "Yg=="}),
    bare("v1", "ConfigMap", data={"a": "b"}),
    bare("v1", "ServiceAccount"),
    SLICE,
    ENDPOINTS,
    POD,
]


@pytest.mark.parametrize("body", KINDS, ids=lambda body: body["kind"])
@pytest.mark.parametrize("flags", [[], ["--server-side"]], ids=["client side", "server side"])
def test_the_same_file_changes_nothing(kube: Kubectl, body: dict[str, Any], flags: list[str]) -> None:
    text = json.dumps(body)
    kube.fine("apply", *flags, "-f", "-", stdin=text)
    name = f"{body['kind'].lower()}/{body['metadata']['name']}"
    version = kube.fine("get", name, "-o", "jsonpath={.metadata.resourceVersion}")
    again = kube.fine("apply", *flags, "-f", "-", stdin=text)
    # kubectl takes lists that merge whole for changed when defaults are in them; the object is the same
    word = "configured" if body in (SLICE, ENDPOINTS) else "unchanged"
    assert again.split()[1] == ("serverside-applied" if flags else word)
    assert kube.fine("get", name, "-o", "jsonpath={.metadata.resourceVersion}") == version
    assert kube("diff", *flags, "-f", "-", stdin=text).out == ""


def owned(kube: Kubectl, name: str) -> dict[str, Any]:
    """What the manager of an object owns of its spec."""
    (entry,) = json.loads(kube.fine("get", name, "-o", "json", "--show-managed-fields"))["metadata"][
        "managedFields"
    ]
    found: dict[str, Any] = entry["fieldsV1"]["f:spec"]
    return found


def test_defaults_belong_to_who_creates_and_to_nobody_who_applies(kube: Kubectl) -> None:
    """As a real API server has it; the virtual address is nobody's either way."""
    kube.fine("create", "service", "clusterip", "a", "--tcp=80")
    made = owned(kube, "svc/a")
    assert {"f:internalTrafficPolicy", "f:sessionAffinity", "f:type"} <= made.keys()
    assert "f:clusterIP" not in made
    kube.fine("apply", "--server-side", "-f", "-", stdin=json.dumps(service("b")))
    applied = owned(kube, "svc/b")
    assert applied.keys() == {"f:ports", "f:selector"}
    # another one may say what was a default without a conflict
    body = document("v1", "Service", "b", "bookinfo", {"sessionAffinity": "None", "type": "NodePort"})
    kube.fine("apply", "--server-side", "--field-manager=me", "-f", "-", stdin=json.dumps(body))


def test_what_kubectl_counts_on_is_there(kube: Kubectl) -> None:
    for body in (SLICE, ENDPOINTS, POD, service("a"), bare("v1", "Secret")):
        kube.fine("apply", "-f", "-", stdin=json.dumps(body))
    told = kube.fine("describe", "endpointslice", "a").split()
    assert told[told.index("Endpoints:") - 3 : told.index("Endpoints:")] == ["<unset>", "80", "TCP"]
    assert "TCP" in kube.fine("describe", "endpoints", "a")
    described = kube.fine("describe", "svc", "a")
    assert "9080/TCP" in described
    assert ["Session", "Affinity:", "None"] in [line.split() for line in described.splitlines()]
    assert ["Type:", "Opaque"] in [line.split() for line in kube.fine("describe", "secret", "a").splitlines()]
    assert ["Status:", "Pending"] in [line.split() for line in kube.fine("describe", "pod", "a").splitlines()]


def test_a_namespace_says_whether_it_ends(kube: Kubectl) -> None:
    phase = "--for=jsonpath={.status.phase}="
    kube.fine("wait", "ns/bookinfo", f"{phase}Active", "--timeout=10s")
    kube.fine("patch", "ns/bookinfo", "--subresource=status", "--type=merge", "-p", '{"status":null}')
    assert kube.fine("get", "ns/bookinfo", "-o", "jsonpath={.status.phase}") == "Active"
    held = service("a") | {"metadata": {"name": "a", "namespace": "bookinfo", "finalizers": ["x.org/y"]}}
    kube.fine("create", "-f", "-", stdin=json.dumps(held))
    kube.fine("delete", "ns/bookinfo", "--wait=false")
    kube.fine("wait", "ns/bookinfo", f"{phase}Terminating", "--timeout=10s")
    kube.fine("label", "ns/bookinfo", "a=b")
    assert kube.fine("get", "ns/bookinfo", "-o", "jsonpath={.status.phase}") == "Terminating"
    kube.fine("patch", "svc/a", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kube.fine("wait", "ns/bookinfo", "--for=delete", "--timeout=10s")


@pytest.mark.parametrize("body", KINDS, ids=lambda body: body["kind"])
def test_changes_are_counted_where_kubernetes_counts_them(kube: Kubectl, body: dict[str, Any]) -> None:
    """But of Services, too: their condition `Programmed` says of which generation it is."""
    kube.fine("create", "-f", "-", stdin=json.dumps(body))
    name = f"{body['kind'].lower()}/{body['metadata']['name']}"
    found = kube.fine("get", name, "-o", "jsonpath={.metadata.generation}")
    assert found == ("1" if body["kind"] in {"Service", "EndpointSlice", "Pod"} else "")


@pytest.fixture(params=["default", "isthmus-system"])
def lasting(kube: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that no client can take away."""
    name: str = request.param
    kube.fine("create", "ns", name)
    yield name
    kube.server.run(kube.server.store.apply([Delete(Key("Namespace", "", name))]))


def test_namespaces_that_the_mesh_stands_on_may_not_be_deleted(kube: Kubectl, lasting: str) -> None:
    name = lasting
    text = f'namespaces "{name}" is forbidden: this namespace may not be deleted'
    refused = f"Error from server (Forbidden): {text}\n"
    for how in ([], ["--dry-run=server"], ["--cascade=foreground"], ["--cascade=orphan"]):
        done = kube("delete", "ns", name, *how)
        assert (done.code, done.err.endswith(refused)) == (1, True), (how, done)
    everything = kube("delete", "ns", "--all")
    assert (everything.code, refused in everything.err) == (1, True)
    assert f"namespace/{name}\n" in kube.fine("get", "ns", "-o", "name")
    assert kube.server.request("DELETE", "/api/v1/namespaces").code == 403


def test_who_am_i(kube: Kubectl) -> None:
    told = [line.split() for line in kube.fine("auth", "whoami").splitlines()]
    assert ["Username", "admin"] in told
    assert ["Groups", "[system:authenticated]"] in told
    who = json.loads(kube.fine("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert who["extra"] == {"isthmus.dev/role": ["admin"]}


CREATED: dict[str, Any] = {
    "namespace a": {},
    "configmap a --from-literal=k=v": {"data": {"k": "v"}},
    "secret generic a --from-literal=k=v": {"type": "Opaque", "data": {"k": "dg=="}},
    "secret docker-registry a --docker-username=u --docker-password=p": {
        "type": "kubernetes.io/dockerconfigjson"
    },
    "secret tls a --cert=CERT --key=KEY": {"type": "kubernetes.io/tls"},
    "serviceaccount a": {},
    "service clusterip a --tcp=80:8080": {"spec.type": "ClusterIP", "spec.ports.0.targetPort": 8080},
    "service nodeport a --tcp=80:http": {"spec.type": "NodePort", "spec.ports.0.targetPort": "http"},
    "service loadbalancer a --tcp=80": {"spec.type": "LoadBalancer", "spec.ports.0.targetPort": 80},
    "service externalname a --external-name=x.org": {"spec.externalName": "x.org"},
    "ingress a --class=istio --default-backend=d:80 --rule=x.org/p*=b:http,tls=cert": {
        "spec": {
            "ingressClassName": "istio",
            "defaultBackend": {"service": {"name": "d", "port": {"number": 80}}},
            "tls": [{"hosts": ["x.org"], "secretName": "cert"}],
            "rules": [
                {
                    "host": "x.org",
                    "http": {
                        "paths": [
                            {
                                "path": "/p",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "b", "port": {"name": "http"}}},
                            }
                        ]
                    },
                }
            ],
        }
    },
}


def at(value: Any, path: str) -> Any:
    """What stands at a path such as `spec.ports.0.port`."""
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else value[part]
    return value


@pytest.mark.parametrize("command", CREATED)
def test_what_kubectl_creates_by_itself(kube: Kubectl, command: str, tmp_path: Path) -> None:
    """It writes these in protobuf."""
    authority = Authority.open(tmp_path / "ca", "cluster.local", lambda: datetime.now(UTC))
    serving = ServingIdentity.open(tmp_path / "s", authority, ("x.org",), lambda: datetime.now(UTC))
    files = {"CERT": str(serving.chain_path), "KEY": str(serving.key_path)}
    words = [word.replace("CERT", files["CERT"]).replace("KEY", files["KEY"]) for word in command.split()]
    kube.fine("create", *words)
    kind = words[0]
    document = json.loads(kube.fine("get", kind, "a", "-o", "json"))
    for path, expected in CREATED[command].items():
        assert at(document, path) == expected


def with_status(body: dict[str, Any], **status: Any) -> dict[str, Any]:
    """The document with a status, which is written by itself."""
    return body | {"status": status}


def balanced(address: str) -> dict[str, Any]:
    """The status of what has a load balancer at an address."""
    return {"loadBalancer": {"ingress": [{"ip": address}]}}


def cluster_wide(body: dict[str, Any]) -> dict[str, Any]:
    """The document of a kind that stands in no namespace."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "namespace"}
    return body | {"metadata": metadata}


READY = {"type": "Ready", "status": "True"}
BACKEND = {"service": {"name": "b", "port": {"number": 80}}}
RULES = [
    {"host": "x.org", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}},
    {"host": "y.org"},
]
MASTER = {"node-role.kubernetes.io/control-plane": ""}
TABLES: dict[str, tuple[dict[str, Any], str, str]] = {
    "ns/bookinfo": ({}, "NAME STATUS AGE", "bookinfo Active"),
    "svc/a": (
        service("a", 9080, clusterIP="10.1.1.1", externalIPs=["192.0.2.1"]),
        "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) PROGRAMMED AGE",
        "a ClusterIP 10.1.1.1 192.0.2.1 9080/TCP",
    ),
    "svc/b": (
        with_status(service("b", 80, 81, clusterIP="None", type="LoadBalancer"), **balanced("192.0.2.2")),
        "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) PROGRAMMED AGE",
        "b LoadBalancer None 192.0.2.2 80/TCP,81/TCP",
    ),
    "svc/c": (
        service("c", 80, clusterIP="10.1.1.3", type="LoadBalancer"),
        "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) PROGRAMMED AGE",
        "c LoadBalancer 10.1.1.3 <pending> 80/TCP",
    ),
    "svc/d": (
        document("v1", "Service", "d", "bookinfo", {"type": "ExternalName", "externalName": "x.org"}),
        "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) PROGRAMMED AGE",
        "d ExternalName <none> x.org <none>",
    ),
    "sa/a": (bare("v1", "ServiceAccount", secrets=[{"name": "s"}]), "NAME SECRETS AGE", "a 1"),
    "secret/a": (bare("v1", "Secret", data={"k": "Yg==", "l": "Yg=="}), "NAME TYPE DATA AGE", "a Opaque 2"),
    "cm/a": (
        bare("v1", "ConfigMap", data={"k": "v"}, binaryData={"l": "Yg=="}),
        "NAME DATA AGE",
        "a 2",
    ),
    "ep/a": (ENDPOINTS, "NAME ENDPOINTS AGE", "a 10.0.0.1:80"),
    "endpointslice/a": (
        SLICE | {"endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in range(1, 6)]},
        "NAME ADDRESSTYPE PORTS ENDPOINTS AGE",
        "a IPv4 80 10.0.0.1,10.0.0.2,10.0.0.3 + 2 more...",
    ),
    "pod/a": (
        with_status(POD, phase="Running", containerStatuses=[{"ready": True, "restartCount": 2}]),
        "NAME READY STATUS RESTARTS AGE",
        "a 1/1 Running 2",
    ),
    "pod/b": (
        with_status(
            document("v1", "Pod", "b", "bookinfo", POD["spec"]),
            phase="Running",
            containerStatuses=[{"ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
        ),
        "NAME READY STATUS RESTARTS AGE",
        "b 0/1 CrashLoopBackOff 0",
    ),
    "no/n": (
        with_status(
            cluster_wide(document("v1", "Node", "n", "", {"unschedulable": True}, labels=MASTER)),
            conditions=[READY],
            nodeInfo={"kubeletVersion": "v1.34.0"},
        ),
        "NAME STATUS ROLES AGE VERSION",
        "n Ready,SchedulingDisabled control-plane v1.34.0",
    ),
    "ingressclass/a": (
        cluster_wide(
            document(
                "networking.k8s.io/v1",
                "IngressClass",
                "a",
                "",
                {"controller": "x.org/c", "parameters": {"apiGroup": "x.org", "kind": "P", "name": "p"}},
            )
        ),
        "NAME CONTROLLER PARAMETERS AGE",
        "a x.org/c P.x.org/p",
    ),
    "ing/a": (
        with_status(
            document("networking.k8s.io/v1", "Ingress", "a", "bookinfo", {"rules": RULES, "tls": [{}]}),
            **balanced("192.0.2.3"),
        ),
        "NAME CLASS HOSTS ADDRESS PORTS AGE",
        "a <none> x.org,y.org 192.0.2.3 80, 443",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_those_of_kubernetes(kube: Kubectl, name: str) -> None:
    """But for PROGRAMMED, which Services have here; ages are left out, wherever they stand."""
    body, head, row = TABLES[name]
    if body:
        kube.fine("apply", "-f", "-", stdin=json.dumps(body))
    if status := body.get("status"):
        patch = json.dumps({"status": status})
        kube.fine("patch", name, "--subresource=status", "--type=merge", "-p", patch)
    lines = kube.fine("get", name).splitlines()
    assert lines[0].split() == head.split()
    begins = [match.start() for match in re.finditer(r"\S+", lines[0])]
    spans = zip(head.split(), begins, [*begins[1:], None], strict=True)
    cells = [lines[1][begin:end].strip() for column, begin, end in spans if column != "AGE"]
    assert " ".join(filter(None, cells)) == row
    if name[:2] in ("no", "in"):
        kube.fine("delete", name)


def test_a_table_stands_whatever_a_status_says(kube: Kubectl) -> None:
    kube.fine("apply", "-f", "-", stdin=json.dumps(POD))
    for odd in ({"containerStatuses": 5, "phase": {}}, {"containerStatuses": [5, {"restartCount": "x"}]}):
        patch = json.dumps({"status": odd})
        kube.fine("patch", "pod/a", "--subresource=status", "--type=merge", "-p", patch)
        assert kube.fine("get", "pods").splitlines()[1].split()[:2] == ["a", "0/1"]
