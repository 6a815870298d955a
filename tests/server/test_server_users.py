"""Users: tokens, certificates, roles, and who may make whom."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from documents import namespace, service, workload_entry
from isthmus.api.kinds import KINDS
from isthmus.cli.client import Client, Refused
from isthmus.cli.main import main
from isthmus.server.roles import Act, Grant, User, allowed
from isthmus.server.users import Account, NameTaken, Users
from kube_server import KubeServer, kube_server

ENTRY, SECRET, NAMESPACE = KINDS["WorkloadEntry"], KINDS["Secret"], KINDS["Namespace"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server with the namespaces bookinfo and other."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        found.apply(namespace(), namespace("other"))
        yield found


def isthmus(server: KubeServer, *args: str) -> Result:
    """The command as the admin runs it."""
    return CliRunner().invoke(main, args, env={"ISTHMUS_KUBECONFIG": str(server.kubeconfig)})


def client(server: KubeServer, directory: Path, name: str, *options: str) -> Client:
    """A new user's client."""
    file = directory / f"{name}.kubeconfig"
    made = isthmus(server, "user", "create", name, "-o", str(file), *options)
    assert made.exit_code == 0, made.output
    assert file.stat().st_mode & 0o777 == 0o600
    return Client.from_kubeconfig(file)


def refusal(call: Any, *args: Any) -> tuple[int, str]:
    """How the server refuses a call."""
    with pytest.raises(Refused) as caught:
        call(*args)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(
    ("grant", "act", "may"),
    [
        (Grant("admin"), Act("delete", NAMESPACE, "", "x"), True),
        (Grant("admin", "a"), Act("create", SECRET, "b"), False),
        (Grant("editor"), Act("create", NAMESPACE, "", "x"), True),
        (Grant("editor", "a"), Act("create", ENTRY, "a"), True),
        (Grant("editor", "a"), Act("create", ENTRY, "b"), False),
        (Grant("editor", "a"), Act("list", ENTRY, ""), False),
        (Grant("editor", "a"), Act("get", NAMESPACE, "", "a"), True),
        (Grant("editor", "a"), Act("delete", NAMESPACE, "", "a"), False),
        (Grant("viewer"), Act("watch", ENTRY, ""), True),
        (Grant("viewer"), Act("get", SECRET, "a", "s"), False),
        (Grant("viewer"), Act("patch", ENTRY, "a", "x", status=True), False),
        (Grant("agent", "a"), Act("patch", ENTRY, "a", "x", status=True), True),
        (Grant("agent", "a"), Act("patch", ENTRY, "a", "x"), False),
        (Grant("agent", "a"), Act("get", SECRET, "a", "x"), False),
    ],
)
def test_roles(grant: Grant, act: Act, may: bool) -> None:
    assert allowed(User("u", [grant]), act) is may
    assert not allowed(User("u", []), act)


@pytest.mark.parametrize("by", [(), ("--certificate",)], ids=["token", "certificate"])
def test_an_editor_of_one_namespace(server: KubeServer, tmp_path: Path, by: tuple[str, ...]) -> None:
    name = f"ed{len(by)}"
    editor = client(server, tmp_path, name, "--role", "editor", "-n", "bookinfo", *by)
    editor.create(ENTRY, "bookinfo", workload_entry(f"by-{name}"))
    assert editor.get(ENTRY, "bookinfo", f"by-{name}")["metadata"]["name"] == f"by-{name}"
    code, text = refusal(editor.create, ENTRY, "other", workload_entry("x", namespace="other"))
    assert (code, text) == (
        403,
        f'workloadentries.networking.istio.io is forbidden: User "{name}" cannot create resource '
        '"workloadentries" in API group "networking.istio.io" in the namespace "other"',
    )
    assert refusal(editor.listing, ENTRY, None, {})[0] == 403
    assert refusal(editor.apply, [workload_entry("x", namespace="other")])[0] == 403
    assert refusal(editor.request, "GET", "/apis/isthmus.dev/v1alpha1/users")[0] == 403
    assert refusal(editor.request, "GET", "/apis/isthmus.dev/v1alpha1/backup")[0] == 403
    assert isthmus(server, "user", "delete", name).output == f"user {name} deleted\n"
    assert refusal(editor.get, ENTRY, "bookinfo", f"by-{name}")[0] == 401


