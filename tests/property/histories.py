"""Random objects of few names, so that later writes meet earlier ones, and the steps of a mesh's history."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "envoy"))
sys.path.insert(0, str(Path(__file__).parent.parent / "live"))

from certificates import Outside
from real_plane import document

from isthmus.api.meta import Object

REFUSED_BY_ENVOY = "/(abcdefghijklmnopqrstuvwxyz0123456789){1000}"
"""As a program it has more instructions than we let Envoy take; only Envoy can tell."""
HOSTS = ("a", "b", "a.shop.svc.cluster.local", "ext.test", "api.wild.test", "*.wild.test", "gone")
PORTS = ((80, "http"), (3306, "tcp"), (8000, "unnamed"), (443, "tls"), (9090, "grpc"), (81, "http-two"))

SUBSET_POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"loadBalancer": {"simple": "RANDOM"}},
    {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}},
    {"outlierDetection": {"consecutive5xxErrors": 3}},
    {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}},
    {"tls": {"mode": "DISABLE"}},
)
OUTSIDE = Outside()
PAIRS = tuple((pair.certificate, pair.key) for pair in (OUTSIDE.pair("ext.test"), OUTSIDE.pair("ext.test")))
PAIRS += ((PAIRS[0][0], PAIRS[1][1]),)

ports: st.SearchStrategy[list[tuple[int, str]]] = st.lists(
    st.sampled_from(PORTS), min_size=1, max_size=3, unique=True
)
hosts = st.sampled_from(HOSTS)
versions = st.sampled_from(("v1", "v2"))


def service_ports(chosen: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    return [{"port": number, "name": name} for number, name in chosen]


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(("a", "b")))
    headless = {"clusterIP": "None"} if draw(st.booleans()) else {}
    return document(
        "Service", name, {**headless, "selector": {"app": name}, "ports": service_ports(draw(ports))}
    )


@st.composite
def service_entries(draw: st.DrawFn) -> dict[str, Any]:
    resolution = draw(st.sampled_from(("STATIC", "STATIC", "NONE", "DNS")))
    host = draw(st.sampled_from(("ext.test", "*.wild.test", "api.wild.test", "a.shop.svc.cluster.local")))
    spec: dict[str, Any] = {
        "hosts": [host],
        "resolution": resolution,
        "location": draw(st.sampled_from(("MESH_EXTERNAL", "MESH_INTERNAL"))),
        "ports": [
            {"number": number, "name": name, "protocol": name.partition("-")[0].upper()}
            for number, name in draw(ports)
            if name != "unnamed"
        ]
        or [{"number": 80, "name": "http", "protocol": "HTTP"}],
    }
    if draw(st.booleans()):
        spec["addresses"] = draw(st.sampled_from((["10.9.0.1"], ["10.9.0.0/16"], ["10.9.0.1", "10.9.0.2"])))
    if resolution == "STATIC":
        if draw(st.booleans()):
            spec["workloadSelector"] = {"labels": {"app": "a"}}
        else:
            address = draw(st.sampled_from(("192.0.2.1", "192.0.2.2")))
            spec["endpoints"] = [{"address": address, "labels": {"version": draw(versions)}}]
    elif resolution == "DNS" and "*" in host:
        spec["endpoints"] = [{"address": "target.test"}]
    return document("ServiceEntry", draw(st.sampled_from(("e1", "e2"))), spec)


@st.composite
def workload_entries(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(("w1", "w2", "w3")))
    labels = {"app": draw(st.sampled_from(("a", "b"))), "version": draw(versions)}
    spec: dict[str, Any] = {"address": f"10.0.1.{name[1]}", "labels": labels, "serviceAccount": "shop"}
    if draw(st.booleans()):
        spec["weight"] = draw(st.integers(1, 5))
    return document("WorkloadEntry", name, spec)


@st.composite
def virtual_services(draw: st.DrawFn) -> dict[str, Any]:
    host = draw(hosts)
    destination: dict[str, Any] = {"host": draw(hosts)}
    if draw(st.booleans()):
        destination["subset"] = draw(versions)
    match draw(st.sampled_from(("http", "http", "regex", "tcp", "tls", "refused"))):
        case "tcp":
            routes: dict[str, Any] = {
                "tcp": [{"match": [{"port": 3306}], "route": [{"destination": destination}]}]
            }
        case "tls":
            sni = host if "." in host else f"{host}.test"
            match = [{"port": 443, "sniHosts": [sni]}]
            routes = {"tls": [{"match": match, "route": [{"destination": destination}]}]}
        case kind:
            uri = {
                "http": {"prefix": "/x"},
                "regex": {"regex": "/x.*"},
                "refused": {"regex": REFUSED_BY_ENVOY},
            }
            first = {"match": [{"uri": uri[kind]}], "route": [{"destination": destination}]}
            rest = {"route": [{"destination": {"host": host}}], "timeout": f"{draw(st.integers(1, 3))}s"}
            routes = {"http": [first, rest]}
    bound = draw(st.sampled_from(([], [], ["door"], ["mesh", "door", "gate"])))
    spec = {"hosts": [host], **({"gateways": bound} if bound else {}), **routes}
    return document("VirtualService", draw(st.sampled_from(("v1", "v2"))), spec)


@st.composite
def destination_rules(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {"host": draw(hosts)}
    if draw(st.booleans()):
        own = draw(st.sampled_from(SUBSET_POLICIES))
        spec["subsets"] = [
            {"name": name, "labels": {"version": name}, **({"trafficPolicy": own} if own else {})}
            for name in ("v1", "v2")
        ]
    if draw(st.booleans()):
        mode = draw(st.sampled_from(("DISABLE", "SIMPLE", "ISTIO_MUTUAL")))
        spec["trafficPolicy"] = {"tls": {"mode": mode}}
    if draw(st.booleans()):
        pool = {"tcp": {"maxConnections": draw(st.integers(1, 3))}}
        spec["trafficPolicy"] = {**spec.get("trafficPolicy", {}), "connectionPool": pool}
    return document("DestinationRule", draw(st.sampled_from(("d1", "d2"))), spec)


@st.composite
def sidecars(draw: st.DrawFn) -> dict[str, Any]:
    seen = draw(st.sampled_from(([], ["./*"], ["*/*"], ["./a.shop.svc.cluster.local", "*/ext.test"])))
    spec: dict[str, Any] = {"egress": [{"hosts": seen}]} if seen else {}
    if draw(st.booleans()):
        spec["outboundTrafficPolicy"] = {"mode": "REGISTRY_ONLY"}
    if draw(st.booleans()):
        port = {"number": 9080, "name": "http", "protocol": "HTTP"}
        spec["ingress"] = [{"port": port, "defaultEndpoint": "127.0.0.1:8080"}]
        spec["workloadSelector"] = {"labels": {"app": "a"}}
    return document("Sidecar", "default", spec)


@st.composite
def gateways(draw: st.DrawFn) -> dict[str, Any]:
    servers = {
        "http": {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [draw(hosts)]},
        "tcp": {"port": {"number": 3306, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
        "tls": {
            "port": {"number": 443, "name": "tls", "protocol": "TLS"},
            "hosts": ["*.wild.test"],
            "tls": {"mode": "PASSTHROUGH"},
        },
        "https": {
            "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
            "hosts": ["ext.test"],
            "tls": {"mode": "SIMPLE", "credentialName": "credential"},
        },
    }
    chosen = draw(st.lists(st.sampled_from(sorted(servers)), min_size=1, unique=True))
    spec = {"selector": {"app": "a"}, "servers": [servers[name] for name in chosen]}
    return document("Gateway", draw(st.sampled_from(("door", "gate"))), spec)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    mode = {"mode": draw(st.sampled_from(("STRICT", "PERMISSIVE", "DISABLE")))}
    if draw(st.booleans()):
        return document("PeerAuthentication", "default", {"mtls": mode})
    spec = {"selector": {"matchLabels": {"app": "a"}}, "portLevelMtls": {"3306": mode, "80": mode}}
    return document("PeerAuthentication", "ports", spec)


@st.composite
def access(draw: st.DrawFn) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if draw(st.booleans()):
        rule["from"] = [
            {"source": draw(st.sampled_from(({"namespaces": ["shop"]}, {"ipBlocks": ["10.0.0.0/8"]})))}
        ]
    if draw(st.booleans()):
        rule["to"] = [{"operation": draw(st.sampled_from(({"paths": ["/admin*"]}, {"ports": ["3306"]})))}]
    spec = {"action": draw(st.sampled_from(("ALLOW", "DENY"))), "rules": [rule]}
    return document("AuthorizationPolicy", draw(st.sampled_from(("p1", "p2"))), spec)


@st.composite
def mesh_configs(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "outboundTrafficPolicy": {"mode": draw(st.sampled_from(("ALLOW_ANY", "REGISTRY_ONLY")))}
    }
    if draw(st.booleans()):
        spec["h2UpgradePolicy"] = "UPGRADE"
    if draw(st.booleans()):
        spec["accessLogFile"] = "/dev/stdout"
    if draw(st.booleans()):
        spec["connectTimeout"] = "3s"
    return document("MeshConfig", "default", spec, namespace="isthmus-system")


@st.composite
def secrets(draw: st.DrawFn) -> dict[str, Any]:
    """The certificate of a gateway's server, or one that cannot be used."""
    pair = draw(st.sampled_from(PAIRS))
    made = document("Secret", "credential", {})
    del made["spec"]
    return {**made, "type": "kubernetes.io/tls", "stringData": {"tls.crt": pair[0], "tls.key": pair[1]}}


KINDS = (
    services,
    service_entries,
    workload_entries,
    virtual_services,
    destination_rules,
    sidecars,
    gateways,
    policies,
    access,
    mesh_configs,
    secrets,
)
objects = st.one_of(*(kind() for kind in KINDS))
steps = st.one_of(
    st.tuples(st.just("write"), st.lists(objects, min_size=1, max_size=4)),
    st.tuples(st.just("write"), st.lists(objects, min_size=1, max_size=2)),
    st.tuples(st.just("delete"), st.integers(0, 20)),
    st.tuples(st.just("settle"), st.none()),
    st.tuples(st.just("breathe"), st.sampled_from((1, 5, 20))),
    st.tuples(st.just("break_streams"), st.none()),
    st.tuples(st.just("restart"), st.none()),
)


def is_refused(obj: Object) -> bool:
    """Whether only Envoy can tell that it is wrong."""
    return REFUSED_BY_ENVOY in obj.spec.model_dump_json()
