"""Rules of the kinds around traffic: gateways, sidecars, policies, telemetry, filters."""

import time
from typing import Any

import pytest

from documents import document
from isthmus.api.codec import decode
from isthmus.api.documents import read_documents
from isthmus.api.meta import Problem
from isthmus.api.syntax import header_value, subnet, wildcard_domain
from isthmus.api.validate import validate
from isthmus.api.validation.cel import expression_fault

GROUPS = {
    "AuthorizationPolicy": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "ProxyConfig": "networking.istio.io/v1beta1",
    "WasmPlugin": "extensions.istio.io/v1alpha1",
}


def judged(kind: str, spec: dict[str, Any], **metadata: Any) -> list[Problem]:
    """What is wrong with an object of the kind."""
    obj, problems = decode(
        document(GROUPS.get(kind, "networking.istio.io/v1"), kind, "a", "n", spec, **metadata)
    )
    return problems if obj is None else validate(obj)


def refused(kind: str, spec: dict[str, Any], **metadata: Any) -> list[str]:
    """The fields with errors."""
    return [p.field for p in judged(kind, spec, **metadata) if p.severity == "error"]


def server(**changes: Any) -> dict[str, Any]:
    """A Gateway with one server for HTTPS."""
    plain = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": ["*.example.com"],
        "tls": {"mode": "SIMPLE", "credentialName": "cert"},
    }
    return {"servers": [{name: value for name, value in (plain | changes).items() if value is not None}]}


S = "spec.servers[0]"


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (server(), []),
        ({}, ["spec.servers"]),
        (server(hosts=[]), [f"{S}.hosts"]),
        (server(hosts=["short"]), [f"{S}.hosts[0]"]),
        (server(hosts=["ns/*.a.b", "*/*", "./a.b", "1.2.3.4"]), []),
        (server(hosts=["n.s/a.b"]), [f"{S}.hosts[0]"]),
        (server(hosts=["*a.b"]), [f"{S}.hosts[0]"]),
        (server(port=None), [f"{S}.port"]),
        (server(port={}), [f"{S}.port.protocol", f"{S}.port.number", f"{S}.port.name"]),
        (server(bind="a.b"), [f"{S}.bind"]),
        (server(bind="unix:///a"), [f"{S}.port.number"]),
        (server(tls=None), [f"{S}.tls"]),
        (server(port={"number": 80, "name": "http", "protocol": "HTTP"}), [f"{S}.tls"]),
        (server(port={"number": 80, "name": "tcp", "protocol": "TCP"}), [f"{S}.tls"]),
        (server(tls={"mode": "SIMPLE"}), [f"{S}.tls.serverCertificate", f"{S}.tls.privateKey"]),
        (
            server(tls={"mode": "MUTUAL", "serverCertificate": "a", "privateKey": "b"}),
            [f"{S}.tls.caCertificates"],
        ),
        (server(tls={"mode": "ISTIO_MUTUAL", "credentialName": "a"}), [f"{S}.tls.credentialName"]),
        (server(tls={"mode": "SIMPLE", "credentialName": "a", "credentialNames": ["b"]}), [f"{S}.tls"]),
    ],
)
def test_gateways(spec: dict[str, Any], fields: list[str]) -> None:
    assert refused("Gateway", spec) == fields


PORT = {"number": 80, "protocol": "HTTP", "name": "http"}


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({}, ["spec"]),
        ({"egress": [{"hosts": ["*/*"]}]}, []),
        ({"egress": [{"hosts": ["~ns/a.b", "./a.b", "ns/*"]}]}, []),
        ({"egress": [{"hosts": []}]}, ["spec.egress[0].hosts"]),
        ({"egress": [{"hosts": ["a.b"]}]}, ["spec.egress[0].hosts[0]"]),
        ({"egress": [{"hosts": ["*/*"]}, {"hosts": ["*/*"]}]}, ["spec.egress[0]"]),
        ({"egress": [{"port": {"number": 0}, "hosts": ["*/*"]}]}, ["spec.egress[0].bind"]),
        ({"ingress": [{}]}, ["spec.ingress[0].port"]),
        ({"ingress": [{"port": PORT}, {"port": PORT}]}, ["spec.ingress"]),
        ({"ingress": [{"port": PORT, "defaultEndpoint": "[::1]:80"}]}, []),
        ({"ingress": [{"port": PORT, "defaultEndpoint": ":80"}]}, []),
        ({"ingress": [{"port": PORT, "defaultEndpoint": "1.1.1.1:80"}]}, ["spec.ingress[0].defaultEndpoint"]),
        (
            {"ingress": [{"port": PORT, "defaultEndpoint": "127.0.0.1:x"}]},
            ["spec.ingress[0].defaultEndpoint"],
        ),
        ({"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}}, []),
        (
            {"outboundTrafficPolicy": {"egressProxy": {"host": "a.b", "port": {"number": 1}}}},
            ["spec.outboundTrafficPolicy.egressProxy"],
        ),
    ],
)
def test_sidecars(spec: dict[str, Any], fields: list[str]) -> None:
    assert refused("Sidecar", spec) == fields


