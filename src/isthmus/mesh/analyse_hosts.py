"""One host that several objects declare -> what the authors of those that lose should know.

callers of the host's namespace, of those that exportTo names, of all others --claims--> who counts for them
"""

from collections.abc import Iterator
from dataclasses import dataclass

from isthmus.api.meta import Key, Problem
from isthmus.engine import Reader
from isthmus.mesh import services
from isthmus.mesh.hosts import exported
from isthmus.mesh.model import Port, Resolution, Service

_OTHERS = ""
"""A namespace that nobody names."""
_WORDS = {
    "spec.resolution": "another resolution",
    "spec.workloadSelector": "another workloadSelector",
    "spec.exportTo": "another exportTo",
    "metadata.labels": "other labels",
}


@dataclass(frozen=True, slots=True)
class Lost:
    """What one declaration of a host loses: all of it (`port` None), or a port."""

    field: str
    text: str
    hint: str
    port: int | None = None


def losses(q: Reader, service: Service, key: Key) -> tuple[tuple[Lost, Problem], ...]:
    """What other declarations of the same host take from this one, and how its author is told."""
    claims = q(services.claims_in, service.host, service.namespace)
    seen_by = {viewer: seen for viewer in _viewers(q, claims) if key in (seen := _seen(q, claims, viewer))}
    found: dict[Lost, list[str]] = {}
    for viewer, seen in seen_by.items():
        for lost in _lost(q, service, seen):
            found.setdefault(lost, []).append(viewer)
    return tuple((lost, _told(lost, viewers, len(seen_by))) for lost, viewers in found.items())


def elsewhere(q: Reader, service: Service, key: Key) -> Problem | None:
    """What is to be said when a host counts as that of another namespace."""
    most = q(services.claims_of, service.host)[0]
    if most.namespace == key.namespace:
        return None
    text = f"{service.host} is also declared by {most}; this one counts for callers of {key.namespace} only"
    return _warning(_field(key), text, "delete one of the two, or export them to different namespaces")


def _told(lost: Lost, viewers: list[str], all_viewers: int) -> Problem:
    if len(viewers) == all_viewers:
        return _warning(lost.field, lost.text, lost.hint)
    whom = ", ".join(viewer or "other namespaces" for viewer in viewers)
    return _warning(lost.field, f"{lost.text} (as callers of {whom} see it)", lost.hint)


# for whom


def _viewers(q: Reader, claims: tuple[Key, ...]) -> tuple[str, ...]:
    """The namespaces whose callers may see different ones of the claims."""
    if len(claims) < 2:
        return ()
    words = [word for key in claims for word in q(services.export_to, key)]
    named = sorted({word for word in words if word not in ("*", ".", "~")})
    return tuple(dict.fromkeys((claims[0].namespace, *named, _OTHERS)))


def _seen(q: Reader, claims: tuple[Key, ...], viewer: str) -> tuple[Key, ...]:
    """The claims that callers of a namespace see, in the order in which they count there."""
    public = [key for key in claims if "*" in q(services.export_to, key)]
    private = [key for key in claims if key not in public]
    mine = [key for key in private if exported(q(services.export_to, key), key.namespace, viewer)]
    return (*mine, *public)


# what is lost


def _lost(q: Reader, service: Service, seen: tuple[Key, ...]) -> Iterator[Lost]:
    host = service.host
    winner = q(services.parts_of, host, seen)[0]
    if winner.source == service.source:
        return
    if winner.source.kind == "Service":
        text = f"{host} is already declared by {winner.source}, which counts: nothing of this one is used"
        yield Lost(_field(service.source), text, "delete one of the two, or use another host")
        return
    before = q(services.parts_of, host, seen[: seen.index(service.source)])
    given = {port.number: port for port in services.together(before).ports}
    if not services.fits(winner, service, given):
        field = services.difference(winner, service)
        text = f"{host} is already declared by {winner.source}, which counts and has {_WORDS[field]}: "
        hint = "make resolution, workloadSelector, exportTo and labels alike in both, or keep one of the two"
        yield Lost(field, f"{text}nothing of this one is used", hint)
        return
    for i, port in enumerate(service.ports):
        held = next(((part, p) for part in before if (p := part.port(port.number))), None)
        if held and services.overruled(service, port, held[1]):
            yield _lost_port(service, i, port, *held)


def _lost_port(service: Service, index: int, port: Port, winner: Service, held: Port) -> Lost:
    at = f"spec.ports[{index}]"
    if service.resolution is Resolution.DNS_ROUND_ROBIN:
        text = (
            f"{service.host}:{port.number} has its one endpoint from {winner.source}: this one's is not used"
        )
        return Lost(at, text, "use resolution DNS for several endpoints, or keep one of the two", port.number)
    spoken = f"{held.protocol.value.upper()} and is called {held.name}, as {winner.source} says"
    text = f"port {port.number} of {service.host} is {spoken}, which counts: this one is not used"
    hint = "give number, name and protocol alike in both, or use another number"
    return Lost(at, text, hint, port.number)


def _field(key: Key) -> str:
    return "spec.hosts" if key.kind == "ServiceEntry" else "metadata.name"


def _warning(field: str, text: str, hint: str) -> Problem:
    return Problem(field, text, hint, "warning")
