"""TLS to servers, kinds of services -> clusters and endpoints; a real Envoy takes every policy at once."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3
from envoy.extensions.clusters.common.dns.v3 import dns_pb2 as dns_v3
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2 as dns_cluster_v3
from envoy.extensions.transport_sockets.proxy_protocol.v3 import (
    upstream_proxy_protocol_pb2 as proxy_protocol_v3,
)
from fed_envoy import Envoy
from policy_world import addresses, cluster, cluster_with, entry, http_options, rule, tls_context
from real_envoy import can_unshare, running, served
from real_identity import secrets

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET
from makers import BOOKINFO, World, service, workload

# TLS


API = "outbound|443||api.example.com"
EXTERNAL = entry(
    "api",
    "hosts: [api.example.com], resolution: DNS, subjectAltNames: [api.example.com], "
    "ports: [{number: 443, name: http, protocol: HTTP}, {number: 444, name: grpc, protocol: GRPC}]",
)


def _secret_names(context: dict[str, Any]) -> list[str]:
    common = context["commonTlsContext"]
    found = [s["name"] for s in common.get("tlsCertificateSdsSecretConfigs", ())]
    validation = common.get("combinedValidationContext", {}).get("validationContextSdsSecretConfig")
    return [*found, *([validation["name"]] if validation else [])]


def test_tls_to_servers_outside() -> None:
    world = World().apply(BOOKINFO, EXTERNAL, rule("{tls: {mode: SIMPLE}}", "api.example.com"))
    found = cluster(world, API)
    context = tls_context(found.transport_socket)
    assert _secret_names(context) == ["file-root:system"]
    assert "sni" not in context
    options = http_options(found)
    assert options["upstreamHttpProtocolOptions"] == {"autoSni": True, "autoSanValidation": True}
    assert options["explicitHttpConfig"] == {"httpProtocolOptions": {}}
    grpc = tls_context(cluster(world, API.replace("443", "444")).transport_socket)
    assert grpc["commonTlsContext"]["alpnProtocols"] == ["h2"]


def test_tls_with_certificates_in_files() -> None:
    said = """{tls: {mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem,
                     sni: api.internal, subjectAltNames: [api.internal], caCrl: /dev/null}}"""
    world = World().apply(BOOKINFO, EXTERNAL, rule(said, "api.example.com"))
    found = cluster(world, API)
    context = tls_context(found.transport_socket)
    assert _secret_names(context) == ["file-cert:/c.pem~/k.pem", "file-root:/ca.pem"]
    assert context["sni"] == "api.internal"
    validation = context["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"]
    assert {san["matcher"]["exact"] for san in validation["matchTypedSubjectAltNames"]} == {"api.internal"}
    assert validation["crl"] == {"filename": "/dev/null"}
    assert "upstreamHttpProtocolOptions" not in http_options(found)


def test_a_server_that_is_believed_unseen() -> None:
    world = World().apply(
        BOOKINFO, EXTERNAL, rule("{tls: {mode: SIMPLE, insecureSkipVerify: true}}", "api.example.com")
    )
    context = tls_context(cluster(world, API).transport_socket)
    assert _secret_names(context) == []
    assert context["commonTlsContext"]["validationContext"] == {}


@pytest.mark.parametrize(("more", "names"), [
    ("", None),
    (", workloadSelector: {matchLabels: {app: productpage}}",
     ["kubernetes://cred", "kubernetes://cred-cacert"]),
])  # fmt: skip
def test_a_credential_is_for_chosen_callers_only(more: str, names: list[str] | None) -> None:
    said = "{tls: {mode: MUTUAL, credentialName: cred}}"
    found = cluster(World().apply(BOOKINFO, EXTERNAL, rule(said, "api.example.com", more)), API)
    assert found.HasField("transport_socket") == (names is not None)
    if names:
        assert _secret_names(tls_context(found.transport_socket)) == names


def test_a_credential_comes_over_ads_to_those_who_may_hold_it(tmp_path: Path) -> None:
    said = "{tls: {mode: MUTUAL, credentialName: cred}}"
    chosen = ", workloadSelector: {matchLabels: {app: productpage}}"
    secrets(tmp_path)
    roots = base64.b64encode((tmp_path / "roots.pem").read_bytes()).decode()
    held = f"""---