def rule(**rule: Any) -> dict[str, Any]:
    """An AuthorizationPolicy with one rule."""
    return {"rules": [rule]}


R = "spec.rules[0]"


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({}, []),
        ({"action": "DENY"}, ["spec.rules"]),
        ({"action": "CUSTOM", "rules": [{}]}, ["spec.provider.name"]),
        ({"provider": {"name": "a"}}, ["spec.provider"]),
        ({"selector": {}, "targetRef": {"kind": "Service", "name": "a"}}, ["spec"]),
        ({"targetRefs": [{"kind": "Pod", "name": "a"}]}, ["spec.targetRefs[0]"]),
        (rule(to=[]), [f"{R}.to"]),
        (rule(**{"from": [{}]}), [f"{R}.from[0].source"]),
        (rule(**{"from": [{"source": {}}]}), [f"{R}.from[0].source"]),
        (rule(**{"from": [{"source": {"principals": [""]}}]}), [f"{R}.from[0].source.principals[0]"]),
        (rule(**{"from": [{"source": {"ipBlocks": ["1.2.3.4/33"]}}]}), [f"{R}.from[0].source.ipBlocks[0]"]),
        (
            rule(**{"from": [{"source": {"serviceAccounts": ["a"], "namespaces": ["b"]}}]}),
            [f"{R}.from[0].source"],
        ),
        (
            rule(**{"from": [{"source": {"serviceAccounts": ["a/b/c"]}}]}),
            [f"{R}.from[0].source.serviceAccounts[0]"],
        ),
        (rule(to=[{"operation": {"ports": ["80", "x"]}}]), [f"{R}.to[0].operation.ports[1]"]),
        (rule(to=[{"operation": {"paths": ["/a/{*}/{**}"]}}]), []),
        (rule(to=[{"operation": {"paths": ["/{**}/{*}"]}}]), [f"{R}.to[0].operation.paths[0]"]),
        (rule(to=[{"operation": {"paths": ["/{a}"]}}]), [f"{R}.to[0].operation.paths[0]"]),
        (rule(when=[{"key": "source.ip", "values": ["a"]}]), [f"{R}.when[0].values[0]"]),
        (rule(when=[{"key": "source.ip"}]), [f"{R}.when[0].values"]),
        (rule(when=[{"key": "request.headers", "values": ["a"]}]), [f"{R}.when[0].key"]),
        (rule(when=[{"key": "request.headers[a]", "values": ["b"]}]), []),
        (rule(when=[{"key": "planet", "values": ["a"]}]), [f"{R}.when[0].key"]),
    ],
)
def test_authorization_policies(spec: dict[str, Any], fields: list[str]) -> None:
    assert refused("AuthorizationPolicy", spec) == fields


def test_a_dry_run_is_for_authorization_policies_that_allow_or_deny() -> None:
    annotations = {"istio.io/dry-run": "true"}
    field = "metadata.annotations[istio.io/dry-run]"
    assert refused("AuthorizationPolicy", {}, annotations=annotations) == []
    assert refused("AuthorizationPolicy", {"action": "AUDIT"}, annotations=annotations) == [field]
    assert refused("AuthorizationPolicy", {}, annotations={"istio.io/dry-run": "maybe"}) == [field]
    assert refused("Sidecar", {"egress": [{"hosts": ["*/*"]}]}, annotations=annotations) == [field]


KEY = '{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"%s}]}'
J = "spec.jwtRules[0]"


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ({"issuer": "a", "jwksUri": "https://a/b"}, []),
        ({"jwks": KEY % ""}, [f"{J}.issuer"]),
        ({"issuer": "a", "jwksUri": "ftp://a"}, [f"{J}.jwksUri"]),
        ({"issuer": "a", "jwksUri": "https://a:b"}, [f"{J}.jwksUri"]),
        ({"issuer": "a", "jwksUri": "https://a", "jwks": KEY % ""}, [J]),
        ({"issuer": "a", "jwks": "foo"}, [f"{J}.jwks"]),
        ({"issuer": "a", "jwks": '{"keys":[{"kty":"RSA"}]}'}, [f"{J}.jwks"]),
        ({"issuer": "a", "audiences": [""]}, [f"{J}.audiences[0]"]),
        ({"issuer": "a", "timeout": "1us"}, [f"{J}.timeout"]),
        ({"issuer": "a", "fromHeaders": [{}]}, [f"{J}.fromHeaders[0].name"]),
    ],
)
def test_request_authentications(rule: dict[str, Any], fields: list[str]) -> None:
    assert refused("RequestAuthentication", {"jwtRules": [rule]}) == fields


def test_a_private_key_is_told() -> None:
    found = judged("RequestAuthentication", {"jwtRules": [{"issuer": "a", "jwks": KEY % ',"d":"AQ"'}]})
    assert [(p.severity, p.field) for p in found] == [("warning", f"{J}.jwks")]


