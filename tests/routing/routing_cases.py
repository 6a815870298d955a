"""Cases of calls -> rendered worlds, simulated calls, verdicts.

A case holds `config` and `kubeConfig` (YAML), `proxy` (whose configuration), `call` and `result`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from json import dumps
from typing import Any

from simulation import Call, Result, mismatches, simulate

from isthmus.api.documents import read_documents
from isthmus.mesh.model import labels_of
from isthmus.mesh.proxies import Proxy, ProxyType
from isthmus.render import read, rendered, settings_from

Case = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a case went: `differences` are (wanted, got) by field; `got` is what the simulation says."""

    differences: Mapping[str, tuple[str, str]]
    got: Result
    faults: tuple[str, ...] = ()
    """What a server would refuse of the case's objects; they are rendered all the same."""

    @property
    def passed(self) -> bool:
        """Whether everything that the case asks for holds."""
        return not self.differences


def judge(case: Case) -> Verdict:
    """Renders the case's world and makes its call."""
    call = Call.of(case["call"])
    text = f"{case.get('config') or ''}\n---\n{case.get('kubeConfig') or ''}"
    world, faults = _world(text, proxy_of(case), dumps(case.get("meshConfig") or {}))
    got = simulate(world, call)
    differences = mismatches(case["result"], got)
    if _is_shortened(*differences.get("ClusterMatched", ("", ""))):
        del differences["ClusterMatched"]
    return Verdict(differences, got, faults)


def _is_shortened(wanted: str, got: str) -> bool:
    """Whether a cluster's name differs only in the DNS domain, which Istio's simulation leaves empty."""
    return bool(wanted) and got == f"{wanted}.svc.cluster.local"


def proxy_of(case: Case) -> Proxy:
    """Whose configuration a case is about: `proxyArguments`, else what its words in `proxy` mean."""
    words: str = case.get("proxy") or "sidecar"
    given = case.get("proxyArguments")
    if given is None and words.startswith("gateway"):
        given = {"type": "router", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}}
    if given is None:
        given = {"type": "sidecar", "namespace": "default", "labels": {"app": "foo"}}
    address = re.search(r"\d+\.\d+\.\d+\.\d+", words)
    return Proxy(
        namespace=given["namespace"],
        type=ProxyType(given["type"]),
        addresses=tuple(given.get("ips") or [address[0] if address else "1.1.1.1"]),
        labels=labels_of(given.get("labels") or {}),
        service_account=given.get("serviceAccount") or "",
    )


@lru_cache(maxsize=64)
def _world(text: str, proxy: Proxy, mesh_config: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    documents, unreadable = read_documents(text, "case")
    objects, problems = read(documents)
    faults = [str(place) for place in unreadable]
    faults += [f"{d.data.get('kind')}: {p}" for d, p in problems if p.severity == "error"]
    config = read_documents(mesh_config, "mesh config")[0][0].data
    settings, wrong = settings_from(config, objects)
    faults += [f"mesh config: {problem}" for problem in wrong]
    return rendered(objects, proxy, settings), tuple(faults)
