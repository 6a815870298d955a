"""A robot with the role `agent`, over HTTPS: it reads services and workloads, and reports health; no more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from documents import namespace, service, service_entry, virtual_service, workload_entry
from isthmus.api.kinds import KINDS
from isthmus.cli.client import Client, Refused
from isthmus.cli.main import main
from kube_server import KubeServer, kube_server

ENTRY = "/apis/networking.istio.io/v1/namespaces/bookinfo/workloadentries/vm"
MERGE = "application/merge-patch+json"
SICK = {"status": {"conditions": [{"type": "Healthy", "status": "False"}]}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server with a little of each."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "bookinfo"}}
        found.apply(namespace(), namespace("other"), secret)
        found.apply(
            service("ratings"), service_entry("mysql"), virtual_service("reviews"), workload_entry("vm")
        )
        found.apply(workload_entry("vm", namespace="other"))
        yield found


@pytest.fixture(scope="module")
def agent(server: KubeServer, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A client with the role in one namespace."""
    file = tmp_path_factory.mktemp("agent") / "agent.kubeconfig"
    command = ["user", "create", "robot", "--role", "agent", "-n", "bookinfo", "-o", str(file)]
    made = CliRunner().invoke(main, command, env={"ISTHMUS_KUBECONFIG": str(server.kubeconfig)})
    assert made.exit_code == 0, made.output
    return Client.from_kubeconfig(Path(file))


def denied(agent: Client, verb: str, path: str, body: object = None) -> str:
    """How the server refuses it."""
    with pytest.raises(Refused) as refused:
        agent.request(verb, path, body, media_type=MERGE if verb == "PATCH" else "application/json")
    assert refused.value.code == 403
    return str(refused.value)


def test_it_reads_services_and_workloads(agent: Client) -> None:
    for kind, name in (("Service", "ratings"), ("ServiceEntry", "mysql"), ("WorkloadEntry", "vm")):
        assert agent.get(KINDS[kind], "bookinfo", name)["metadata"]["name"] == name
        assert len(agent.listing(KINDS[kind], "bookinfo", {})["items"]) == 1


def test_it_reports_health_and_changes_nothing_else(agent: Client) -> None:
    answer = agent.request("PATCH", f"{ENTRY}/status", SICK, media_type=MERGE).document
    assert answer["status"]["conditions"][0]["status"] == "False"
    both = {"spec": {"address": "10.9.9.9"}, **SICK}
    assert agent.request("PATCH", f"{ENTRY}/status", both, media_type=MERGE).document["spec"] == {
        "address": "10.0.0.1"
    }
    said = denied(agent, "PATCH", ENTRY, {"spec": {"address": "10.9.9.9"}})
    assert 'User "robot" cannot patch resource "workloadentries"' in said
    assert 'cannot delete resource "workloadentries"' in denied(agent, "DELETE", ENTRY)
    assert agent.get(KINDS["WorkloadEntry"], "bookinfo", "vm")["spec"]["address"] == "10.0.0.1"


def test_everything_else_is_closed(agent: Client) -> None:
    rules = "/apis/networking.istio.io/v1/namespaces/bookinfo/virtualservices"
    assert 'cannot list resource "virtualservices"' in denied(agent, "GET", rules)
    assert 'cannot get resource "secrets"' in denied(agent, "GET", "/api/v1/namespaces/bookinfo/secrets/s")
    elsewhere = ENTRY.replace("bookinfo", "other")
    assert 'in the namespace "other"' in denied(agent, "GET", elsewhere)
    assert 'in the namespace "other"' in denied(agent, "PATCH", f"{elsewhere}/status", SICK)
    denied(agent, "GET", "/apis/isthmus.dev/v1alpha1/users")
