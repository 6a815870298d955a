"""What one object may not say: each rule with its path."""

from typing import Any

import pytest

from documents import (
    document,
    namespace,
    service,
    service_entry,
    virtual_service,
    workload_entry,
    workload_group,
)
from isthmus.api.codec import decode
from isthmus.api.meta import Problem
from isthmus.api.validate import validate


def judged(doc: dict[str, Any]) -> list[Problem]:
    """What is wrong with a readable document."""
    obj, problems = decode(doc)
    assert obj is not None, problems
    return validate(obj)


def errors(doc: dict[str, Any]) -> list[str]:
    """The fields with errors."""
    return [problem.field for problem in judged(doc) if problem.severity == "error"]


def warnings(doc: dict[str, Any]) -> list[str]:
    """The fields with warnings."""
    return [problem.field for problem in judged(doc) if problem.severity == "warning"]


def to(host: str, **destination: Any) -> dict[str, Any]:
    """A weighted destination."""
    return {"destination": {"host": host, **destination}}


@pytest.mark.parametrize(
    "doc",
    [
        namespace(),
        service("details"),
        service("details", clusterIP="None", ports=[]),
        service_entry("mysql"),
        service_entry("mysql", workloadSelector={"labels": {"app": "mysql"}}, location="MESH_INTERNAL"),
        workload_entry("vm-1"),
        workload_entry("vm-1", "fd00::1"),
        workload_group("mysql"),
        virtual_service("reviews"),
        virtual_service("*.example.com") | {"metadata": {"name": "a", "namespace": "n"}},
        document("security.istio.io/v1", "PeerAuthentication", "a", "n", {"mtls": {"mode": "STRICT"}}),
        document("isthmus.dev/v1alpha1", "JoinToken", "a", "n", {"group": "mysql", "ttl": "15m"}),
    ],
    ids=lambda doc: doc["kind"],
)
def test_ordinary_objects_have_no_problems(doc: dict[str, Any]) -> None:
    assert judged(doc) == []


@pytest.mark.parametrize(
    ("name", "kind", "good"),
    [
        ("a.b-c", "WorkloadEntry", True),
        ("mysql-fd00--1", "WorkloadEntry", True),
        ("A", "WorkloadEntry", False),
        ("a..b", "WorkloadEntry", False),
        ("a" * 254, "WorkloadEntry", False),
        ("1a", "Service", False),
        ("a.b", "Service", False),
        ("a.b", "Namespace", False),
    ],
)
def test_names(name: str, kind: str, good: bool) -> None:
    doc = {"WorkloadEntry": workload_entry("a"), "Service": service("a"), "Namespace": namespace("a")}[kind]
    doc["metadata"]["name"] = name
    assert errors(doc) == ([] if good else ["metadata.name"])


def test_labels_and_annotations() -> None:
    doc = workload_entry(
        "a", labels={"app.kubernetes.io/name": "x", "-a": "b", "c": "d e"}, annotations={"a b": "c"}
    )
    assert errors(doc) == ["metadata.labels", "metadata.labels.c", "metadata.annotations"]


ROUTE = {"route": [to("b")]}


