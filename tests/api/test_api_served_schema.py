"""The API keeps what its own OpenAPI documents promise, whatever is asked of it.

Requests are made from the documents, right ones and wrong ones, the same in every run: three of each sort for
each operation; ISTHMUS_FUZZ=n makes n. Each kind is asked in its preferred version, one of each group also in
the others. Watches, which otherwise never end, are asked for by themselves, for a second each.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

from documents import namespace, workload_entry
from isthmus.api.kinds import KINDS
from kube_server import KubeServer, kube_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.core.failures import Failure, FailureGroup
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

TIMES = int(os.environ.get("ISTHMUS_FUZZ", "3"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDLESS = ("watch", "sendInitialEvents")
VERSIONS = [*dict.fromkeys(version for kind in KINDS.values() for version in kind.api_versions)]
EVERYWHERE = {"ServiceEntry", "PeerAuthentication", "Telemetry"}
"""Kinds that are asked in all their versions."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server of which nothing is expected but answers."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """One connection for all requests."""
    with requests.Session() as found:
        yield found


@pytest.mark.timeout(60 + 60 * TIMES)
@pytest.mark.parametrize("api_version", VERSIONS)
def test_answers_are_as_promised(server: KubeServer, session: requests.Session, api_version: str) -> None:
    broken: dict[str, str] = {}
    for operation in operations(server, api_version):
        server.apply(namespace())
        for mode in GenerationMode:
            if mode is GenerationMode.POSITIVE or can_be_wrong(operation):
                broken |= asked(server, session, operation, mode, CHECKS).broken
    assert broken == {}


@pytest.mark.timeout(60 + 20 * TIMES)
@pytest.mark.parametrize("mode", GenerationMode)
def test_watches_are_as_promised(server: KubeServer, session: requests.Session, mode: GenerationMode) -> None:
    server.apply(namespace(), workload_entry("a"))
    (watched,) = (
        operation
        for operation in operations(server, "networking.istio.io/v1")
        if operation.label.endswith("GET /apis/networking.istio.io/v1/workloadentries")
    )
    # a stream is not one JSON value
    checks = [check for check in CHECKS if check is not response_schema_conformance]
    found = asked(server, session, watched, mode, checks, watching=True)
    assert found.broken == {}
    assert mode is GenerationMode.NEGATIVE or 200 in found.codes, "no watch began"


def operations(server: KubeServer, api_version: str) -> Iterator[Any]:
    """What a version's document says may be asked of the kinds that are asked in it."""
    path = f"apis/{api_version}" if "/" in api_version else f"api/{api_version}"
    schema = schemathesis.openapi.from_dict(server.request("GET", f"/openapi/v3/{path}").document)
    every: list[Any] = [*schema.get_all_operations()]
    for found in every:
        operation = found.ok()
        kind = KINDS[operation.definition.raw["x-kubernetes-group-version-kind"]["kind"]]
        if kind.api_versions[0] == api_version or kind.kind in EVERYWHERE:
            yield operation


def can_be_wrong(operation: Any) -> bool:
    """Whether a request can be wrong in a way that no other one is wrong in.

    One with a name in its path and nothing else cannot; to put a status takes the body that the object takes.
    """
    raw = operation.definition.raw
    if operation.method.upper() == "PUT" and operation.label.endswith("/status"):
        return False
    return "requestBody" in raw or any(row.get("in") == "query" for row in raw.get("parameters", ()))


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operation did otherwise than promised, each with a command that shows it; and all its codes."""

    broken: dict[str, str]
    codes: set[int]


def asked(
    server: KubeServer,
    session: requests.Session,
    operation: Any,
    mode: GenerationMode,
    checks: list[Any],
    *,
    watching: bool = False,
) -> Asked:
    """Asks an operation so many times in one way."""
    broken: dict[str, str] = {}
    codes: set[int] = set()
    headers = {"Authorization": f"Bearer {server.token}"}
    trust, base = str(server.kubeconfig.with_name("roots.pem")), f"https://127.0.0.1:{server.port}"

    @settings(
        max_examples=TIMES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        aim(case, watching=watching)
        answer = case.call(base_url=base, session=session, headers=headers, verify=trust)
        codes.add(answer.status_code)
        try:
            case.validate_response(answer, checks=checks)
        except (Failure, FailureGroup) as failure:
            for one in getattr(failure, "exceptions", [failure]):
                broken.setdefault(f"{case.operation.label}: {one.title}", case.as_curl_command())

    ask()
    return Asked(broken, codes)


def aim(case: Any, *, watching: bool) -> None:
    """Most requests mean a namespace that is there, and write an object that is one but for its spec."""
    inside = case.path_parameters or {}
    if watching:
        case.query = {"watch": "true", **(case.query or {}), "timeoutSeconds": "1"}
    else:
        case.query = {name: value for name, value in (case.query or {}).items() if name not in ENDLESS}
    if len(case.operation.label) % 3 and "namespace" in inside:
        inside["namespace"] = "bookinfo"
    if "name" in inside and isinstance(case.body, dict) and case.method in {"POST", "PUT"}:
        inside["name"] = "a"
    kind = case.operation.definition.raw.get("x-kubernetes-group-version-kind", {})
    if isinstance(case.body, dict) and case.method in {"POST", "PUT"} and "spec" in case.body:
        api_version = "/".join(filter(None, (kind["group"], kind["version"])))
        case.body |= {"apiVersion": api_version, "kind": kind["kind"], "metadata": {"name": "a"}}
