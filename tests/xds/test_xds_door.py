"""The door over mTLS with a gRPC client: who may come in, and what then happens."""

from pathlib import Path

import grpc
import pytest
from xds_mesh import NODE, TRUST_DOMAIN, VM, Mesh, broken, connected, credentials, plain, serving, until

from isthmus.api.meta import Key
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, HOST, LISTENER, ROUTES
from isthmus.identity.spiffe import SpiffeId

RULE = Key("VirtualService", "shop", "ratings")


async def test_object_is_programmed_when_its_proxy_has_acked(tmp_path: Path) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    mesh.commit(plain(CLUSTER, "a", "1"), plain(LISTENER, "80", "1", RULE), touched=(RULE,))
    assert mesh.programmed(RULE).startswith("True NoProxies")
    async with serving(mesh, files) as port, connected(port, files) as client:
        await client.ask(CLUSTER, node=NODE)
        clusters = await client.read()
        assert [(r.name, r.version, r.resource.type_url) for r in clusters.resources] == [("a", "1", CLUSTER)]
        await client.ack(clusters)
        await client.ask(LISTENER)
        listeners = await client.read()
        mesh.commit(plain(CLUSTER, "a", "1"), plain(LISTENER, "80", "2", RULE), touched=(RULE,))
        assert mesh.programmed(RULE) == f"Unknown Pending: waiting for 1 of 1 proxies: {NODE}"
        await client.ack(listeners)
        listeners = await client.read()
        assert [r.version for r in listeners.resources] == ["2"]
        assert mesh.programmed(RULE).startswith("Unknown Pending")
        await client.ack(listeners)
        await until(lambda: mesh.programmed(RULE).startswith("True Programmed"))
        assert mesh.verdicts[RULE].generation == 2
        assert mesh.fleet.sent == {CLUSTER: 1, LISTENER: 2}


async def test_refusal_is_told_in_the_proxys_words(tmp_path: Path) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    mesh.commit(plain(ROUTES, "80", "1", RULE), touched=(RULE,))
    async with serving(mesh, files) as port, connected(port, files) as client:
        await client.ask(ROUTES, "80", node=NODE)
        await client.ack(await client.read(), error="bad regex")
        await until(lambda: mesh.programmed(RULE).startswith("False Rejected"))
        assert mesh.programmed(RULE).endswith(
            f"{NODE} refused RouteConfiguration '80' (made from VirtualService/shop/ratings;"
            " there is no earlier version to keep): bad regex"
        )
        (state,) = mesh.fleet.connected()
        assert state.types[ROUTES].refused == {"80": "bad regex"}
        mesh.commit(plain(ROUTES, "80", "2", RULE), touched=(RULE,))
        routes = await client.read()
        await client.ack(routes)
        await client.ask(CLUSTER)
        await client.ack(await client.read())
        await client.ask(LISTENER)
        await client.ack(await client.read())
        await until(lambda: mesh.programmed(RULE).startswith("True Programmed"))


async def test_agent_gets_the_host_and_is_not_waited_for(tmp_path: Path) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    mesh.commit(plain(HOST, "host", "1"), touched=(RULE,))
    async with serving(mesh, files) as port, connected(port, files) as client:
        await client.ask(HOST, node=NODE.replace("sidecar", "agent"))
        host = await client.read()
        assert [r.name for r in host.resources] == ["host"]
        assert mesh.programmed(RULE).startswith("True NoProxies")
        assert [state.role for state in mesh.fleet.connected()] == ["agent"]


@pytest.mark.parametrize(
    ("node", "workload", "namespace", "text"),
    [
        (NODE.replace("vm-10.0.0.1.shop", "other.shop"), VM.workload, "shop", "not the workload"),
        (NODE, "other", "shop", "not the workload"),
        (NODE, VM.workload, "elsewhere", "not the workload"),
        (NODE.replace("sidecar", "waypoint"), VM.workload, "shop", "is not sidecar~"),
        ("", VM.workload, "shop", "must name its node"),
    ],
)
async def test_node_must_be_who_the_certificate_says(
    tmp_path: Path, node: str, workload: str, namespace: str, text: str
) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    mesh.commit(plain(CLUSTER, "a", "1"))
    spiffe = SpiffeId(TRUST_DOMAIN, namespace, "shop-sa")
    async with (
        serving(mesh, files) as port,
        connected(port, files, workload=workload, spiffe=spiffe) as client,
    ):
        await client.ask(CLUSTER, node=node)
        code, details = await client.ended()
        assert code in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT}
        assert text in details
        assert mesh.fleet.connected() == []
        assert not mesh.fleet.sent


async def test_workload_that_left_is_turned_away(tmp_path: Path) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    mesh.commit(plain(CLUSTER, "a", "1"))
    async with serving(mesh, files) as port:
        async with connected(port, files) as client:
            await client.ask(CLUSTER, node=NODE)
            await client.read()
            mesh.accounts.clear()
            mesh.commit(plain(CLUSTER, "a", "2"))
            code, details = await client.ended()
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "shop/vm-10.0.0.1 is not registered (left?)" in details
        async with connected(port, files) as client:
            await client.ask(CLUSTER, node=NODE)
            assert (await client.ended())[0] is grpc.StatusCode.PERMISSION_DENIED
        mesh.accounts[VM] = "another-sa"
        async with connected(port, files) as client:
            await client.ask(CLUSTER, node=NODE)
            assert "another service account" in (await client.ended())[1]


async def test_bytes_that_are_no_request_end_the_stream(tmp_path: Path) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    async with serving(mesh, files) as port, connected(port, files) as client:
        await client.send(b"\xff\xff\xff")
        assert (await client.ended())[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_client_without_a_certificate_does_not_get_in(tmp_path: Path) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    async with serving(mesh, files) as port:
        trusted = grpc.ssl_channel_credentials(files.roots.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
            call = channel.stream_stream("/any/method")()  # type: ignore[call-arg]
            assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_bug_in_translation_leaves_the_last_good(tmp_path: Path) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    mesh.commit(plain(CLUSTER, "a", "1"))
    async with serving(mesh, files) as port, connected(port, files) as client:
        await client.ask(CLUSTER, node=NODE)
        await client.ack(await client.read())
        with broken(mesh):
            await until(lambda: mesh.fleet.failures > 0)
            mesh.commit(plain(CLUSTER, "a", "2"), touched=(RULE,))
            assert mesh.programmed(RULE).startswith("Unknown Pending")
        clusters = await client.read()
        assert [r.version for r in clusters.resources] == ["2"]


async def test_refusal_is_remembered_when_the_client_comes_back(tmp_path: Path) -> None:
    mesh, files = Mesh(), credentials(tmp_path)
    mesh.commit(plain(CLUSTER, "a", "1"), plain(CLUSTER, "b", "1", RULE), touched=(RULE,))
    async with serving(mesh, files) as port:
        async with connected(port, files) as client:
            await client.ask(CLUSTER, node=NODE)
            await client.ack(await client.read(), error="b is bad")
            for _ in range(2):
                lone = await client.read()
                await client.ack(lone, error="b is bad" if lone.resources[0].name == "b" else "")
            await until(lambda: mesh.programmed(RULE).startswith("False Rejected"))
        await until(lambda: not mesh.fleet.connected())
        sent = mesh.fleet.sent.total()
        async with connected(port, files) as client:
            await client.ask(CLUSTER, node=NODE, initial_resource_versions={"a": "1"})
            await client.ask(ENDPOINTS, "none")
            assert list((await client.read()).removed_resources) == ["none"]
            assert mesh.fleet.sent.total() == sent
            assert mesh.programmed(RULE).startswith("False Rejected")
