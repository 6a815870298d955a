"""Requests on one socket become networks and hosts: pid 1 of a lab, whose death removes the whole lab.

owner (outside) ──JSON, one packet each, file descriptors beside it──▶ leader ──▶ holders, bridges, relays
      └─ when the owner goes, the socket ends, the leader ends, and the kernel takes every process and
         every namespace of the lab with it.
"""

import asyncio
import functools
import json
import logging
import os
import signal
import socket
import sys
from typing import Any

from isthmus.lab import bringup, relay, resolver
from isthmus.lab.addresses import FIRST_HOST, LAST_HOST, Network
from isthmus.lab.bringup import Wanted
from isthmus.lab.records import LabError

PACKET = 65536
logger = logging.getLogger("isthmus.lab.leader")


class Leader:
    """The state of one lab: its networks, its hosts, its names, and the relays into it."""

    def __init__(self) -> None:
        self._networks: dict[int, Network] = {}
        self._hosts: dict[str, Wanted] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Make the leader's namespaces ready and answer names."""
        await asyncio.to_thread(bringup.prepare_lab)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(
            lambda: resolver.Datagrams(self._names), sock=_dual(socket.SOCK_DGRAM)
        )
        stream = functools.partial(resolver.serve_stream, names=self._names)
        self._servers.append(await asyncio.start_server(stream, sock=_dual(socket.SOCK_STREAM)))

    async def host(self, *, name: str, v4: bool, v6: bool, network: int) -> dict[str, Any]:
        """Bring one host up."""
        if name in self._hosts:
            raise LabError(f"host {name} exists already in this lab")
        taken = {host.number for host in self._hosts.values()}
        number = next((n for n in range(FIRST_HOST, LAST_HOST) if n not in taken), None)
        if number is None:
            raise LabError(f"host {name}: the lab is full, it has {len(taken)} hosts")
        wanted = Wanted(name, number, await self._network(network), v4, v6)
        pid = await asyncio.to_thread(bringup.add_host, wanted)
        self._hosts[name] = wanted
        self._names[name.lower()] = wanted.addresses
        return {
            "pid": pid,
            "port": wanted.port,
            "v4": str(wanted.network.host_v4(number)) if v4 else None,
            "v6": str(wanted.network.host_v6(number)) if v6 else None,
        }

    async def forward(self, *, address: str, port: int, listener: socket.socket) -> dict[str, Any]:
        """Carry what a socket from outside accepts to a lab host."""
        carry = functools.partial(relay.relay, address=address, port=port)
        self._servers.append(await asyncio.start_server(carry, sock=listener))
        return {}

    async def _network(self, index: int) -> Network:
        if index not in self._networks:
            network = Network(index)
            await asyncio.to_thread(bringup.add_bridge, network)
            self._networks[index] = network
        return self._networks[index]


async def answer(leader: Leader, packet: bytes, sockets: list[socket.socket]) -> dict[str, Any]:
    """Do what one packet asks and say how it went."""
    try:
        request = json.loads(packet)
        match request.pop("op"):
            case "host":
                return {"done": await leader.host(**request)}
            case "forward":
                return {"done": await leader.forward(**request, listener=sockets[0])}
            case unknown:
                raise LabError(f"the leader knows no request {unknown!r}")
    except (LabError, OSError) as error:
        logger.warning("request failed error=%s", error)
        return {"error": str(error)}


async def supervise(channel: socket.socket) -> None:
    """Serve the owner until it goes away."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    readable = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    leader = Leader()
    await leader.start()
    channel.send(json.dumps({"done": {"ready": True}}).encode())
    channel.setblocking(False)
    loop.add_reader(channel, readable.set)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(_serve(leader, channel, readable))
        stopping = tasks.create_task(stopped.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        stopping.cancel()


async def _serve(leader: Leader, channel: socket.socket, readable: asyncio.Event) -> None:
    while True:
        await readable.wait()
        readable.clear()
        try:
            packet, descriptors, _, _ = socket.recv_fds(channel, PACKET, 4)
        except BlockingIOError:
            continue  # the loop saw the packet twice: once before it was read
        if not packet:
            return
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        channel.send(json.dumps(await answer(leader, packet, sockets)).encode())


def _dual(kind: socket.SocketKind) -> socket.socket:
    """Port 53 on every address of the lab's router, both families."""
    bound = socket.socket(socket.AF_INET6, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    bound.bind(("::", 53))
    if kind == socket.SOCK_STREAM:
        bound.listen()
    bound.setblocking(False)
    return bound


def main() -> None:
    """Run as pid 1 of a new lab; the argument is the file descriptor of the socket to the owner."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        asyncio.run(supervise(channel))
    except LabError as error:
        channel.send(json.dumps({"error": str(error)}).encode())
    # pid 1 does not wait for anything: its end is the end of the lab.
    os._exit(0)


if __name__ == "__main__":
    main()