apiVersion: v1
kind: Secret
metadata: {{name: cred-cacert, namespace: bookinfo}}
data: {{ca.crt: {roots}}}
"""
    world = World().apply(BOOKINFO, EXTERNAL, rule(said, "api.example.com", chosen), held)
    assert set(world.manifest(SECRET, "bookinfo", "productpage-1")) == {"kubernetes://cred-cacert"}
    assert world.manifest(SECRET, "bookinfo", "ratings-1") == {}


def test_the_meshs_tls_with_a_name_and_identities_of_ones_own() -> None:
    found = cluster_with(
        "{tls: {mode: ISTIO_MUTUAL, sni: gateway, subjectAltNames: ['spiffe://td/ns/a/sa/b']}}"
    )
    context = tls_context(found.transport_socket)
    assert context["sni"] == "gateway"
    validation = context["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"]
    (san,) = validation["matchTypedSubjectAltNames"]
    assert san["matcher"] == {"exact": "spiffe://td/ns/a/sa/b"}


def test_what_is_dialled_need_not_be_of_the_subset() -> None:
    """A headless service's callers dial a machine by its address, whatever subset a rule sends them to."""
    world = World().apply(
        BOOKINFO,
        service("x", 80, vip="None"),
        workload("x-1", "10.0.7.1", app="x", version="v1"),
        rule("{}", "x", ", subsets: [{name: v2, labels: {version: v2}}]"),
    )
    found = cluster(world, "outbound|80|v2|x.bookinfo.svc.cluster.local")
    context = tls_context(found.transport_socket)
    assert context["sni"] == "outbound_.80_.v2_.x.bookinfo.svc.cluster.local"


def test_the_callers_address_goes_first() -> None:
    found = cluster_with("{proxyProtocol: {version: V2}, tls: {mode: DISABLE}}")
    outer = proxy_protocol_v3.ProxyProtocolUpstreamTransport()
    assert found.transport_socket.typed_config.Unpack(outer)
    assert outer.config.version == 1
    assert outer.transport_socket.name == "envoy.transport_sockets.raw_buffer"
    auto = cluster_with("{proxyProtocol: {version: V1}}")
    names = {match.transport_socket.name for match in auto.transport_socket_matches}
    assert names == {"envoy.transport_sockets.upstream_proxy_protocol"}


# kinds of services


def test_names_that_envoy_asks_dns_for() -> None:
    entries = "".join(
        entry(
            name,
            f"hosts: [{name}.example.com], ports: [{{number: 80, name: http}}], resolution: {said}{more}",
        )
        for name, said, more in [
            ("strict", "DNS", ", endpoints: [{address: a.com}, {address: b.com, locality: eu}]"),
            ("logical", "DNS_ROUND_ROBIN", ""),
            ("empty", "DNS", ", location: MESH_INTERNAL, workloadSelector: {labels: {app: none}}"),
        ]
    )
    world = World().apply(BOOKINFO, entries)
    strict, logical = (cluster(world, f"outbound|80||{name}.example.com") for name in ("strict", "logical"))
    assert [len(place.lb_endpoints) for place in strict.load_assignment.endpoints] == [1, 1]
    dns = dns_cluster_v3.DnsCluster()
    assert logical.cluster_type.typed_config.Unpack(dns)
    assert dns.all_addresses_in_single_endpoint
    assert "outbound|80||empty.example.com" not in world.manifest(CLUSTER, "bookinfo", "productpage-1")


def test_where_the_caller_wanted_to_at_another_port() -> None:
    said = "hosts: [x.com], ports: [{number: 80, name: http, targetPort: 8080}], resolution: NONE"
    found = cluster(World().apply(BOOKINFO, entry("x", said)), "outbound|80||x.com")
    assert found.original_dst_lb_config.upstream_port_override.value == 8080
    assert not found.HasField("transport_socket")


@pytest.mark.parametrize(("address", "family"), [("10.0.1.1", "V4_PREFERRED"), ("fd00::1:1", "AUTO")])
def test_names_are_resolved_to_what_the_caller_can_dial(address: str, family: str) -> None:
    """AUTO asks for IPv6 first: a machine known by such an address may have no other."""
    said = "hosts: [x.com], ports: [{number: 80, name: http}], resolution: DNS"
    world = World().apply(BOOKINFO, entry("x", said), workload("caller-1", address, app="caller"))
    dns = dns_cluster_v3.DnsCluster()
    assert cluster(world, "outbound|80||x.com", "caller-1").cluster_type.typed_config.Unpack(dns)
    assert dns_v3.DnsLookupFamily.Name(dns.dns_lookup_family) == family


