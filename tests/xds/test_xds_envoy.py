"""The protocol against a real Envoy: order, restart, refusal, re-warming."""

from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import pytest
from xds_envoy import cluster, endpoints, listener, page, routes, running
from xds_mesh import NODE, Mesh, credentials, serving, until

from isthmus.api.meta import Key
from isthmus.envoy.resource import ENDPOINTS, ROUTES, Resource
from quiet_ports import quiet_ports

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(300)]

RULE = Key("VirtualService", "shop", "ratings")
OTHER = Key("DestinationRule", "shop", "ratings")


async def programmed(mesh: Mesh, key: Key, answer: str) -> None:
    try:
        await until(lambda: mesh.programmed(key).startswith(answer))
    except TimeoutError:
        pytest.fail(f"{key} is {mesh.programmed(key)}, not {answer}; streams: {mesh.fleet.connected()}")


def at_rest(mesh: Mesh) -> bool:
    """Whether a proxy is connected that has answered everything, removals included."""
    states = mesh.fleet.connected()
    return bool(states) and all(
        state.synced and not any(kind.pending or kind.in_flight for kind in state.types.values())
        for state in states
    )


def config(port: int, route: Resource, *, cluster_timeout_s: float = 1.0) -> list[Resource]:
    backend = cluster("backend", OTHER, timeout_s=cluster_timeout_s)
    return [backend, endpoints("backend", 9, backend), listener(port, "web"), route]


async def test_restarted_control_plane_sends_nothing_and_then_changes_arrive(tmp_path: Path) -> None:
    files, (port,) = credentials(tmp_path), quiet_ports()
    first, second = Mesh(), Mesh()
    for mesh in (first, second):
        mesh.commit(*config(port, routes("web", RULE, body="one")), touched=(RULE, OTHER))
    async with AsyncExitStack() as server:
        ads_port = await server.enter_async_context(serving(first, files))
        async with running(tmp_path, files, ads_port):
            await programmed(first, RULE, "True Programmed")
            assert await page(port) == "200 one"
            assert first.fleet.sent.total() == 4

            await server.aclose()
            assert await page(port) == "200 one"
            async with serving(second, files, ads_port):
                await programmed(second, RULE, "True Programmed")
                assert second.fleet.sent.total() == 0
                started = monotonic()
                second.commit(*config(port, routes("web", RULE, body="two")), touched=(RULE,))
                await programmed(second, RULE, "True Programmed")
                assert monotonic() - started < 4  # not the patience of a session, 5 s
                assert await page(port) == "200 two"
                assert second.fleet.sent == {ROUTES: 1}


async def test_refused_route_leaves_the_last_good_and_is_told(tmp_path: Path) -> None:
    mesh, files, (port,) = Mesh(), credentials(tmp_path), quiet_ports()
    mesh.commit(*config(port, routes("web", RULE, body="good")), touched=(RULE, OTHER))
    async with AsyncExitStack() as server:
        ads_port = await server.enter_async_context(serving(mesh, files))
        async with running(tmp_path, files, ads_port) as admin:
            await programmed(mesh, RULE, "True Programmed")
            bad = routes("web", RULE, OTHER, body="bad", regex="a{1,2000}")
            mesh.commit(*config(port, bad), touched=(RULE,))
            await programmed(mesh, RULE, "False Rejected")
            text = mesh.programmed(RULE)
            assert text.count("RouteConfiguration") == 1
            assert f"{NODE} refused RouteConfiguration 'web'" in text
            assert "the last good version stays" in text
            assert "invalid repetition size: {1,2000}" in text  # Envoy's own words
            assert mesh.programmed(OTHER).startswith("True Programmed")  # its own last answer stands
            assert await page(port) == "200 good"

            sent = mesh.fleet.sent[ROUTES]
            mesh.commit(*config(port, bad, cluster_timeout_s=2), touched=(OTHER,))
            await programmed(mesh, OTHER, "False Rejected")
            await until(lambda: at_rest(mesh))
            assert mesh.fleet.sent[ROUTES] == sent  # not tried again with the same bytes
            await server.aclose()
            ads_port = await server.enter_async_context(serving(mesh, files, ads_port))
            before = mesh.fleet.sent.total()
            await until(lambda: at_rest(mesh))
            assert mesh.fleet.sent.total() == before  # nor after a reconnect
            assert await admin.stat("http.web.rds.web.update_rejected") == 1

            mesh.commit(*config(port, routes("web", RULE, body="mended")), touched=(RULE,))
            await programmed(mesh, RULE, "True Programmed")
            assert await page(port) == "200 mended"


