"""What the page calls supported is read by what makes configuration, and what it says does nothing is not.

recorded   every look at a model's field while the goldens and `every_field.yaml` are translated
named      fields whose name no other model has, and which stands after a dot in a module of ours
ELSEWHERE  the rest: fields that are no proxy's business, and the module that reads them
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import isthmus
from isthmus.api.codec import decode
from isthmus.api.documents import read_documents
from isthmus.api.fields import fields
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Kept, Later, Model, Object, Refused
from isthmus.api.support import mark
from isthmus.envoy.resource import ProxyId
from isthmus.mesh.model import MeshSettings
from isthmus.render import rendered

WORLDS = [
    *sorted((Path(__file__).parents[1] / "envoy" / "golden").glob("*/in.yaml")),
    *sorted((Path(__file__).parent / "worlds").glob("*.yaml")),
]
SOURCE = Path(isthmus.__file__).parent
READERS = ("mesh", "envoy", "registry", "server", "identity", "xds")
CHECKERS = ("isthmus.api.validation", "isthmus.api.codec", "isthmus.api.support", "isthmus.server.admission")
ELSEWHERE = {
    "RequestAuthenticationSpec": "nobody, as its jwtRules",
    "JoinTokenSpec": "isthmus.identity.enrol, isthmus.server.join_tokens",
    "WorkloadGroupSpec": "isthmus.identity.enrol",
    "WorkloadGroupMetadata": "isthmus.identity.workload",
    "ReadinessProbe": "isthmus.envoy.probes, for agents",
    "HTTPHealthCheckConfig": "isthmus.envoy.probes, for agents",
    "HTTPHeader": "isthmus.envoy.probes, for agents",
    "TCPHealthCheckConfig": "isthmus.envoy.probes, for agents",
    "ExecHealthCheckConfig": "isthmus.envoy.probes, for agents",
    "GrpcHealthCheckConfig": "isthmus.envoy.probes, for agents",
    "EventSpec": "nobody: it is for people",
    "EventSource": "nobody: it is for people",
    "EventSeries": "nobody: it is for people",
    "ConfigMapSpec": "isthmus.mesh.gateways_credentials",
    "SecretSpec": "isthmus.mesh.gateways_credentials",
}
PROXIES = {"WorkloadEntry", "Pod"}
IN_PART = ["ServiceSpec.external_ips"]
"""Read for one purpose, and not for what they are documented for."""
Place = tuple[str, str]
"""A model's name, and a field's in Python."""


def marked(model: type[Model], name: str) -> Later | Kept | Refused | None:
    """What a field is marked with, as a whole."""
    metadata = model.model_fields[name].metadata
    refused = mark(metadata, Refused)
    whole = refused if refused is not None and not refused.below else None
    return whole or mark(metadata, Later) or mark(metadata, Kept)


def places(model: type[Model], seen: set[type[Model]]) -> Iterator[tuple[type[Model], str]]:
    """Every field of a model and of those below, but not below one that does nothing."""
    seen.add(model)
    for name, info in model.model_fields.items():
        yield model, name
        below = fields(model)[info.alias or name].model
        if below is not None and below not in seen and marked(model, name) is None:
            yield from places(below, seen)


def every_place() -> list[tuple[type[Model], str]]:
    """Every field of the kinds that do something."""
    seen: set[type[Model]] = set()
    return [place for kind in KINDS.values() if not kind.later for place in places(kind.spec_model, seen)]


@pytest.fixture(scope="module")
def recorded() -> set[Place]:
    """What is looked at while all worlds are translated for all their proxies."""
    found: set[Place] = set()
    plain = Model.__getattribute__

    def look(self: Model, name: str) -> Any:
        reader = sys._getframe(1).f_globals.get("__name__", "")
        if reader.startswith("isthmus.") and not reader.startswith(CHECKERS):
            found.add((type(self).__name__, name))
        return plain(self, name)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Model, "__getattribute__", look)
        for world in WORLDS:
            objects = list(read(world))
            for proxy in {ProxyId(o.key.namespace, o.key.name) for o in objects if o.key.kind in PROXIES}:
                rendered(objects, proxy, MeshSettings())
    return found


def read(path: Path) -> Iterator[Object]:
    """The objects of a file."""
    documents, unreadable = read_documents(path.read_text(), path.name)
    assert not unreadable
    for document in documents:
        obj, problems = decode(document.data)
        assert obj is not None, (document.place, problems)
        yield obj


@pytest.fixture(scope="module")
def named() -> set[str]:
    """Every name that stands after a dot in what reads objects."""
    trees = (ast.parse(path.read_text()) for part in READERS for path in (SOURCE / part).glob("*.py"))
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_what_is_supported_is_read(recorded: set[Place], named: set[str]) -> None:
    count = Counter(name for _, name in every_place())
    unread = [
        f"{model.__name__}.{name}"
        for model, name in every_place()
        if marked(model, name) is None
        and (model.__name__, name) not in recorded
        and not (count[name] == 1 and name in named)
        and model.__name__ not in ELSEWHERE
    ]
    assert sorted(unread) == [], (
        "nobody reads these: mark them (Later, Kept), or show in worlds/ that they are read"
    )


def test_what_does_nothing_is_not_read(recorded: set[Place]) -> None:
    stale = [
        f"{model.__name__}.{name}"
        for model, name in every_place()
        if (model.__name__, name) in recorded
        and isinstance(found := marked(model, name), Later)
        and not found.values
        and not found.unless
    ]
    assert stale == IN_PART, "these are read: take their marks away"