def test_passed_through_to_the_port_that_was_dialled() -> None:
    said = "hosts: [x.com], ports: [{number: 80, name: http, targetPort: 8080}], resolution: STATIC"
    passing = rule("{loadBalancer: {simple: PASSTHROUGH}}", "x.com")
    found = cluster(World().apply(BOOKINFO, entry("x", said), passing), "outbound|80||x.com")
    assert cluster_v3.Cluster.DiscoveryType.Name(found.type) == "ORIGINAL_DST"
    assert not found.HasField("original_dst_lb_config")


@pytest.mark.parametrize(("tls", "names"), [
    ("mode: SIMPLE", {"autoSni": True, "autoSanValidation": True}),
    ("mode: SIMPLE, sni: a.example", {"autoSanValidation": True}),
    ("mode: SIMPLE, subjectAltNames: [a.example]", {"autoSni": True, "autoSanValidation": True}),
    ("mode: SIMPLE, insecureSkipVerify: true", {"autoSni": True}),
    ("mode: SIMPLE, credentialName: cred", None),
    ("mode: ISTIO_MUTUAL", {"autoSni": True, "autoSanValidation": True}),
    ("mode: ISTIO_MUTUAL, sni: a.example, insecureSkipVerify: true", None),
])  # fmt: skip
def test_tls_to_servers_that_requests_name(tls: str, names: dict[str, Any] | None) -> None:
    """Below a wildcard no name is that of all servers: each must prove the one that the request has."""
    said = "hosts: ['*.x.com'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DYNAMIC_DNS"
    world = World().apply(BOOKINFO, entry("x", said), rule(f"{{tls: {{{tls}}}}}", "*.x.com"))
    found = cluster(world, "outbound|80||*.x.com")
    assert http_options(found).get("upstreamHttpProtocolOptions") == names
    if found.HasField("transport_socket"):
        sni = "a.example" if "sni:" in tls else None
        assert tls_context(found.transport_socket).get("sni") == sni


def test_a_unix_socket() -> None:
    said = "hosts: [x.com], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: 'unix:///x'}]"
    world = World().apply(BOOKINFO, entry("x", said))
    body = world.manifest(ENDPOINTS, "bookinfo", "productpage-1")["outbound|80||x.com"].body
    (place,) = assignment_v3.ClusterLoadAssignment.FromString(body).endpoints
    assert place.lb_endpoints[0].endpoint.address.pipe.path == "/x"


def test_callers_on_no_node_use_no_endpoints_of_nodes() -> None:
    text = service("x", 80).replace("spec:\n", "spec:\n  internalTrafficPolicy: Local\n")
    slices = """---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: x, namespace: bookinfo, labels: {kubernetes.io/service-name: x}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [1.1.1.1], nodeName: n}, {addresses: [2.2.2.2]}]
"""
    world = World().apply(BOOKINFO, text, slices)
    assert addresses(world, "outbound|80||x.bookinfo.svc.cluster.local") == {"2.2.2.2": 0}


def test_hosts_of_several_namespaces_are_seen_apart() -> None:
    said = "hosts: [x.com], exportTo: ['.'], ports: [{number: 80, name: http}], resolution: STATIC"
    said += ", endpoints: [%s]"
    world = World().apply(
        BOOKINFO,
        entry("x", said % "{address: 1.1.1.1}"),
        entry("x", said % "{address: 2.2.2.2}").replace("bookinfo", "isthmus-system"),
    )
    assert addresses(world, "outbound|80||x.com") == {"1.1.1.1": 0}
    other = world.manifest(ENDPOINTS, "isthmus-system", "isthmus-1")["outbound|80||x.com"]
    assert b"2.2.2.2" in other.body


# all of it, taken by Envoy

