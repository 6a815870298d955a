"""What a mesh must survive, and what it must leave behind: assertions f) to j)."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cryptography import x509

from isthmus.demo import firewall, vm
from isthmus.demo.check_mesh import Say, expect, load_from, load_result
from isthmus.demo.load import Load
from isthmus.demo.stage import FOLLOWS_S, Stage, manifest, service, stars
from isthmus.demo.vm import VM
from isthmus.lab import snapshot
from isthmus.lab.host import Host

OUTAGE_S = 60
ROTATIONS = 3
ROTATION_LIMIT_S = 150
RECONNECT_S = 20
# What a stream costs that brings nothing: HTTP/2 settings and headers.
EMPTY_STREAM_BYTES = 1000
PAGE = "http://productpage.bookinfo:9080/productpage"


def control_plane_killed(stage: Stage, say: Say) -> None:
    """f) Traffic goes on without the control plane; its return costs nothing; a change made then arrives."""
    proxies = {name: joined for name, joined in {**stage.bookinfo, "vm": stage.vm}.items()}
    before = {name: _received(joined) for name, joined in proxies.items()}
    stage.plane.kill()
    try:
        say("control plane killed (SIGKILL)")
        options = ("--seconds", str(OUTAGE_S), "--pause-ms", "50")
        load = load_from(stage.vm.host, PAGE, *options, timeout_s=OUTAGE_S + 30)
        expect(load.failed == 0, f"{load.failed} of {load.requests} requests failed: {load.failures}")
        expect(stars(stage.page()) == stage.ratings(), "the page lost its stars without the control plane")
        say(f"{load.requests} requests in {OUTAGE_S} s, none failed, the longest {load.longest_ms:.0f} ms")
    finally:
        stage.plane.restart()
    for joined in proxies.values():
        _await_stream(joined)
    time.sleep(2)  # whatever is going to be sent again is on its way by now
    for name, joined in proxies.items():
        now = _received(joined)
        expect(
            now.updates == before[name].updates,
            f"{name}: resources came again: {now.updates - before[name].updates} updates",
        )
        cost = now.total_bytes - before[name].total_bytes
        expect(
            cost < EMPTY_STREAM_BYTES, f"{name}: {cost} bytes came after the return, expected next to none"
        )
    say(f"it is back: {len(proxies)} proxies connected, zero resources re-sent")
    stage.apply("reviews-v2")
    stage.await_page(lambda page: "color:black" in page, "black stars, the change made after the return")
    say("a change made now arrives: reviews v2, black stars")
    stage.apply("ratings-mysql-vm")


def certificates_rotate(stage: Stage, say: Say) -> None:
    """h) Certificates that live for 60 s rotate three times under load, and no request fails."""
    client, server = _rotating(stage)
    seen: dict[str, set[int]] = {"client": set(), "server": set()}

    def rotated() -> bool:
        for name, joined in (("client", client), ("server", server)):
            seen[name].add(_serial(joined))
        return all(len(serials) > ROTATIONS for serials in seen.values())

    with _loads(client.host) as results:
        client.host.wait_until(rotated, f"{ROTATIONS} rotations", timeout_s=ROTATION_LIMIT_S)
    for kind, load in results.items():
        expect(load.failed == 0, f"{kind}: {load.failed} of {load.requests} requests failed: {load.failures}")
        say(f"{kind}: {load.requests} requests, none failed, the longest {load.longest_ms:.0f} ms")
    counts = {name: len(serials) for name, serials in seen.items()}
    say(f"certificates seen: {counts['client']} at the client, {counts['server']} at the server")


def agent_killed(stage: Stage, say: Say) -> None:
    """g) Envoy serves on without its agent; the agent comes back to the same Envoy and renews."""
    client, server = _rotating(stage)
    envoy, serial = server.envoy_pid(), _serial(server)
    with _loads(client.host) as results:
        server.kill_agent()
        say("the server's agent killed (SIGKILL)")
        client.host.run(["sleep", "3"])
        server.start_agent()
        server.host.wait_until(lambda: _serial(server) != serial, "a renewed certificate", timeout_s=60)
        client.host.run(["sleep", "2"])
    for kind, load in results.items():
        expect(load.failed == 0, f"{kind}: {load.failed} of {load.requests} requests failed: {load.failures}")
    requests = sum(load.requests for load in results.values())
    expect(server.envoy_pid() == envoy, f"Envoy was process {envoy}, is {server.envoy_pid()}")
    say(f"back: same Envoy, new certificate; {requests} requests meanwhile, none failed")


def vm_leaves(stage: Stage, say: Say) -> None:
    """i) After `leave` the VM is as it was before `join`."""
    if stage.database is not None:
        stage.database.remove()
        stage.database = None
    firewall.remove(stage.vm.host)
    say("the operator takes MariaDB and the firewall off the VM again")
    for line in stage.vm.leave().strip().splitlines():
        say(f"│ {line}")
    stage.vm.agent.popen.wait(10)
    differences = stage.vm_before.differences(stage.vm.host.snapshot())
    expect(not differences, "the VM is not as it was:\n" + "\n".join(differences))
    listed = stage.plane.isthmus("get", "workloadentries", "-n", "vm", "-o", "json")
    expect("mysqldb" not in listed, "the VM's WorkloadEntry is still there")
    say(
        f"{len(stage.vm_before.facts)} facts equal: nftables, addresses, routes, resolv.conf, hosts, files, "
        "processes, listening sockets"
    )


def machine_untouched(stage: Stage, say: Say) -> None:
    """j) Links, addresses, routes, nftables and resolver of the real machine are as before the lab."""
    differences = stage.machine.differences(snapshot.machine())
    expect(not differences, "this machine is not as it was:\n" + "\n".join(differences))
    say(f"{len(stage.machine.facts)} facts equal: {', '.join(sorted(stage.machine.facts))}")


class _Received:
    """What the control plane has sent to an Envoy, by Envoy's own count."""

    def __init__(self, stats: Mapping[str, int]) -> None:
        self.updates = sum(value for name, value in stats.items() if name.endswith(".update_success"))
        self.total_bytes = stats.get("cluster.xds-grpc.upstream_cx_rx_bytes_total", 0)
        self.streams = stats.get("control_plane.connected_state", 0)