def test_a_viewer_asks_what_they_may(server: KubeServer, tmp_path: Path) -> None:
    viewer = client(server, tmp_path, "vi", "--role", "viewer")
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

    def may(verb: str, resource: str, group: str = "") -> bool:
        attributes = {"verb": verb, "resource": resource, "group": group, "namespace": "bookinfo"}
        answer = viewer.request("POST", path, {"spec": {"resourceAttributes": attributes}}).document
        return bool(answer["status"]["allowed"])

    assert may("list", "services")
    assert not may("create", "services")
    assert not may("get", "secrets")
    assert not may("get", "widgets")
    assert refusal(viewer.create, KINDS["Service"], "bookinfo", service("x"))[0] == 403
    listed = isthmus(server, "user", "list").output
    assert "vi  viewer everywhere  by token\n" in listed


def test_names_are_taken_once(server: KubeServer, tmp_path: Path) -> None:
    client(server, tmp_path, "once", "--role", "viewer")
    again = isthmus(server, "user", "create", "once", "--role", "admin", "-o", str(tmp_path / "x"))
    assert again.exit_code == 1
    assert "there is a user once" in again.output
    assert not (tmp_path / "x").exists()
    for body in (
        {},
        {"name": "a b", "grants": [{"role": "viewer"}]},
        {"name": "a", "grants": [{"role": "x"}]},
    ):
        reply = server.request("POST", "/apis/isthmus.dev/v1alpha1/users", body)
        assert reply.code == 422, body
    wrong = {"name": "a", "grants": [{"role": "viewer"}], "request": "no PEM"}
    assert server.request("POST", "/apis/isthmus.dev/v1alpha1/users", wrong).code == 422
    assert server.request("DELETE", "/apis/isthmus.dev/v1alpha1/users/admin").code == 409
    assert server.request("DELETE", "/apis/isthmus.dev/v1alpha1/users/nobody").code == 404


def test_a_certificate_of_another_authority_is_nobodys(server: KubeServer, tmp_path: Path) -> None:
    users = Users(tmp_path)
    from isthmus.identity import keys

    key = keys.new_key()
    certificate = users.add_with_certificate("ed", [Grant("admin")], keys.request_pem(key).encode())
    (tmp_path / "both.pem").write_bytes(certificate.encode() + keys.key_pem(key))
    context = ssl.create_default_context(cafile=str(Path(server.kubeconfig).parent / "roots.pem"))
    context.load_cert_chain(tmp_path / "both.pem")
    stranger = Client("127.0.0.1", server.port, context, "")
    with pytest.raises(Exception, match=r"does not answer|unknown ca|Unauthorized"):
        stranger.request("GET", "/api")


def test_users_are_kept(tmp_path: Path) -> None:
    users = Users(tmp_path)
    token = users.add_with_token("a", [Grant("editor", "x"), Grant("viewer")])
    with pytest.raises(NameTaken):
        users.add_with_token("a", [Grant("viewer")])
    text = (tmp_path / "users.json").read_text()
    assert token not in text
    again = Users(tmp_path)
    assert again.knows(token)
    assert again.all()[0].grants == (Grant("editor", "x"), Grant("viewer"))
    assert again.remove("a")
    assert not Users(tmp_path).knows(token)
    (tmp_path / "users.json").write_text(json.dumps({"abc": "admin"}))
    assert Users(tmp_path).all() == [Account("admin", (Grant("admin"),), token="abc")]
