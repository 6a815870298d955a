"""The API keeps what its own OpenAPI documents promise, whatever is asked of it.

Requests are made from the documents, right ones and wrong ones, the same in every run. Each kind is asked in
its preferred version, with one request to an operation, right and wrong in turn; ISTHMUS_FUZZ=n makes n of
each sort. A watch never ends, so none is asked for here.
"""

import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from documents import namespace
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

TIMES = int(os.environ.get("ISTHMUS_FUZZ", "0"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDLESS = ("watch", "sendInitialEvents")
PREFERRED = [*dict.fromkeys(kind.api_versions[0] for kind in KINDS.values())]


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


@pytest.mark.timeout(60 + 120 * TIMES)
@pytest.mark.parametrize("api_version", PREFERRED)
def test_answers_are_as_promised(server: KubeServer, session: requests.Session, api_version: str) -> None:
    path = f"apis/{api_version}" if "/" in api_version else f"api/{api_version}"
    schema = schemathesis.openapi.from_dict(server.request("GET", f"/openapi/v3/{path}").document)
    headers, trust = (
        {"Authorization": f"Bearer {server.token}"},
        str(server.kubeconfig.with_name("roots.pem")),
    )
    base = f"https://127.0.0.1:{server.port}"
    broken: dict[str, str] = {}
    every: list[Any] = [*schema.get_all_operations()]
    for number, found in enumerate(every):
        operation: Any = found.ok()
        kind = KINDS[operation.definition.raw["x-kubernetes-group-version-kind"]["kind"]]
        if kind.api_versions[0] != api_version:
            continue
        server.apply(namespace())
        modes = [*GenerationMode]
        for mode in modes if TIMES else [modes[number % 2]]:

            @settings(
                max_examples=TIMES or 1,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                aim(case)
                answer = case.call(base_url=base, session=session, headers=headers, verify=trust)
                try:
                    case.validate_response(answer, checks=CHECKS)
                except (Failure, FailureGroup) as failure:
                    for one in getattr(failure, "exceptions", [failure]):
                        broken.setdefault(f"{case.operation.label}: {one.title}", case.as_curl_command())

            try:
                ask()
            except Unsatisfiable:
                pass  # nothing can be wrong with a request that has a name in its path and nothing else
    assert broken == {}


def aim(case: Any) -> None:
    """Most requests mean a namespace that is there, and write an object that is one but for its spec."""
    inside = case.path_parameters or {}
    for name in ENDLESS:
        (case.query or {}).pop(name, None)
    if len(case.operation.label) % 3 and "namespace" in inside:
        inside["namespace"] = "bookinfo"
    if "name" in inside and isinstance(case.body, dict) and case.method in {"POST", "PUT"}:
        inside["name"] = "a"
    kind = case.operation.definition.raw.get("x-kubernetes-group-version-kind", {})
    if isinstance(case.body, dict) and case.method in {"POST", "PUT"} and "spec" in case.body:
        api_version = "/".join(filter(None, (kind["group"], kind["version"])))
        case.body |= {"apiVersion": api_version, "kind": kind["kind"], "metadata": {"name": "a"}}
