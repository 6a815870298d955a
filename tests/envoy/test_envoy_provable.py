"""On which ports the control plane can prove that its connection reaches the workload's Envoy."""

from envoy.config.listener.v3 import listener_pb2 as listener_v3

from isthmus.agent.paths import ENVOY_RESOLVER_ADDRESS
from isthmus.api.meta import Key
from isthmus.envoy import resolvers
from isthmus.envoy.inbound import provable_ports, virtual_inbound
from makers import World, workload

DB = Key("WorkloadEntry", "bookinfo", "db-1")
VM = workload("db-1", "10.0.0.1", ports="http: 80, mysql: 3306, tcp-a: 7000, any: 7001")
DISABLED = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: plain, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: db}}
  mtls: {mode: STRICT}
  portLevelMtls: {80: {mode: DISABLE}, 7000: {mode: DISABLE}, 7001: {mode: DISABLE}}
"""
INGRESS = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own, namespace: bookinfo}
spec: {ingress: [{port: {number: 3306, protocol: MYSQL, name: mysql}}]}
"""


def test_ports_without_mutual_tls_can_be_proven_only_where_requests_are_told_from_tls() -> None:
    assert World().apply(VM).engine(provable_ports, DB) == (80, 3306, 7000, 7001)
    assert World().apply(VM, DISABLED).engine(provable_ports, DB) == (80, 3306)


def test_ports_that_a_sidecar_leaves_out_cannot_be_proven() -> None:
    assert World().apply(VM, INGRESS).engine(provable_ports, DB) == (3306,)


def test_they_are_those_that_have_a_chain_for_the_proof() -> None:
    for rules in ((), (DISABLED,), (INGRESS,)):
        world = World().apply(VM, *rules)
        body = world.engine(virtual_inbound, DB).body
        chains = listener_v3.Listener.FromString(body).filter_chains
        proving = {
            chain.filter_chain_match.destination_port.value
            for chain in chains
            if "isthmus-probe" in chain.filter_chain_match.application_protocols
        }
        assert proving == set(world.engine(provable_ports, DB))


def test_clusters_name_the_resolver_that_the_agent_has() -> None:
    assert resolvers.AGENT_ADDRESS == ENVOY_RESOLVER_ADDRESS