def _await_stream(joined: VM) -> None:
    joined.host.wait_until(
        lambda: _received(joined).streams > 0, "the stream's return", timeout_s=RECONNECT_S
    )


def _received(joined: VM) -> _Received:
    pattern = r"update_success|xds-grpc.upstream_cx_rx_bytes_total|^control_plane.connected_state"
    document = joined.envoy(f"/stats?format=json&filter={re.sub('[|^]', _escape, pattern)}")
    return _Received({item["name"]: item["value"] for item in document["stats"] if "value" in item})


def _escape(match: "re.Match[str]") -> str:
    return f"%{ord(match.group()):02X}"


def _serial(joined: VM) -> int:
    return x509.load_pem_x509_certificate(joined.chain().encode()).serial_number


def _rotating(stage: Stage) -> tuple[VM, VM]:
    """The pair whose certificates live for a minute; joined on first use."""
    if "rotating-client" not in stage.more:
        stage.plane.apply(manifest("check.yaml"))
        for name in ("rotating-server", "rotating-client"):
            host = stage.lab.host(name)
            if name == "rotating-server":
                service(host, "details", {})
            stage.more[name] = vm.join(stage.plane, host, f"check/{name}")
        client = stage.more["rotating-client"].host
        client.wait_until(lambda: _answers(client), "an answer of the rotating pair", timeout_s=FOLLOWS_S)
    return stage.more["rotating-client"], stage.more["rotating-server"]


def _answers(host: Host) -> bool:
    url = "http://rotating.check:9080/details/0"
    return host.run(["curl", "-s", "--fail", "-m", "5", "-o", "/dev/null", url], check=False).returncode == 0


@contextmanager
def _loads(host: Host) -> Iterator[dict[str, Load]]:
    """Load the rotating pair while the block runs, on kept and on fresh connections."""
    url = "http://rotating.check:9080/details/0"
    kinds = {
        "kept connections": ("--pause-ms", "20"),
        "fresh connections": ("--pause-ms", "50", "--fresh"),
    }
    running = {
        kind: host.spawn(
            host.python("isthmus.demo.load", url, *options), log=f"load-{options[-1].strip('-')}.log"
        )
        for kind, options in kinds.items()
    }
    for process in running.values():
        process.wait_for_line("loading", timeout_s=10)
    results: dict[str, Load] = {}
    try:
        yield results
    finally:
        for process in running.values():
            process.stop()
    results.update({kind: load_result(process.output()) for kind, process in running.items()})