EVERYTHING = BOOKINFO + "".join(
    service(f"x{i}", 80, port_name=name) + rule(policy, f"x{i}")
    for i, (name, policy) in enumerate(
        [
            ("http", "{loadBalancer: {simple: PASSTHROUGH}}"),
            ("http", "{retryBudget: {percent: 33, budgetInterval: 2.5s}}"),
            ("http", "{loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 11}}}}"),
            ("http", "{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 9}}}}"),
            ("http", "{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 10s, aggression: 2}}}"),
            ("http", "{loadBalancer: {warmupDurationSecs: 5s}}"),
            ("http", "{outlierDetection: {consecutive5xxErrors: 0, outlierDetectionHttpErrorCodes: [429]}}"),
            ("http", "{outlierDetection: {splitExternalLocalOriginErrors: true, minHealthPercent: 10}}"),
            ("http", "{loadBalancer: {zoneAwareLbSetting: {minClusterSize: 3}}}"),
            ("http", "{loadBalancer: {zoneAwareLbSetting: {enabled: false}}}"),
            (
                "http",
                "{outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}",
            ),
            ("http", "{loadBalancer: {localityLbSetting: {distribute: [{from: '*', to: {'*': 100}}]}}}"),
            ("http", "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 1s}}}}"),
            ("http", "{connectionPool: {http: {useClientProtocol: true, maxConcurrentStreams: 5}}}"),
            ("tcp", "{connectionPool: {tcp: {idleTimeout: 0s, maxConnectionDuration: 1h}}}"),
            ("any", "{retryBudget: {}, proxyProtocol: {version: V1}}"),
            ("any", "{tls: {mode: ISTIO_MUTUAL}, proxyProtocol: {version: V2}}"),
            ("tls", "{tls: {mode: SIMPLE, insecureSkipVerify: true}}"),
            ("http", "{tls: {mode: SIMPLE, insecureSkipVerify: true, sni: x}}"),
        ]
    )
)
ENTRIES = "".join(
    entry(f"e{i}", f"hosts: [e{i}.com], {spec}")
    for i, spec in enumerate(
        [
            "ports: [{number: 80, name: http}], resolution: DNS_ROUND_ROBIN",
            "ports: [{number: 80, name: http}], resolution: NONE",
            "ports: [{number: 80, name: http, targetPort: 81}], resolution: NONE",
            "ports: [{number: 9, name: any}], resolution: STATIC, endpoints: [{address: 'unix:///x'}]",
            "ports: [{number: 81, name: tcp}], resolution: NONE, addresses: [10.77.0.0/16, 10.78.0.1]",
            "ports: [{number: 80, name: http}], resolution: DNS, endpoints: [{address: a.com, locality: a}]",
        ]
    )
)


def _shuffled(text: str) -> str:
    return "---\n".join(reversed(text.split("---\n")))


def test_the_order_of_objects_and_unrelated_objects_change_nothing() -> None:
    world, other = World().apply(EVERYTHING, ENTRIES), World().apply(_shuffled(EVERYTHING + ENTRIES))
    private = entry("z", "hosts: [z.com], exportTo: ['.'], ports: [{number: 1, name: tcp}], resolution: NONE")
    other.apply(
        private.replace("bookinfo", "elsewhere"),
        rule("{tls: {mode: SIMPLE}}", "*").replace("bookinfo", "elsewhere"),
        service("unused", 80, namespace="elsewhere").replace(
            "{name: unused,", "{name: unused, annotations: {networking.istio.io/exportTo: '.'},"
        ),
    )
    for type_url in (CLUSTER, ENDPOINTS):
        one, two = (w.manifest(type_url, "bookinfo", "productpage-1") for w in (world, other))
        assert {n: r.version for n, r in one.items()} == {n: r.version for n, r in two.items()}


@pytest.mark.envoy
@pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)")
async def test_envoy_takes_all_of_it(tmp_path: Path) -> None:
    subsets = ", ".join(f"{{name: s{i}, labels: {{version: v{i}}}}}" for i in range(1000))
    many = rule("{}", "details", f", subsets: [{subsets}]")
    world = World().apply(EVERYTHING, ENTRIES, many)
    manifests = {
        t: world.manifest(t, "bookinfo", "productpage-1")
        for t in (CLUSTER, ENDPOINTS, LISTENER, ROUTES, EXTENSION)
    }
    assert len(manifests[CLUSTER]) > 1000
    socket = tmp_path / "xds.sock"
    async with served(socket) as discovery, running(tmp_path, socket), asyncio.timeout(18):
        discovery.secrets = secrets(tmp_path)
        await discovery.push(manifests)
        await discovery.wait_accepted(CLUSTER, ENDPOINTS, LISTENER, ROUTES)
        envoy = Envoy(tmp_path / "admin.sock", tmp_path / "envoy.log")
        dump = json.loads(await envoy.get("/config_dump?resource=dynamic_active_clusters"))
        budgets = [
            limits["retry_budget"]
            for found in dump["configs"]
            for limits in found["cluster"].get("circuit_breakers", {}).get("thresholds", ())
            if "retry_budget" in limits
        ]
        # Envoy reads what the messages that we write it with do not know
        wanted = {"budget_percent": {"value": 33}, "budget_interval": "2.500s", "min_retry_concurrency": 3}
        assert wanted in budgets
