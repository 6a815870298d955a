"""Our API's answers beside those of a real API server: the same, or different for a reason that is given."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from golden_api import Case, Client, cases, differences, expected, fresh_namespace, play, subjects

from kube_server import KubeServer, kube_server

CASES = [
    pytest.param(subject, case, id=f"{subject}: {case.name}")
    for subject in subjects()
    for case in cases(subject)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with kube_server(tmp_path_factory.mktemp("api")) as started:
        yield started


@pytest.mark.parametrize(("subject", "case"), CASES)
def test_we_answer_as_a_real_api_server(server: KubeServer, subject: str, case: Case) -> None:
    namespace = fresh_namespace()
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    assert server.request("POST", "/api/v1/namespaces", document).code == 201

    client = Client(server.connect, {"Authorization": f"Bearer {server.token}"})
    with closing(client):
        ours = play(case, namespace, client)
    for step, wanted, answer in zip(case.steps, expected(subject, case), ours, strict=True):
        assert answer == wanted, f"{step.method} {step.path} {step.body}"


def test_every_difference_is_of_a_case_and_has_a_reason() -> None:
    known = {(subject, case.name): len(case.steps) for subject in subjects() for case in cases(subject)}
    for difference in differences():
        assert difference["why"]
        assert max(difference["ours"]) < known[difference["subject"], difference["case"]]
