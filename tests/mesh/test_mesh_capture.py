"""What a workload's machine captures, out and in."""

import json

import pytest

from isthmus.api.meta import Key
from isthmus.mesh.capture import InboundCapture, OutboundCapture, inbound_capture, outbound_capture
from isthmus.mesh.model import VIP_RANGES
from isthmus.mesh.scope import scope_of
from makers import World, service

DB = Key("WorkloadEntry", "shop", "db-1")
EVERYWHERE = ("0.0.0.0/0", "::/0")
SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own, namespace: shop}
spec: {outboundTrafficPolicy: POLICY}
"""
MESH = """
apiVersion: isthmus.dev/v1alpha1
kind: MeshConfig
metadata: {name: default, namespace: isthmus-system}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
"""


def _vm(**annotations: str) -> str:
    said = ", ".join(f"{name}: '{text}'" for name, text in _named(annotations).items())
    return f"""---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: db-1, namespace: shop, annotations: {{{said}}}}}
spec: {{address: 10.0.0.1, labels: {{app: db}}}}
"""


def _named(annotations: dict[str, str]) -> dict[str, str]:
    return {
        "isthmus.dev/capture" if name == "capture" else f"traffic.sidecar.istio.io/{name}": text
        for name, text in annotations.items()
    }


def _out(*texts: str) -> OutboundCapture:
    world = World().apply(service("db", namespace="shop"), *texts)
    scope = world.engine(scope_of, DB)
    assert scope is not None
    return world.engine(outbound_capture, DB, scope)


def _in(*texts: str) -> InboundCapture:
    return World().apply(service("db", namespace="shop"), *texts).engine(inbound_capture, DB)


def test_by_default_only_what_the_mesh_needs_is_captured() -> None:
    assert _out(_vm()) == OutboundCapture(VIP_RANGES, (), (), (), ())
    assert _in(_vm()) == InboundCapture((9080,), every=False, exempt=())


@pytest.mark.parametrize(
    "policy",
    [
        "{mode: REGISTRY_ONLY}",
        "{egressProxy: {host: db.shop.svc.cluster.local, port: {number: 9080}}}",
    ],
)
def test_everything_is_captured_where_unclaimed_calls_are_not_just_let_through(policy: str) -> None:
    assert _out(_vm(), SIDECAR.replace("POLICY", policy)).wide == EVERYWHERE
    assert _out(_vm(), SIDECAR.replace("POLICY", "{mode: ALLOW_ANY}")).wide == ()


def test_the_mesh_says_so_for_all_and_a_sidecar_otherwise() -> None:
    assert _out(_vm(), MESH).wide == EVERYWHERE
    assert _out(_vm(), MESH.replace("REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS")).wide == EVERYWHERE
    assert _out(_vm(), MESH, SIDECAR.replace("POLICY", "{mode: ALLOW_ANY}")).wide == ()


def test_annotations_count_more_than_the_policy() -> None:
    assert _out(_vm(capture="all")).wide == EVERYWHERE
    assert _out(_vm(capture="mesh"), MESH).wide == ()
    assert _out(_vm(includeOutboundIPRanges="10.0.0.0/8"), MESH).wide == ("10.0.0.0/8",)
    found = _out(
        _vm(
            includeOutboundPorts="5432",
            excludeOutboundIPRanges="192.168.0.0/16",
            excludeOutboundPorts="25,853",
        ),
        MESH,
    )
    assert found == OutboundCapture(VIP_RANGES, EVERYWHERE, (5432,), ("192.168.0.0/16",), (25, 853))


def test_annotations_say_which_ports_are_captured_in() -> None:
    assert _in(_vm(includeInboundPorts="443,80")) == InboundCapture((80, 443), every=False, exempt=())
    assert _in(_vm(includeInboundPorts="")) == InboundCapture((), every=False, exempt=())
    assert _in(_vm(excludeInboundPorts="9080")) == InboundCapture((), every=False, exempt=(9080,))
    everything = _in(_vm(includeInboundPorts="*", excludeInboundPorts="9100"))
    assert everything == InboundCapture((9080,), every=True, exempt=(9100,))


def _entry(name: str, **spec: object) -> str:
    said = {"ports": [{"number": 443, "name": "tls", "protocol": "TLS"}], "resolution": "NONE", **spec}
    return f"""---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec: {json.dumps(said)}
"""


WILD = _entry("wild", hosts=["*.example.com"])


def test_ports_of_what_has_no_address_are_captured_wherever_they_lead() -> None:
    assert _out(_vm(), WILD).ports == (443,)
    ports = [{"number": number, "name": f"p{number}", "protocol": "TCP"} for number in (22, 5432, 15012)]
    ports.append({"number": 123, "name": "udp", "protocol": "UDP"})
    assert _out(_vm(), WILD, _entry("fixed", hosts=["db.example.com"], ports=ports)).ports == (22, 443, 5432)
    static = {"resolution": "STATIC", "endpoints": [{"address": "192.0.2.1"}]}
    assert _out(_vm(), _entry("static", hosts=["*.example.org"], **static)).ports == (443,)


def test_what_has_an_address_is_captured_there_alone() -> None:
    ranged = _out(_vm(), _entry("ranged", hosts=["*.example.com"], addresses=["10.9.0.0/16", "10.8.0.1"]))
    assert ranged.ports == ()
    assert ranged.prefixes == (*VIP_RANGES, "10.8.0.1/32", "10.9.0.0/16")
    chosen = _entry("chosen", hosts=["*.example.com"], workloadSelector={"labels": {"app": "db"}})
    found = _out(_vm(), chosen)
    assert found.ports == ()
    assert found.prefixes == (*VIP_RANGES, "10.0.0.1/32")


def test_only_what_the_machine_sees_and_may_be_captured_counts() -> None:
    elsewhere = WILD.replace("namespace: shop", "namespace: elsewhere")
    only_own = SIDECAR.replace("outboundTrafficPolicy: POLICY", 'egress: [{hosts: ["./*"]}]')
    assert _out(_vm(), elsewhere).ports == (443,)
    assert _out(_vm(), elsewhere, only_own).ports == ()
    port = "{number: 443, name: tls, protocol: TLS}"
    bound = SIDECAR.replace(
        "outboundTrafficPolicy: POLICY", f'egress: [{{port: {port}, captureMode: NONE, hosts: ["*/*"]}}]'
    )
    assert _out(_vm(), WILD, bound).ports == ()


def test_what_people_say_counts_more_than_names_without_an_address() -> None:
    assert _out(_vm(capture="mesh"), WILD).ports == ()
    assert _out(_vm(includeOutboundIPRanges="10.0.0.0/8"), WILD).ports == ()
    assert _out(_vm(includeOutboundPorts="5432"), WILD).ports == (443, 5432)
    assert _out(_vm(), WILD, MESH).ports == ()  # all of it is captured anyway
