"""Istio's own cases, where the folder with the sample stands beside the repository.

A case that needs what translation does not have yet is marked as failing, strictly: a mark goes with its gap.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from routing_cases import judge

_SAMPLE = Path(__file__).parents[3] / "shared" / "cases" / "routing_sample.json"

GATEWAY = "Gateway: no listeners, routes and virtual hosts of a router"
INLINE = "inbound ports of a proxy that is an inline endpoint of a ServiceEntry"
DETECTION = "detection of the protocol: *-http chains, HTTP inspector"
SIDECAR = "Sidecar: ingress listeners"

_MISSING = {
    "TestDisablePortTranslation/1/0": GATEWAY,
    "TestGatewayConflicts/16/1": GATEWAY,
    "TestGatewayServices/21/1": GATEWAY,
    "TestHTTPGateway/5/0": GATEWAY,
    "TestTargetPort/20/1": GATEWAY,
    "TestIngress/17/2": "Kubernetes Ingress as the configuration of a gateway",
    "TestInbound/68/PERMISSIVE": INLINE,
    "TestInbound/70/DISABLE": INLINE,
    "TestInbound/72/PERMISSIVE": INLINE,
    "TestInbound/73/DISABLE": INLINE,
    "TestInbound/78/PERMISSIVE": INLINE,
    "TestInbound/81/DISABLE": DETECTION,
    "TestInbound/85/DISABLE": "TLS that nobody terminates on a port that no service names",
    "TestPeerAuthenticationPassthrough/34/1": INLINE,
    "TestInboundSidecarTLSModes/98/1": SIDECAR,
    "TestInboundSidecarTLSModes/98/2": SIDECAR,
    "TestPeerAuthenticationWithSidecar/40/2": SIDECAR,
    "TestServiceEntry/42/0": "ServiceEntry: addresses that are ranges",
    "TestServiceEntryDuplicatedHostname/46/1": "ServiceEntries that share a host: the ports of both",
    "TestExternalNameServices/91/3": "Service: ExternalName",
}
"""What translation still has to learn, by case."""


def _cases() -> Sequence[Any]:
    if not _SAMPLE.exists():
        return [pytest.param({}, id="none", marks=pytest.mark.skip(f"{_SAMPLE} is not there"))]
    return [
        pytest.param(
            case,
            id=case["id"],
            marks=[pytest.mark.xfail(strict=True, reason=why)] if (why := _MISSING.get(case["id"])) else [],
        )
        for case in json.loads(_SAMPLE.read_text())
    ]


@pytest.mark.parametrize("case", _cases())
def test_sample(case: dict[str, Any]) -> None:
    verdict = judge(case)
    assert verdict.passed, f"{case['call']}: {dict(verdict.differences)}, decided {verdict.got}"
