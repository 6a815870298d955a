"""Annotations of a WorkloadGroup or WorkloadEntry -> what people say about capture on its machine.

isthmus.dev/capture                                   all, or mesh: what the mesh itself needs
traffic.sidecar.istio.io/includeOutboundIPRanges      CIDRs, or * for all
traffic.sidecar.istio.io/includeOutboundPorts         ports, wherever they lead
traffic.sidecar.istio.io/excludeOutbound{IPRanges,Ports}
traffic.sidecar.istio.io/{include,exclude}InboundPorts      ports; * for all includes every one

Names and formats of the latter are Istio's: https://istio.io/latest/docs/reference/config/annotations/
A part that makes no sense is told and left out; the others count.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TypeVar

from isthmus.api.meta import Problem
from isthmus.api.rules import warning

T = TypeVar("T")

CAPTURE = "isthmus.dev/capture"
_ISTIO = "traffic.sidecar.istio.io/"
EVERYWHERE = ("0.0.0.0/0", "::/0")
EVERY_PORT = 0
"""Stands for all ports, as port 0 does in Istio's own model."""
_WORDS: Mapping[str, tuple[str, ...]] = {"all": EVERYWHERE, "mesh": ()}


@dataclass(frozen=True, slots=True)
class CaptureWish:
    """What the annotations ask for; None where they say nothing."""

    ranges: tuple[str, ...] | None = None
    """CIDRs to capture beside what the mesh itself needs."""
    ports: tuple[int, ...] = ()
    """Ports to capture wherever they lead."""
    exempt_ranges: tuple[str, ...] = ()
    exempt_ports: tuple[int, ...] = ()
    inbound: tuple[int, ...] | None = None
    """Ports to capture instead of those that services lead to; with `EVERY_PORT` all of them."""
    inbound_exempt: tuple[int, ...] = ()


def wish(annotations: Mapping[str, str]) -> CaptureWish:
    """What the annotations ask for, as far as it can be understood."""
    ranges = _parts(annotations, "includeOutboundIPRanges", _range)
    word = annotations.get(CAPTURE, "").strip()
    return CaptureWish(
        ranges=_WORDS.get(word) if ranges is None else _everywhere(ranges),
        ports=_parts(annotations, "includeOutboundPorts", _port) or (),
        exempt_ranges=_parts(annotations, "excludeOutboundIPRanges", _exempt_range) or (),
        exempt_ports=_parts(annotations, "excludeOutboundPorts", _port) or (),
        inbound=_parts(annotations, "includeInboundPorts", _port_or_every),
        inbound_exempt=_parts(annotations, "excludeInboundPorts", _port) or (),
    )


def capture_problems(field: str, annotations: Mapping[str, str]) -> Iterator[Problem]:
    """What in the annotations at a field makes no sense."""
    if not annotations:
        return
    word = annotations.get(CAPTURE)
    if word is not None and word.strip() not in _WORDS:
        yield warning(f"{field}[{CAPTURE}]", f'"{word}" counts for nothing', "say all, or mesh")
    for name, (read, expected) in _READERS.items():
        for part in _listed(annotations.get(_ISTIO + name, "")):
            if read(part) is None:
                text = f'"{part}" counts for nothing: it is no {expected}'
                yield warning(f"{field}[{_ISTIO}{name}]", text, "separate several with commas")


def _parts(
    annotations: Mapping[str, str], name: str, read: Callable[[str], T | None]
) -> tuple[T, ...] | None:
    text = annotations.get(_ISTIO + name)
    if text is None:
        return None
    return tuple(dict.fromkeys(part for word in _listed(text) if (part := read(word)) is not None))


def _listed(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]


def _everywhere(ranges: tuple[str, ...]) -> tuple[str, ...]:
    return EVERYWHERE if "*" in ranges else ranges


def _range(text: str) -> str | None:
    if text == "*":
        return text
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return None


def _port(text: str) -> int | None:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    return number if 0 < number < 65536 else None


def _port_or_every(text: str) -> int | None:
    return EVERY_PORT if text == "*" else _port(text)


def _exempt_range(text: str) -> str | None:
    return None if text == "*" else _range(text)


_READERS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "includeOutboundIPRanges": (_range, "range of addresses such as 10.0.0.0/8, nor *"),
    "excludeOutboundIPRanges": (_exempt_range, "range of addresses such as 10.0.0.0/8"),
    "includeOutboundPorts": (_port, "TCP port"),
    "excludeOutboundPorts": (_port, "TCP port"),
    "includeInboundPorts": (_port_or_every, "TCP port, nor *"),
    "excludeInboundPorts": (_port, "TCP port"),
}
