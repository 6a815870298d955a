"""`namespace/host` as Sidecars spell it -> whether a service or a VirtualService is among what they name.

namespace   a name   `*` any   `.` the proxy's own   `~`: not these (`~shop/x`, `~/x` = in no namespace)
host        a name   `*.example.com`   `*`
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ANY = "*"
OWN = "."
NOT = "~"


@dataclass(frozen=True, slots=True)
class Named:
    """The hosts that are named for one namespace (or for any)."""

    hosts: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


def parse(hosts: Iterable[str], own_namespace: str) -> dict[str, Named]:
    """What is named, by namespace; what has not the form is left out."""
    wanted: dict[str, list[str]] = {}
    excluded: dict[str, list[str]] = {}
    for text in hosts:
        namespace, slash, host = text.partition("/")
        if not slash or "/" in host:
            continue
        into = wanted
        if namespace.startswith(NOT):
            into, namespace = excluded, namespace[1:] or ANY
        into.setdefault(own_namespace if namespace == OWN else namespace, []).append(host.lower())
    return {
        namespace: Named(tuple(wanted.get(namespace, ())), tuple(excluded.get(namespace, ())))
        for namespace in sorted({*wanted, *excluded})
    }


def names_service(named: Mapping[str, Named], namespace: str, host: str) -> bool:
    """Whether a service of a namespace is named."""
    places = [found for key in (namespace, ANY) if (found := named.get(key))]
    if any(within(host, pattern) for place in places for pattern in place.excluded):
        return False
    return any(within(host, pattern) for place in places for pattern in place.hosts)


def names_rule(named: Mapping[str, Named], namespace: str, hosts: Iterable[str]) -> bool:
    """Whether a VirtualService is named: by one of its hosts, where wildcards of either side count."""
    places = [found for key in (namespace, ANY) if (found := named.get(key))]
    return any(
        overlap(host, pattern)
        for host in hosts
        if not any(within(host, pattern) for place in places for pattern in place.excluded)
        for place in places
        for pattern in place.hosts
    )


def within(host: str, pattern: str) -> bool:
    """Whether everything that `host` covers is covered by `pattern`."""
    if not pattern.startswith("*"):
        return host == pattern
    if host.startswith("*"):
        return len(host) >= len(pattern) and host[1:].endswith(pattern[1:])
    return host.endswith(pattern[1:])


def overlap(one: str, other: str) -> bool:
    """Whether two names have a host in common."""
    return within(one, other) or within(other, one)
