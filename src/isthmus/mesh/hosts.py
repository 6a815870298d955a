"""Host names: short -> full, wildcard -> the hosts it covers, the most specific one first."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


def full(host: str, namespace: str, dns_domain: str) -> str:
    """The host that a name in a rule of `namespace` stands for: a name without a dot is a Service there."""
    host = host.lower().rstrip(".")
    if "." in host or ":" in host or host.startswith("*"):
        return host  # an IPv6 address has no dots, and is no short name either
    return f"{host}.{namespace}.svc.{dns_domain}"


def covers(pattern: str, host: str) -> bool:
    """Whether the host is `pattern`, or below it when it is a wildcard."""
    return pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:]))


def most_specific(by_host: Mapping[str, T], host: str) -> T | None:
    """What is said of the host itself, else of the longest wildcard that covers it."""
    return next((by_host[name] for name in _patterns(host) if name in by_host), None)


def _patterns(host: str) -> Iterator[str]:
    yield host
    suffix = host.removeprefix("*")
    for cut in range(1 if suffix != host else 0, len(suffix) + 1):
        yield "*" + suffix[cut:]


def short_forms(host: str, namespace: str, dns_domain: str) -> tuple[str, ...]:
    """The other names of a Kubernetes-style host, as callers in `namespace` may spell it.

    `ratings.shop.svc.cluster.local` is also ratings.shop.svc and ratings.shop, and ratings within shop.
    """
    suffix = f".svc.{dns_domain}"
    name, _, own = host.removesuffix(suffix).rpartition(".")
    if not host.endswith(suffix) or not name or "." in name or name.startswith("*"):
        return ()
    forms = (f"{name}.{own}.svc", f"{name}.{own}")
    return (*forms, name) if own == namespace else forms


def exported(export_to: tuple[str, ...], own: str, viewer: str) -> bool:
    """Whether an object of namespace `own` with this exportTo is seen from namespace `viewer`."""
    if not export_to or "*" in export_to:
        return True
    if "~" in export_to:
        return False
    return viewer in export_to or ("." in export_to and viewer == own)
