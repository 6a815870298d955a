"""What a workload's machine captures, out and in."""

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