@pytest.mark.parametrize(
    ("kind", "spec", "fields"),
    [
        ("Telemetry", {"metrics": [{"overrides": [{"tagOverrides": {"a": {"operation": "UPSERT"}}}]}]}, 1),
        ("Telemetry", {"accessLogging": [{"filter": {"expression": ")++"}}]}, 1),
        ("Telemetry", {"tracing": [{"customTags": {"a": {"literal": {"value": ""}}}}]}, 1),
        ("Telemetry", {"tracing": [{"randomSamplingPercentage": 101}]}, 1),
        ("ProxyConfig", {"concurrency": -1}, 1),
        ("ProxyConfig", {"selector": {"matchLabels": {"a": "*"}}}, 1),
        ("EnvoyFilter", {"configPatches": [{"patch": {"operation": "ADD", "value": {}}}]}, 1),
        ("EnvoyFilter", {"configPatches": [{"applyTo": "CLUSTER", "match": {"listener": {}}}]}, 2),
        ("WasmPlugin", {"url": "ftp://a"}, 1),
        ("WasmPlugin", {"url": "registry:5000/image", "sha256": "a"}, 1),
        ("WasmPlugin", {"url": "oci://a", "vmConfig": {"env": [{"name": "a"}, {"name": "a"}]}}, 1),
    ],
)
def test_kinds_that_are_only_stored_are_checked_too(kind: str, spec: dict[str, Any], fields: int) -> None:
    assert len(refused(kind, spec)) == fields


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("plain", True),
        ("100%%", True),
        ("a %HOSTNAME% b", True),
        ('%UPSTREAM_METADATA(["a", "b"])%', True),
        ("%DYNAMIC_METADATA(a:b)%", True),
        ("abc%123", False),
        ("%START_TIME%%", False),
        ('%A(["a" "b"])%', False),
        ("%A(b", False),
        ("a\nb", False),
    ],
)
def test_header_values(value: str, good: bool) -> None:
    assert (header_value(value) == "") is good


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("*", True),
        ("*.a", True),
        ("*-a.b", True),
        ("A.b.", True),
        ("a.*", False),
        ("a.1", False),
        ("", False),
    ],
)
def test_host_names(name: str, good: bool) -> None:
    assert (wildcard_domain(name) == "") is good


@pytest.mark.parametrize(
    ("text", "good"),
    [("10.1.2.3/16", True), ("fd00::/8", True), ("10.0.0.0/255.0.0.0", False), ("1.2.3.4/08", False)],
)
def test_subnets(text: str, good: bool) -> None:
    assert (subnet(text) == "") is good


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("response.code >= 400 || connection.mtls", True),
        ("request.url_path.contains('v1') && !(a in [1, 2u, .5])", True),
        ('has(a.b) ? {"x": 1}["x"] : Msg{f: b"\\n"}', True),
        (")++++", False),
        ("a ==", False),
        ("a.b(", False),
        ("(" * 1000, False),
        ("'open", False),
    ],
)
def test_expressions(text: str, good: bool) -> None:
    assert (expression_fault(text) == "") is good


DESTINATION = [{"destination": {"host": "b"}}]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("VirtualService", {"hosts": [f"*{i:x}.b" for i in range(50_000)], "http": [{"route": DESTINATION}]}),
        (
            "VirtualService",
            {
                "hosts": ["a"],
                "http": [
                    {"match": [{"uri": {"prefix": f"/{i}"}}], "route": DESTINATION} for i in range(8000)
                ],
            },
        ),
        (
            "VirtualService",
            {"hosts": ["a"], "http": [{"retries": {"attempts": 1, "retryOn": "x," * 200_000}}]},
        ),
        ("Gateway", server(tls={"mode": "SIMPLE", "cipherSuites": [f"C{i}" for i in range(50_000)]})),
        ("AuthorizationPolicy", rule(to=[{"operation": {"ports": ["9" * 900_000]}}])),
        ("Telemetry", {"accessLogging": [{"filter": {"expression": "(" * 500_000}}]}),
        ("RequestAuthentication", {"jwtRules": [{"issuer": "a", "jwks": "[" * 400_000}]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_large_objects_take_no_long_time_and_make_no_large_answer(kind: str, spec: dict[str, Any]) -> None:
    begin = time.process_time()
    found = judged(kind, spec)
    assert time.process_time() - begin < 5
    assert sum(len(str(problem)) for problem in found) < 2_000_000


def test_the_rest_of_the_places_may_come_last() -> None:
    rule = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d, namespace: n}}\n"
        "spec: {{host: a, trafficPolicy: {{loadBalancer: {{localityLbSetting: {{distribute: [{}]}}}}}}}}\n"
    )
    place, rest = "{from: us/a/*, to: {us/b/*: 100}}", '{from: "*", to: {us/b/*: 100}}'

    def told(*distribute: str) -> list[str]:
        documents, _ = read_documents(rule.format(", ".join(distribute)), "test")
        obj, problems = decode(documents[0].data)
        assert obj is not None, problems
        return [problem.text for problem in validate(obj) if problem.severity == "error"]

    assert told(place, rest) == []
    assert "overlap" in told(rest, place)[0]
    assert "overlap" in told(place, rest, rest)[0]
