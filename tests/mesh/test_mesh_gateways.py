"""Which Gateways a proxy obeys, what they make together, and who is told what he lost."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh import gateways, gateways_listeners, gateways_plan
from isthmus.mesh.analyse import problems_of
from makers import World

GATE = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: gate
  namespace: edge
  labels: {istio: ingressgateway}
  annotations: {isthmus.dev/proxy: gateway}
spec: {address: 10.0.0.9, serviceAccount: gate}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 240.240.0.4, ports: [{name: http, port: 80}]}
---
"""
BOUND = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge/a, edge/b]
  http: [{route: [{destination: {host: web}}]}]
  tcp: [{route: [{destination: {host: web}}]}]
  tls:
  - {match: [{sniHosts: [one.example.com]}], route: [{destination: {host: web}}]}
---
"""
KEY = Key("WorkloadEntry", "edge", "gate")


def gateway(name: str, *servers: str, selector: str = "{istio: ingressgateway}", age: int = 0) -> str:
    listed = "".join(f"  - {server}\n" for server in servers)
    return (
        "apiVersion: networking.istio.io/v1\nkind: Gateway\n"
        f"metadata: {{name: {name}, namespace: edge, creationTimestamp: '20{age:02}-01-01T00:00:00Z'}}\n"
        f"spec:\n  selector: {selector}\n  servers:\n{listed}---\n"
    )


def server(port: int, protocol: str, host: str = "'*'", tls: str = "", name: str = "", bind: str = "") -> str:
    words = (
        f"port: {{number: {port}, name: {name or protocol.lower()}, protocol: {protocol}}}, hosts: [{host}]"
    )
    words += f", tls: {tls}" if tls else ""
    words += f", bind: {bind}" if bind else ""
    return f"{{{words}}}"


def listening(world: World) -> dict[str, list[tuple[str, ...]]]:
    edge = world.engine(gateways.edge_of, KEY)
    found = world.engine(gateways_listeners.listeners, edge).listeners
    return {listener.name: [chain.sni or (chain.routes,) for chain in listener.chains] for listener in found}


def told(world: World, kind: str, namespace: str, name: str) -> str:
    return "; ".join(map(str, world.engine(problems_of, Key(kind, namespace, name))))


def test_a_gateway_is_chosen_by_all_its_labels() -> None:
    chosen = gateway("a", server(80, "HTTP"), selector="{}")
    missed = gateway("b", server(81, "HTTP"), selector="{istio: ingressgateway, app: other}")
    world = World().apply(GATE, chosen, missed)
    assert listening(world) == {"0.0.0.0_80": [("http.80",)]}
    assert "no gateway has the labels" in told(world, "Gateway", "edge", "b")


def test_sidecars_obey_no_gateway() -> None:
    plain = GATE.replace("  annotations: {isthmus.dev/proxy: gateway}\n", "")
    world = World().apply(plain, gateway("a", server(80, "HTTP")))
    assert world.engine(gateways.routers) == ()


def test_plain_http_servers_share_a_port_and_its_routes() -> None:
    both = gateway("a", server(80, "HTTP", "a.com")), gateway("b", server(80, "HTTP2", "b.com"))
    edge_plan = plan(World().apply(GATE, *both))
    assert [name for name, _ in edge_plan.routes] == ["http.80"]
    assert [s.gateway.name for s in edge_plan.routes[0][1]] == ["a", "b"]


@pytest.mark.parametrize(
    ("first", "second"), [("TCP", "HTTP"), ("HTTP", "TCP"), ("TCP", "TCP"), ("MONGO", "MYSQL")]
)
def test_what_cannot_share_a_port_belongs_to_the_older(first: str, second: str) -> None:
    older, younger = gateway("b", server(80, first), age=10), gateway("a", server(80, second), age=20)
    world = World().apply(GATE, BOUND, older, younger)
    found = plan(world)
    assert [(loss.loser.name, loss.winner.name) for loss in found.losses] == [("a", "b")]
    assert "port 80 is taken" in told(world, "Gateway", "edge", "a")
    assert told(world, "Gateway", "edge", "b") == ""


def test_with_addresses_of_their_own_they_share_it() -> None:
    found = plan(
        World().apply(
            GATE,
            gateway("a", server(80, "TCP", bind="10.0.0.1"), server(80, "TCP", bind="10.0.0.2", name="b")),
        )
    )
    assert found.losses == ()
    assert [place.bind for place in found.places] == ["10.0.0.1", "10.0.0.2"]


def test_tls_servers_share_a_port_by_server_name() -> None:
    tls = "{mode: SIMPLE, credentialName: x}"
    one = gateway("a", server(443, "HTTPS", "'one.com', 'shop/two.com'", tls))
    two = gateway("b", server(443, "HTTPS", "'one.com'", tls), server(443, "TLS", "three.com", tls))
    world = World().apply(GATE, BOUND, one, two)
    assert listening(world) == {"0.0.0.0_443": [("one.com", "two.com"), ("three.com",)]}
    assert "one.com is served at port 443 already, by Gateway/edge/a" in told(world, "Gateway", "edge", "b")


def test_names_of_two_namespaces_are_one_server_name_to_callers() -> None:
    tls = "{mode: SIMPLE, credentialName: x}"
    one = gateway("a", server(443, "HTTPS", "'shop/one.com', both.com", tls))
    two = gateway("b", server(443, "HTTPS", "'other/one.com', two.com", tls))
    world = World().apply(GATE, BOUND, one, two)
    # Envoy would refuse the whole listener: what is taken is left out, the rest is served
    assert listening(world) == {"0.0.0.0_443": [("both.com", "one.com"), ("two.com",)]}
    assert "one.com is served" in told(world, "Gateway", "edge", "b")


def test_passthrough_follows_rules_and_one_name_has_one_rule() -> None:
    opaque = server(443, "TLS", "'*.example.com'", "{mode: PASSTHROUGH}")
    again = BOUND.replace("name: web, namespace: shop}\nspec", "name: again, namespace: shop}\nspec")
    world = World().apply(GATE, BOUND, again, gateway("a", opaque))
    assert listening(world) == {"0.0.0.0_443": [("one.example.com",)]}
    assert "one.example.com is served at port 443 already" in told(world, "VirtualService", "shop", "web")


def test_connections_without_a_rule_have_no_listener() -> None:
    world = World().apply(GATE, gateway("a", server(9000, "TCP")))
    assert listening(world) == {}
    assert "nothing listens on port 9000" in told(world, "Gateway", "edge", "a")


def test_a_service_in_front_says_where_to_listen() -> None:
    front = """
