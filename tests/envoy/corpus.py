"""Every world that the tests know -> what a proxy in it holds: goldens, scenarios, Istio's cases.

golden/*/in.yaml          the proxy that it names
scenarios/*.yaml          the two machines of each scenario, after each of its phases
routing_sample.json       where the folder with the samples stands beside the repository
"""

import json
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import golden

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "scenarios"), str(TESTS / "routing")]

import mesh_world  # noqa: E402
import scenario  # noqa: E402
from routing_cases import proxy_of  # noqa: E402
from test_routing_sample import SAMPLE  # noqa: E402

from isthmus.api.codec import decode  # noqa: E402
from isthmus.api.documents import read_documents  # noqa: E402
from isthmus.api.meta import Key, Object  # noqa: E402
from isthmus.api.validate import validate  # noqa: E402
from isthmus.engine import Engine  # noqa: E402
from isthmus.envoy.manifest import manifest  # noqa: E402
from isthmus.envoy.resource import HOST, TYPES, Manifest, ProxyId  # noqa: E402
from isthmus.identity.workload import entry_from_group, workload_name  # noqa: E402
from isthmus.registry.inputs import whole  # noqa: E402
from isthmus.render import manifests, read, settings_from  # noqa: E402
from isthmus.server.vips import with_vips  # noqa: E402

SERVED = tuple(type_url for type_url in TYPES if type_url != HOST)
HOSTS = {"control": 1, "vm": 2, "client": 3, "web-v1": 4, "web-v2": 5, "outside": 6}
"""The machines of the scenarios, by the last number of their addresses."""


@dataclass(frozen=True, slots=True)
class World:
    """One world, seen by one proxy. `made` renders it; of `ordered()` also in another `order=`."""

    name: str
    made: Callable[..., Mapping[str, Manifest]]


Order = Callable[[list[Object]], Sequence[Object]]


def worlds() -> list[World]:
    """All of them; names are unique."""
    return [*_goldens(), *ordered()]


def ordered() -> list[World]:
    """Those whose objects can be given in any order; goldens are texts."""
    return [*_scenarios(), *_samples()]


def _goldens() -> Iterator[World]:
    for case in golden.CASES:
        yield World(f"golden {case.name}", partial(golden.manifests, case))


# scenarios


def _scenarios() -> Iterator[World]:
    for each in scenario.load():
        if each.caller != "vm":
            continue  # the same document with the machines the other way round
        phases = [each.document, *each.document.get("then", ())]
        for number, phase in enumerate(phases, 1):
            if phase.get("refused"):
                continue
            for host in (each.caller, each.server):
                name = f"{each.area}: {each.name} / {number} / {host}"
                yield World(name, partial(_scenario, phases[:number], each, host))


def _scenario(
    phases: Sequence[Mapping[str, Any]], of: scenario.Scenario, host: str, order: Order = list
) -> Mapping[str, Manifest]:
    words = {"server": of.server, "caller": of.caller, "unique": "unique", **_certificates()}
    for name in HOSTS:
        v4, v6 = _addresses(name)
        words |= {f"address:{name}": v4, f"address6:{name}": v6}
    standing = {obj.key: obj for obj in _standing()}
    for phase in phases:
        for document in scenario.listed(phase.get("delete"), words):
            meta = document["metadata"]
            standing.pop(Key(document["kind"], meta["namespace"], meta["name"]), None)
        for document in scenario.configured(phase, words):
            obj = _decoded(document)
            if not any(problem.severity == "error" for problem in validate(obj)):
                standing[obj.key] = obj
    return _STAGE.shown(order([*standing.values()]), ProxyId(host, _entry(host)))


class _Stage:
    """One engine that is led from world to world: what two have in common is made once."""

    def __init__(self) -> None:
        self._engine = Engine()
        self._inputs: dict[tuple[Hashable, ...], Any] = {}

    def shown(self, objects: Sequence[Object], proxy: ProxyId) -> Mapping[str, Manifest]:
        """What the proxy holds in a world of these objects."""
        inputs = whole(with_vips(objects, ()))
        self._engine.commit({**dict.fromkeys(self._inputs.keys() - inputs.keys()), **inputs})
        self._inputs = inputs
        return {type_url: self._engine(manifest, type_url, proxy) for type_url in SERVED}


_STAGE = _Stage()


@cache
def _standing() -> tuple[Object, ...]:
    """The fixed world, with the hosts joined and the control plane registered."""
    documents = mesh_world.documents({name: _addresses(name)[0] for name in HOSTS})
    objects = [_decoded(document) for document in (*documents, *_yaml(CONTROL))]
    groups = [obj for obj in objects if obj.key.kind == "WorkloadGroup"]
    joined = [entry_from_group(group, ip_address(_addresses(group.key.name)[0])) for group in groups]
    return (*objects, *joined)


CONTROL = """
apiVersion: v1
kind: Service
metadata: {name: isthmus, namespace: isthmus-system}
spec:
  selector: {app: isthmus}
  ports: [{name: http, port: 80, targetPort: 15080}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: isthmus-1, namespace: isthmus-system}
spec: {address: 10.88.0.1, labels: {app: isthmus}, serviceAccount: isthmus}
"""


@cache
def _certificates() -> Mapping[str, str]:
    pem, roots = mesh_world.certificate()
    return {"pem": pem, "roots": roots}


def _entry(host: str) -> str:
    return workload_name(host, ip_address(_addresses(host)[0]))


def _addresses(host: str) -> tuple[str, str]:
    return f"10.88.0.{HOSTS[host]}", f"fd88::{HOSTS[host]}"


def _decoded(document: Mapping[str, Any]) -> Object:
    obj, problems = decode(dict(document))
    assert obj is not None, [str(problem) for problem in problems]
    return obj


def _yaml(text: str) -> list[Mapping[str, Any]]:
    found, unreadable = read_documents(text, "corpus")
    assert not unreadable, unreadable
    return [document.data for document in found]


# Istio's cases


def _samples() -> Iterator[World]:
    if not SAMPLE.exists():
        return
    seen: set[str] = set()
    for case in json.loads(SAMPLE.read_text(encoding="utf-8")):
        world = {
            name: value for name, value in case.items() if name not in ("id", "call", "call_name", "result")
        }
        text = json.dumps(world, sort_keys=True)
        if text not in seen:
            seen.add(text)
            yield World(f"sample {case['id']}", partial(_sample, case))


def _sample(case: Mapping[str, Any], order: Order = list) -> Mapping[str, Manifest]:
    objects, _ = read(
        read_documents(f"{case.get('config') or ''}\n---\n{case.get('kubeConfig') or ''}", "case")[0]
    )
    settings, _ = settings_from(case.get("meshConfig") or {}, objects)
    return manifests(order(objects), proxy_of(case), settings, SERVED)
