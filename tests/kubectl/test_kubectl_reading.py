"""Stock kubectl reads: discovery, tables, documents, watches, explanations."""

import json
import re

import pytest
from kubectl_client import Kubectl

from documents import service, service_entry, workload_entry

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]


def test_versions_and_resources(kube: Kubectl) -> None:
    assert re.search(r"Server Version: v1\.\d+\.\d+\+isthmus", kube.fine("version"))
    versions = kube.fine("api-versions").split()
    assert {"v1", "networking.istio.io/v1", "security.istio.io/v1", "isthmus.dev/v1alpha1"} <= set(versions)
    rows = {line.split()[0]: line.split()[1:] for line in kube.fine("api-resources").splitlines()[1:]}
    assert rows["virtualservices"] == ["vs", "networking.istio.io/v1", "true", "VirtualService"]
    assert rows["envoyfilters"] == ["networking.istio.io/v1alpha3", "true", "EnvoyFilter"]
    assert kube.fine("cluster-info").count("is running at") == 1


def test_tables(kube: Kubectl) -> None:
    kube.server.apply(service_entry("mysql", location="MESH_EXTERNAL"), service("ratings", 9080, 9081))
    lines = [re.split(r"\s{2,}", line) for line in kube.fine("get", "se").splitlines()]
    assert lines[0] == ["NAME", "HOSTS", "LOCATION", "RESOLUTION", "PROGRAMMED", "AGE"]
    assert lines[1][:4] == ["mysql", '["mysql.example.com"]', "MESH_EXTERNAL", "STATIC"]
    assert re.fullmatch(r"\d+s", lines[1][-1])
    assert kube.fine("get", "se", "-A").splitlines()[0].startswith("NAMESPACE   NAME")
    assert kube.fine("get", "serviceentries.v1beta1.networking.istio.io").splitlines()[1].startswith("mysql")
    wide = kube.fine("get", "svc", "-o", "wide").splitlines()
    assert wide[0].endswith("SELECTOR")
    assert "9080/TCP,9081/TCP" in wide[1]
    assert "app=ratings" in wide[1]
    assert kube.fine("get", "all", "-o", "name").split() == ["service/ratings"]
    named = kube.fine("get", "istio-io", "-o", "name").split()
    assert named == ["serviceentry.networking.istio.io/mysql"]
    assert kube("get", "dr").err == "No resources found in bookinfo namespace.\n"
    missing = kube("get", "se", "none")
    assert (missing.code, missing.err) == (
        1,
        'Error from server (NotFound): serviceentries.networking.istio.io "none" not found\n',
    )


def test_documents(kube: Kubectl) -> None:
    kube.server.apply(service_entry("mysql"))
    document = json.loads(kube.fine("get", "se", "mysql", "-o", "json"))
    assert document["spec"]["hosts"] == ["mysql.example.com"]
    assert "managedFields" not in document["metadata"]
    shown = kube.fine("get", "se", "mysql", "-o", "yaml", "--show-managed-fields")
    assert "f:resolution: {}" in shown
    assert kube.fine("get", "se", "-o", "jsonpath={.items[*].metadata.name}") == "mysql"


def test_lists_come_in_pages_and_by_selectors(kube: Kubectl) -> None:
    kube.server.apply(
        *(workload_entry(f"vm-{n:02}", f"10.0.0.{n}", labels={"odd": str(n % 2)}) for n in range(20))
    )
    named = kube.fine("get", "we", "--chunk-size=3", "-o", "name").split()
    assert named == [f"workloadentry.networking.istio.io/vm-{n:02}" for n in range(20)]
    assert len(kube.fine("get", "we", "--chunk-size=7").splitlines()) == 21
    assert len(kube.fine("get", "we", "-l", "odd=1", "--chunk-size=4", "-o", "name").split()) == 10
    only = kube.fine("get", "we", "--field-selector", "metadata.name=vm-07", "-o", "name").split()
    assert only == ["workloadentry.networking.istio.io/vm-07"]
    refused = kube("get", "we", "--field-selector", "spec.address=x")
    assert 'field label not supported: "spec.address"' in refused.err


def test_a_watch(kube: Kubectl) -> None:
    kube.server.apply(workload_entry("a"))
    with kube.spawn("get", "we", "-w", "-o", "name") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline() == "workloadentry.networking.istio.io/a\n"
        kube.server.apply(workload_entry("b", "10.0.0.2"))
        assert watch.stdout.readline() == "workloadentry.networking.istio.io/b\n"
        watch.terminate()
    with kube.spawn("get", "we", "b", "-w") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().split()[0] == "NAME"
        first = watch.stdout.readline()
        kube.server.apply(workload_entry("a", "10.0.0.3"), workload_entry("b", "10.0.0.4"))
        second = watch.stdout.readline()
        assert (first.split()[0], second.split()[0]) == ("b", "b")
        assert "10.0.0.4" in second
        watch.terminate()


def test_explanations(kube: Kubectl) -> None:
    text = kube.fine("explain", "vs.spec.http.retries")
    assert "FIELD: retries <HTTPRetry>" in text
    assert re.search(r"perTryTimeout\s+<string>\n\s+Time limit of each try", text)
    assert "KIND:       Service\n" in kube.fine("explain", "service")
    assert "<[]ServicePort>" in kube.fine("explain", "svc.spec", "--recursive")
    assert "serviceAccount" in kube.fine("explain", "we.spec", "--api-version=networking.istio.io/v1alpha3")
    assert 'field "nothing" does not exist' in kube("explain", "vs.spec.nothing").err


def test_what_may_i_do(kube: Kubectl) -> None:
    assert kube.fine("auth", "can-i", "create", "vs") == "yes\n"
    assert "virtualservices.networking.istio.io" in kube.fine("auth", "can-i", "--list")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("vs.spec", "Spec of a VirtualService."),
        ("vs.spec.http.retries", "When a failed request is tried again."),
        ("dr.spec.trafficPolicy.outlierDetection", "taken out for a while"),
        ("vs.status.conditions", "What is so and what is not"),
        ("vs.status.conditions.reason", "One word for machines"),
        ("vs.metadata.managedFields", "operation"),
        ("vs.metadata.managedFields.fieldsV1", "The fields"),
    ],
)
def test_explanations_of_fields_with_types_of_their_own(kube: Kubectl, field: str, words: str) -> None:
    told = kube.fine("explain", field)
    described = told.partition("DESCRIPTION:")[2].partition("FIELDS:")[0].strip()
    assert (words in told, "<empty>" in described) == (True, False)
    assert len(set(described.splitlines())) == len(described.splitlines())