@pytest.mark.parametrize(
    ("http", "field"),
    [
        ({}, ".route"),
        ({"redirect": {"uri": "/"}, **ROUTE}, ""),
        ({"redirect": {}}, ".redirect"),
        ({"redirect": {"uri": "/", "redirectCode": 200}}, ".redirect.redirectCode"),
        ({"redirect": {"scheme": "ftp"}}, ".redirect.scheme"),
        ({"redirect": {"uri": "/"}, "fault": {"abort": {"httpStatus": 500}}}, ""),
        ({"redirect": {"uri": "/"}, "rewrite": {"uri": "/"}}, ""),
        ({"directResponse": {"status": 99}}, ".directResponse.status"),
        ({"directResponse": {"status": 200, "body": {"string": "x" * 1048577}}}, ".directResponse.body"),
        ({"rewrite": {}, **ROUTE}, ".rewrite"),
        ({"route": [to("*")]}, ".route[0].destination.host"),
        ({"route": [to("")]}, ".route[0].destination.host"),
        ({"route": [to("a b")]}, ".route[0].destination.host"),
        ({"route": [to("a", subset="v_1")]}, ".route[0].destination.subset"),
        ({"route": [to("a") | {"weight": -1}]}, ".route[0].weight"),
        ({"route": [to("a"), to("b")]}, ".route"),
        ({"timeout": "0s", **ROUTE}, ".timeout"),
        ({"retries": {"attempts": -1}, **ROUTE}, ".retries.attempts"),
        ({"retries": {"perTryTimeout": "1s"}, **ROUTE}, ".retries"),
        ({"retries": {"attempts": 1, "retryOn": "5xx,sometimes"}, **ROUTE}, ".retries.retryOn"),
        ({"retries": {"attempts": 1, "perTryTimeout": "1us"}, **ROUTE}, ".retries.perTryTimeout"),
        ({"fault": {}, **ROUTE}, ".fault"),
        ({"fault": {"abort": {"httpStatus": 700}}, **ROUTE}, ".fault.abort.httpStatus"),
        ({"fault": {"delay": {"fixedDelay": "0s"}}, **ROUTE}, ".fault.delay.fixedDelay"),
        ({"match": [{"uri": {"exact": "/", "prefix": "/"}}], **ROUTE}, ".match[0].uri"),
        ({"match": [{"uri": {"regex": ""}}], **ROUTE}, ".match[0].uri.regex"),
        ({"match": [{"uri": {"regex": "("}}], **ROUTE}, ".match[0].uri.regex"),
        ({"match": [{"uri": {"regex": "a(?=b)"}}], **ROUTE}, ".match[0].uri.regex"),
        ({"match": [{"scheme": {"prefix": ""}}], **ROUTE}, ".match[0].scheme.prefix"),
        ({"match": [{"headers": {"a b": {"exact": "c"}}}], **ROUTE}, ".match[0].headers"),
        ({"headers": {"request": {"set": {"": "x"}}}, **ROUTE}, ".headers.request.set"),
        ({"headers": {"response": {"remove": [":status"]}}, **ROUTE}, ".headers.response.remove[0]"),
    ],
)
def test_http_rules(http: dict[str, Any], field: str) -> None:
    assert errors(virtual_service("a", http)) == [f"spec.http[0]{field}"]


@pytest.mark.parametrize(
    "match",
    [
        {"uri": {"prefix": ""}},
        {"uri": {"regex": r"/(?i)a\pL\z"}},
        {"headers": {"end-user": {}, ":authority": {"exact": "a"}}},
        {"queryParams": {"a b": {"exact": ""}}},
        {"withoutHeaders": {"x": {"regex": ".*"}}},
    ],
)
def test_matches_that_are_fine(match: dict[str, Any]) -> None:
    assert errors(virtual_service("a", {"match": [match], **ROUTE})) == []


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"hosts": ["*"]}, ["spec.hosts[0]"]),
        ({"hosts": ["a.b", "*.b", "a.b"]}, ["spec.hosts[0]", "spec.hosts[2]"]),
        ({"hosts": ["a.*.b"]}, ["spec.hosts[0]"]),
        ({"gateways": ["mesh", "a/*"]}, ["spec.gateways[1]"]),
        ({"http": []}, ["spec"]),
        ({"http": [], "tcp": [{"match": [{"port": 3306}]}]}, ["spec.tcp[0].route"]),
        ({"http": [], "tcp": [{"route": [to("a"), to("b")]}]}, ["spec.tcp[0].route"]),
        ({"exportTo": ["*", "a"]}, ["spec.exportTo"]),
        ({"exportTo": ["a", "a"]}, ["spec.exportTo"]),
        ({"exportTo": ["a.b"]}, ["spec.exportTo[0]"]),
        ({"exportTo": [".", "bookinfo"]}, ["spec.exportTo"]),
    ],
)
def test_virtual_service_rules(spec: dict[str, Any], fields: list[str]) -> None:
    assert errors(virtual_service("a", **spec)) == fields


