"""A whole control plane: a token is used again at the same address, and the old certificate gets nothing."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from control_plane import ControlPlane, control_plane
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus.agent import door, enrol, keywork, leave
from isthmus.agent.enrol import Enrolled
from isthmus.identity import jointoken
from isthmus.xds.stream import METHOD

HOST = "type.googleapis.com/isthmus.agent.v1.HostConfig"
MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: vms}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: vms}
spec: {metadata: {labels: {app: db}}, template: {serviceAccount: db}}
"""


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with control_plane(tmp_path) as made:
        yield made


def isthmus(directory: Path, *arguments: str, text: str = "") -> str:
    command = [str(Path(sys.executable).with_name("isthmus")), *arguments]
    known = os.environ | {"ISTHMUS_KUBECONFIG": str(directory / "state" / "admin.kubeconfig")}
    return subprocess.run(command, input=text, env=known, capture_output=True, text=True, check=True).stdout


def enrolled(token: jointoken.Token) -> Enrolled:
    return enrol.enrol(token, enrol.knock(token.addresses, token.pin), keywork.request(), "10.0.0.5")


async def stream(vm: Enrolled) -> str:
    """What an agent's stream gets with the VM's certificate: its first resource's name, or why not."""
    node = vm.bootstrap["node"]["id"].replace("sidecar~", "agent~", 1)
    request = discovery_v3.DeltaDiscoveryRequest(type_url=HOST, resource_names_subscribe=["host"])
    request.node.id = node

    async def requests() -> AsyncIterator[discovery_v3.DeltaDiscoveryRequest]:
        yield request
        await asyncio.Event().wait()  # the client stays

    async with door.channel(vm.membership.doors[0], vm.credentials) as channel:
        call = channel.stream_stream(
            METHOD,
            discovery_v3.DeltaDiscoveryRequest.SerializeToString,
            discovery_v3.DeltaDiscoveryResponse.FromString,
        )
        try:
            answer = await anext(aiter(call(requests())))
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return str(answer.resources[0].name)


@pytest.mark.timeout(300)
def test_the_old_certificate_is_worth_nothing_to_the_heir_of_its_name(
    plane: ControlPlane, tmp_path: Path
) -> None:
    isthmus(tmp_path, "apply", "-f", "-", text=MESH)
    text = isthmus(tmp_path, "token", "create", "--group", "vms/db").strip().splitlines()[-1]
    token = jointoken.parse(text)
    failed = enrolled(token)
    assert asyncio.run(stream(failed)) == "host"
    told = leave.tell(failed.membership, failed.credentials, token.id)
    assert told.token.startswith("the token is as new, for this VM or another until 20")
    assert "is not registered" in asyncio.run(stream(failed))
    heir = enrolled(token)
    assert heir.membership.workload == failed.membership.workload
    assert asyncio.run(stream(heir)) == "host"
    refused = asyncio.run(stream(failed))
    assert refused.startswith(
        "PERMISSION_DENIED: workload vms/db-10.0.0.5 was enrolled after this certificate"
    )
    again = leave.tell(failed.membership, failed.credentials, token.id)
    assert "was not told" in again.words
    assert "after this certificate" in again.words
    assert asyncio.run(stream(heir)) == "host"
    events = isthmus(tmp_path, "get", "events", "-n", "vms", "-o", "yaml")
    assert "the join as db-10.0.0.5 failed, and the token is unused again" in events
