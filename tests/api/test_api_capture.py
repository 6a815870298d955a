"""What annotations say about capture, and what is told of those that make no sense."""

import pytest

from isthmus.api.capture import EVERY_PORT, EVERYWHERE, CaptureWish, capture_problems, wish
from isthmus.api.codec import decode
from isthmus.api.validate import validate

ISTIO = "traffic.sidecar.istio.io/"


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, CaptureWish()),
        ({"isthmus.dev/capture": "all"}, CaptureWish(ranges=EVERYWHERE)),
        ({"isthmus.dev/capture": "mesh"}, CaptureWish(ranges=())),
        ({"isthmus.dev/capture": "some"}, CaptureWish()),
        ({ISTIO + "includeOutboundIPRanges": "*"}, CaptureWish(ranges=EVERYWHERE)),
        ({ISTIO + "includeOutboundIPRanges": ""}, CaptureWish(ranges=())),
        (
            {ISTIO + "includeOutboundIPRanges": "10.1.2.3/8, fd00::/8 ,x", "isthmus.dev/capture": "all"},
            CaptureWish(ranges=("10.0.0.0/8", "fd00::/8")),
        ),
        ({ISTIO + "excludeOutboundIPRanges": "10.0.0.1,*"}, CaptureWish(exempt_ranges=("10.0.0.1/32",))),
        ({ISTIO + "excludeOutboundPorts": "25,  853,0,99999,-1"}, CaptureWish(exempt_ports=(25, 853))),
        ({ISTIO + "includeOutboundPorts": "5432,5432"}, CaptureWish(ports=(5432,))),
        ({ISTIO + "includeInboundPorts": ""}, CaptureWish(inbound=())),
        (
            {ISTIO + "includeInboundPorts": "*", ISTIO + "excludeInboundPorts": "9100"},
            CaptureWish(inbound=(EVERY_PORT,), inbound_exempt=(9100,)),
        ),
    ],
)
def test_wishes(annotations: dict[str, str], expected: CaptureWish) -> None:
    assert wish(annotations) == expected


def test_what_makes_no_sense_is_told() -> None:
    told = [
        str(problem)
        for problem in capture_problems(
            "at", {"isthmus.dev/capture": "some", ISTIO + "excludeOutboundPorts": "25,ssh"}
        )
    ]
    assert told == [
        'at[isthmus.dev/capture]: "some" counts for nothing (say all, or mesh)',
        f'at[{ISTIO}excludeOutboundPorts]: "ssh" counts for nothing: it is no TCP port '
        "(separate several with commas)",
    ]


@pytest.mark.parametrize(
    ("kind", "document", "field"),
    [
        (
            "WorkloadGroup",
            {"metadata": {"annotations": {"isthmus.dev/capture": "x"}}, "template": {}},
            "spec.metadata.annotations[isthmus.dev/capture]",
        ),
        ("WorkloadEntry", {"address": "10.0.0.1"}, "metadata.annotations[isthmus.dev/capture]"),
    ],
)
def test_the_door_tells_and_lets_in(kind: str, document: dict[str, object], field: str) -> None:
    annotations = {"isthmus.dev/capture": "x"} if kind == "WorkloadEntry" else {}
    obj, _ = decode(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": kind,
            "metadata": {"name": "vm", "namespace": "shop", "annotations": annotations},
            "spec": document,
        }
    )
    assert obj is not None
    assert [(p.field, p.severity) for p in validate(obj)] == [(field, "warning")]