def test_a_rule_that_is_never_reached_is_told() -> None:
    doc = virtual_service("a", ROUTE, {"match": [{"uri": {"exact": "/"}}], **ROUTE})
    assert (errors(doc), warnings(doc)) == ([], ["spec.http[1]"])


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"host": ""}, ["spec.host"]),
        ({"trafficPolicy": {}}, ["spec.trafficPolicy"]),
        ({"trafficPolicy": {"connectionPool": {}}}, ["spec.trafficPolicy.connectionPool"]),
        (
            {"trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": -1, "connectTimeout": "0s"}}}},
            [
                "spec.trafficPolicy.connectionPool.tcp.maxConnections",
                "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
            ],
        ),
        (
            {"trafficPolicy": {"outlierDetection": {"interval": "1us"}}},
            ["spec.trafficPolicy.outlierDetection.interval"],
        ),
        (
            {"trafficPolicy": {"portLevelSettings": [{"tls": {}}]}},
            ["spec.trafficPolicy.portLevelSettings[0].port"],
        ),
        (
            {"trafficPolicy": {"portLevelSettings": [{"port": {"number": 1}}]}},
            ["spec.trafficPolicy.portLevelSettings[0]"],
        ),
        ({"subsets": [{"name": "v_1"}]}, ["spec.subsets[0].name"]),
        ({"subsets": [{"name": "v1"}, {"name": "v1"}]}, ["spec.subsets"]),
        ({"subsets": [{"name": "v1", "labels": {"a": "b c"}}]}, ["spec.subsets[0].labels.a"]),
    ],
)
def test_destination_rule_rules(spec: dict[str, Any], fields: list[str]) -> None:
    assert (
        errors(document("networking.istio.io/v1", "DestinationRule", "a", "n", {"host": "a", **spec}))
        == fields
    )


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"portLevelMtls": {"80": {"mode": "STRICT"}}}, ["spec"]),
        ({"selector": {"matchLabels": {"a": "*"}}}, ["spec.selector.matchLabels.a"]),
        ({"selector": {"matchLabels": {"": "b"}}}, ["spec.selector.matchLabels"]),
    ],
)
def test_peer_authentication_rules(spec: dict[str, Any], fields: list[str]) -> None:
    assert errors(document("security.istio.io/v1", "PeerAuthentication", "a", "n", spec)) == fields


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"hosts": []}, ["spec.hosts"]),
        ({"hosts": ["*"]}, ["spec.hosts[0]"]),
        ({"hosts": ["a.b", "c.d"]}, ["spec.hosts"]),
        ({"addresses": ["10.0.0.0/33"]}, ["spec.addresses[0]"]),
        ({"addresses": ["10.0.0.0/8"], "resolution": "DNS"}, ["spec.addresses"]),
        ({"ports": [{"number": 1, "name": "a"}, {"number": 1, "name": "a"}]}, ["spec.ports", "spec.ports"]),
        ({"ports": [{"number": 1, "name": "A_B"}]}, ["spec.ports[0].name"]),
        ({"ports": [{"number": 1, "name": "a", "protocol": "SPDY"}]}, ["spec.ports[0].protocol"]),
        ({"endpoints": [{"address": "a.b"}]}, ["spec.endpoints[0].address"]),
        ({"endpoints": [{"address": "1.1.1.1", "ports": {"x": 1}}]}, ["spec.endpoints[0].ports"]),
        ({"endpoints": [{"address": "1.1.1.1"}], "resolution": "NONE"}, ["spec.endpoints"]),
        ({"endpoints": [{"address": "1.1.1.1"}], "workloadSelector": {"labels": {"a": "b"}}}, ["spec"]),
        ({"workloadSelector": {"labels": {"a": "*"}}}, ["spec.workloadSelector.labels.a"]),
        ({"resolution": "DNS", "hosts": ["*.a.b"]}, ["spec.hosts[0]"]),
    ],
)
def test_service_entry_rules(spec: dict[str, Any], fields: list[str]) -> None:
    assert errors(service_entry("a", **spec)) == fields


@pytest.mark.parametrize("address", ["", "300.1.1.1", "a_b", "unix://a", "unix:///a/", "a.b:80"])
def test_addresses_that_no_workload_has(address: str) -> None:
    assert errors(workload_entry("a", address)) == ["spec.address"]


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"ports": []}, ["spec.ports"]),
        ({"ports": [{"port": 80}, {"port": 81, "name": "a"}]}, ["spec.ports[0].name"]),
        ({"ports": [{"port": 80, "targetPort": 0}]}, ["spec.ports[0].targetPort"]),
        ({"ports": [{"port": 80, "targetPort": "A"}]}, ["spec.ports[0].targetPort"]),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, ["spec.ports"]),
        ({"clusterIP": "x"}, ["spec.clusterIP"]),
        ({"clusterIP": "1.1.1.1", "clusterIPs": ["1.1.1.2"]}, ["spec.clusterIPs"]),
    ],
)
def test_service_rules(spec: dict[str, Any], fields: list[str]) -> None:
    assert errors(service("a", **spec)) == fields


def test_join_token_rules() -> None:
    spec = {"group": "A", "ttl": "48h"}
    assert errors(document("isthmus.dev/v1alpha1", "JoinToken", "a", "n", spec)) == ["spec.group", "spec.ttl"]
