"""Where VMs reach the control plane -> the objects that make it a workload of its own mesh.

The Service `isthmus` in `isthmus-system` and one WorkloadEntry per address are ordinary objects: a joining VM
proves its way out by calling them (docs/decisions/002-proof-of-capture.md).
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from isthmus.api.codec import decode
from isthmus.api.defaults import born, defaulted
from isthmus.api.meta import Object
from isthmus.server.vips import with_vips
from isthmus.store.base import Delete, Mutate, Store, Write

SYSTEM = "isthmus-system"
NAME = "isthmus"
NAMESPACES = ("default", SYSTEM)
"""Namespaces that are always there: that of objects which name none, and the mesh's own."""
_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
"""Documentation addresses (RFC 5737, RFC 3849): asking for the route to them sends nothing."""


class Unadvertisable(ValueError):
    """An address by which VMs cannot reach this machine."""


def default_addresses() -> tuple[str, ...]:
    """This machine's own addresses on its default routes, IPv4 first; empty when it has none."""
    found = []
    for family, elsewhere in ((socket.AF_INET, _ELSEWHERE[0]), (socket.AF_INET6, _ELSEWHERE[1])):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((elsewhere, 9))
            except OSError:
                continue
            found.append(str(probe.getsockname()[0]))
    return tuple(found)


def resolved(advertised: Sequence[str]) -> tuple[str, ...]:
    """The IP addresses behind what is advertised, in order; Unadvertisable names the one that has none."""
    addresses: dict[str, None] = {}
    for name in advertised:
        try:
            found = {str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
        except OSError as error:
            raise Unadvertisable(
                f"--advertise {name}: {error.strerror or error}; give an address, or a name that VMs resolve"
            ) from error
        for address in sorted(found, key=lambda text: (ip_address(text).version, text)):
            if ip_address(address).is_unspecified:
                raise Unadvertisable(f"--advertise {name}: VMs cannot connect to {address}; name one address")
            addresses[address] = None
    return tuple(addresses)


def own_objects(addresses: Sequence[str], *, probe_port: int) -> list[Object]:
    """What the control plane registers about itself."""
    labels = {"app": NAME}
    documents = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES]
    documents += [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": SYSTEM}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME, "namespace": SYSTEM},
            "spec": {
                "selector": labels,
                "ports": [{"name": "http", "port": 80, "targetPort": probe_port}],
            },
        },
    ]
    documents += [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {
                "name": f"{NAME}-{address.replace(':', '-')}",
                "namespace": SYSTEM,
                "labels": labels,
            },
            "spec": {
                "address": address,
                "labels": {**labels, "security.istio.io/tlsMode": "istio"},
                "serviceAccount": NAME,
            },
        }
        for address in addresses
    ]
    objects = []
    for document in documents:
        obj, problems = decode(document)
        assert obj is not None, problems
        objects.append(defaulted(obj))
    return objects


async def register(store: Store, addresses: Sequence[str], *, probe_port: int) -> None:
    """Makes the store say about the control plane what is true now, in one write."""
    wanted = own_objects(addresses, probe_port=probe_port)
    keys = {obj.key for obj in wanted}
    services, _ = await store.list("Service")
    entries_of_services, _ = await store.list("ServiceEntry")
    wanted = with_vips(wanted, (*services, *entries_of_services))
    entries, _ = await store.list("WorkloadEntry", SYSTEM)
    # what is right already is not written again: a restart must not need room on the disk
    writes: list[Write] = [
        Mutate(obj.key, _becoming(obj)) for obj in wanted if not _stands(obj, await store.get(obj.key))
    ]
    writes += [
        Delete(entry.key)
        for entry in entries
        if entry.key not in keys
        and entry.key.name.startswith(f"{NAME}-")
        and entry.meta.labels.get("app") == NAME
    ]
    if writes:
        await store.apply(writes)


def _stands(wanted: Object, current: Object | None) -> bool:
    return (
        current is not None
        and current.spec == wanted.spec
        and dict(current.meta.labels) == dict(wanted.meta.labels)
    )


def _becoming(wanted: Object) -> Callable[[Object | None], Object]:
    def change(current: Object | None) -> Object:
        if current is None:
            return born(wanted)
        return replace(current, spec=wanted.spec, meta=replace(current.meta, labels=wanted.meta.labels))

    return change