apiVersion: v1
kind: Service
metadata: {{name: front, namespace: edge, labels: {labels}}}
spec: {{clusterIP: 240.240.0.6, selector: {{istio: ingressgateway}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
"""
    said = gateway("a", server(80, "HTTP"), server(81, "HTTP", name="other"))
    world = World().apply(GATE, said, front.format(labels="{}"))
    assert list(listening(world)) == ["0.0.0.0_8080", "0.0.0.0_81"]
    world.apply(front.format(labels='{experimental.istio.io/disable-gateway-port-translation: "true"}'))
    assert list(listening(world)) == ["0.0.0.0_80", "0.0.0.0_81"]


def test_a_rule_that_names_no_gateway_is_told() -> None:
    world = World().apply(GATE, BOUND, gateway("a", server(80, "HTTP")))
    assert "there is no Gateway edge/b" in told(world, "VirtualService", "shop", "web")


def test_a_gateway_without_rules_is_told() -> None:
    world = World().apply(GATE, gateway("a", server(80, "HTTP")))
    assert "every request gets 404" in told(world, "Gateway", "edge", "a")


def plan(world: World) -> gateways_plan.Plan:
    edge = world.engine(gateways.edge_of, KEY)
    return world.engine(gateways_plan.plan, edge.gateways)