async def test_bad_resource_does_not_hold_back_its_neighbours(tmp_path: Path) -> None:
    mesh, files, (port,) = Mesh(), credentials(tmp_path), quiet_ports()
    mesh.commit(*config(port, routes("web", RULE, body="good")), touched=(RULE,))
    async with (
        serving(mesh, files) as ads_port,
        running(tmp_path, files, ads_port),
    ):
        await programmed(mesh, RULE, "True Programmed")
        (second,), good, bad = quiet_ports(), Key("Service", "shop", "good"), Key("Service", "shop", "bad")
        mesh.commit(
            *config(port, routes("web", RULE, body="good")),
            listener(second, "web", good),
            listener(80, "web", bad, address="192.0.2.1"),
            touched=(good, bad),
        )
        await programmed(mesh, bad, "False Rejected")
        await programmed(mesh, good, "True Programmed")
        assert await page(second) == "200 good"

        # the good one is known to Envoy by version, so its removal works after a reconnect too
        mesh.commit(*config(port, routes("web", RULE, body="good")), touched=(RULE,))
        await programmed(mesh, RULE, "True Programmed")
        await until(lambda: at_rest(mesh))
        assert (await page(second)).startswith("unreachable")


async def test_changed_cluster_warms_at_once(tmp_path: Path) -> None:
    mesh, files, (port,) = Mesh(), credentials(tmp_path), quiet_ports()
    route = routes("web", RULE, to="backend")
    mesh.commit(*config(port, route), touched=(RULE, OTHER))
    async with (
        serving(mesh, files) as ads_port,
        running(tmp_path, files, ads_port) as admin,
    ):
        await programmed(mesh, OTHER, "True Programmed")
        assert (await page(port)).startswith("503 upstream connect error")
        for timeout_s in (2.0, 3.0):
            sent = mesh.fleet.sent[ENDPOINTS]
            started = monotonic()
            mesh.commit(*config(port, route, cluster_timeout_s=timeout_s), touched=(OTHER,))
            await programmed(mesh, OTHER, "True Programmed")
            assert monotonic() - started < 10  # not initial_fetch_timeout, 15 s
            assert mesh.fleet.sent[ENDPOINTS] == sent + 1
            assert await admin.stat("cluster_manager.warming_clusters") == 0


async def test_service_that_comes_and_goes_never_breaks_the_page(tmp_path: Path) -> None:
    mesh, files, (port,) = Mesh(), credentials(tmp_path), quiet_ports()

    def named(name: str) -> list[Resource]:
        backend = cluster(name)
        return [
            backend,
            endpoints(name, 9, backend),
            listener(port, "web"),
            routes("web", RULE, to=name),
        ]

    mesh.commit(*named("one"), touched=(RULE,))
    async with (
        serving(mesh, files) as ads_port,
        running(tmp_path, files, ads_port) as admin,
    ):
        await programmed(mesh, RULE, "True Programmed")
        for name in ("two", "three", "one"):
            mesh.commit(*named(name), touched=(RULE,))
            while not mesh.programmed(RULE).startswith("True Programmed"):
                # the backend is down, but its cluster is there: never "no cluster"
                assert (await page(port)).startswith("503 upstream connect error")
            await until(lambda: at_rest(mesh))
            assert (await page(port)).startswith("503 upstream connect error")
        clusters = await admin.fetch("/clusters")
        assert "one::" in clusters
        assert "two::" not in clusters
