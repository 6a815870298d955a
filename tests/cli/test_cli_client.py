"""A kubeconfig to a client, and what it says when the server is not there or not the right one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from isthmus.api.kinds import KINDS
from isthmus.cli.client import Client, KubeconfigError, Refused, Unreachable, kubeconfig_path
from kube_server import KubeServer, kube_server
from quiet_ports import quiet_ports


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """One server for all tests of the module."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        yield found


def changed(server: KubeServer, path: Path, section: str, values: Mapping[str, Any]) -> Client:
    """A client from the server's kubeconfig with other values in one section."""
    yaml = YAML(typ="safe", pure=True)
    document = yaml.load(server.kubeconfig.read_text())
    document[f"{section}s"][0][section] |= dict(values)
    with (path / "kubeconfig").open("w") as file:
        yaml.dump(document, file)
    return Client.from_kubeconfig(path / "kubeconfig")


def test_a_client_that_fits(server: KubeServer) -> None:
    client = Client.from_kubeconfig(server.kubeconfig)
    assert client.listing(KINDS["Namespace"], None, {})["items"] == []
    assert server.token not in repr(client)
    with pytest.raises(Refused, match="not found") as caught:
        client.get(KINDS["VirtualService"], "a", "c d")
    assert (caught.value.code, caught.value.reason) == (404, "NotFound")


def test_a_wrong_token(server: KubeServer, tmp_path: Path) -> None:
    client = changed(server, tmp_path, "user", {"token": "wrong"})
    with pytest.raises(Refused, match="Unauthorized") as caught:
        client.listing(KINDS["Namespace"], None, {})
    assert caught.value.code == 401


def test_nobody_there(server: KubeServer, tmp_path: Path) -> None:
    (port,) = quiet_ports()
    client = changed(server, tmp_path, "cluster", {"server": f"https://127.0.0.1:{port}"})
    with pytest.raises(
        Unreachable, match=f"https://127.0.0.1:{port} does not answer: .*is isthmus serve running"
    ):
        client.listing(KINDS["Namespace"], None, {})


def test_another_server_than_the_one_meant(
    server: KubeServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with kube_server(tmp_path_factory.mktemp("other")) as other:
        client = changed(
            server,
            tmp_path_factory.mktemp("config"),
            "cluster",
            {"server": f"https://127.0.0.1:{other.port}"},
        )
        with pytest.raises(Unreachable, match="the kubeconfig does not trust its certificate"):
            client.listing(KINDS["Namespace"], None, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("[]", "is not a kubeconfig"),
        ("{}", "current-context"),
        ("{current-context: a, contexts: []}", "contexts: a"),
    ],
)
def test_kubeconfigs_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match=words):
        Client.from_kubeconfig(path)


def test_kubeconfig_values_that_cannot_be_used(server: KubeServer, tmp_path: Path) -> None:
    for section, values, words in (
        ("cluster", {"server": "http://127.0.0.1:1"}, "is not https"),
        ("cluster", {"server": "https://127.0.0.1:x"}, "missing or wrong"),
        ("cluster", {"certificate-authority-data": "!"}, "missing or wrong"),
        # nothing to trust must never mean: trust what the system trusts
        ("cluster", {"certificate-authority-data": ""}, "holds no certificate"),
        ("cluster", {"certificate-authority-data": "bm90IGEgY2VydGlmaWNhdGU="}, "holds no certificate"),
        ("user", {"token": ""}, "has no token"),
    ):
        with pytest.raises(KubeconfigError, match=words):
            changed(server, tmp_path, section, values)
    with pytest.raises(KubeconfigError, match="does not exist: give --kubeconfig"):
        Client.from_kubeconfig(tmp_path / "missing")


def test_where_the_kubeconfig_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_KUBECONFIG", raising=False)
    assert kubeconfig_path(None) == Path("admin.kubeconfig")
    monkeypatch.setenv("ISTHMUS_KUBECONFIG", "/a/b")
    assert kubeconfig_path(None) == Path("/a/b")
    assert kubeconfig_path("c") == Path("c")
