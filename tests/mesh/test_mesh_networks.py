"""Who is reached directly, who through which gateway, and with what share."""

from isthmus.mesh import networks
from isthmus.mesh.model import Endpoint
from isthmus.mesh.networks import Gateway
from makers import World

FAR = """
apiVersion: v1
kind: Service
metadata: {name: east-west, namespace: edge, labels: {topology.istio.io/network: far}}
spec: {clusterIP: None, externalIPs: [192.0.2.8, 192.0.2.9], ports: [{name: tls, port: 15443}]}
---
"""
ROUTER = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gate, namespace: edge, labels: {istio: east}, annotations: {isthmus.dev/proxy: gateway}}
spec: {address: 10.9.9.9, network: far, serviceAccount: gate}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross, namespace: edge}
spec:
  selector: {istio: east}
  servers:
  - {port: {number: 15443, name: tls, protocol: TLS}, hosts: ["*.local"], tls: {mode: AUTO_PASSTHROUGH}}
---
"""
NAMED = """
apiVersion: isthmus.dev/v1alpha1
kind: MeshConfig
metadata: {name: default, namespace: isthmus-system}
spec:
  meshNetworks:
    far: {gateways: [{address: gate.example.com, port: 443}], endpoints: [{fromCidr: 10.7.0.0/16}]}
---
"""


def endpoint(address: str, network: str = "", *, mtls: bool = True, weight: int = 1) -> Endpoint:
    return Endpoint(address, 80, (), "spiffe://x", mtls, "", weight, None, network)


def reached(
    world: World, *members: Endpoint, own: str = "near", well: bool = True
) -> list[tuple[str, int, int]]:
    found = networks.reached(world.engine, [(member, well) for member in members], own)
    return [(e.address, e.port, e.weight) for e, _ in found]


def test_without_gateways_everybody_is_reached_directly() -> None:
    there = reached(World(), endpoint("10.0.0.1", "near"), endpoint("10.0.0.2", "far"))
    assert there == [("10.0.0.1", 80, 1), ("10.0.0.2", 80, 1)]


def test_another_network_is_entered_with_mutual_tls_only() -> None:
    """Its gateways know by the server name where a connection goes, and open nothing."""
    world = World().apply(FAR)
    plain, mutual = endpoint("10.0.0.1", "far", mtls=False), endpoint("10.0.0.2", "far")
    entrances = ["192.0.2.8", "192.0.2.9"]
    for member, said, wanted in (
        (plain, None, []),
        (mutual, None, entrances),
        # what a rule says of callers' TLS counts more than what the server takes
        (plain, True, entrances),
        (mutual, False, []),
    ):
        found = networks.reached(world.engine, [(member, True)], "near", mutual=said)
        assert [e.address for e, _ in found] == wanted


def test_gateways_of_another_network_share_the_weight_of_its_endpoints() -> None:
    world = World().apply(FAR)
    near, anywhere = endpoint("10.0.0.1", "near"), endpoint("10.0.0.2")
    far, heavy = endpoint("10.0.0.1", "far"), endpoint("10.0.0.3", "far", weight=3)
    assert reached(world, near, anywhere, far, heavy) == [
        ("10.0.0.1", 80, 2),
        ("10.0.0.2", 80, 2),
        ("192.0.2.8", 15443, 4),
        ("192.0.2.9", 15443, 4),
    ]


def test_plaintext_does_not_leave_its_network() -> None:
    assert reached(World().apply(FAR), endpoint("10.0.0.1", "far", mtls=False)) == []


def test_who_is_of_no_network_goes_through_the_gateway_of_those_that_are() -> None:
    found = reached(World().apply(FAR), endpoint("10.0.0.1", "far"), endpoint("10.0.0.2", "other"), own="")
    assert [address for address, _, _ in found] == ["10.0.0.2", "192.0.2.8", "192.0.2.9"]


def test_a_network_whose_endpoints_are_all_down_is_down() -> None:
    world = World().apply(FAR)
    found = networks.reached(world.engine, [(endpoint("10.0.0.1", "far"), False)], "near")
    assert [well for _, well in found] == [False, False]


def test_a_gateway_of_the_mesh_that_passes_tls_through_needs_no_entry() -> None:
    world = World().apply(ROUTER)
    assert world.engine(networks.declared) == {"far": (Gateway("10.9.9.9", 15443),)}
    # what people say of a network counts more than where its gateway happens to stand
    assert world.apply(FAR).engine(networks.declared)["far"][0] == Gateway("192.0.2.8", 15443)


def test_the_port_of_a_service_may_be_another() -> None:
    label = "{topology.istio.io/network: far, networking.istio.io/gatewayPort: '443'}"
    text = FAR.replace("{topology.istio.io/network: far}", label)
    assert World().apply(text).engine(networks.declared) == {}
    world = World().apply(text.replace("port: 15443", "port: 443"))
    assert {each.port for each in world.engine(networks.declared)["far"]} == {443}


def test_a_load_balancer_says_where_a_service_is_entered() -> None:
    world = World().apply(FAR.replace("externalIPs: [192.0.2.8, 192.0.2.9], ", ""))
    world.set_status("Service", "edge", "east-west", {"addresses": ["lb.example.com"]})
    assert world.engine(networks.names) == ("lb.example.com",)


def test_a_name_lets_nobody_in_until_dns_has_answered() -> None:
    world = World().apply(NAMED)
    assert world.engine(networks.names) == ("gate.example.com",)
    assert reached(world, endpoint("10.0.0.1", "far")) == []
    world.engine.commit({("resolved", "gate.example.com"): ("192.0.2.1", "192.0.2.2")})
    assert reached(world, endpoint("10.0.0.1", "far", weight=5)) == [
        ("192.0.2.1", 443, 5),
        ("192.0.2.2", 443, 5),
    ]


def test_a_range_tells_the_network_of_who_does_not_say_it() -> None:
    world = World().apply(NAMED)
    world.engine.commit({("resolved", "gate.example.com"): ("192.0.2.1",)})
    assert reached(world, endpoint("10.7.0.1")) == [("192.0.2.1", 443, 1)]
    assert reached(world, endpoint("10.7.0.1"), own="far") == [("10.7.0.1", 80, 1)]
