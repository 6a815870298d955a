"""`GET /metrics`: what the control plane has sent and heard, as Prometheus reads it.

kubectl get --raw /metrics          any user may; numbers alone, no names of objects or workloads
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.server.canary import Canary
from isthmus.server.roles import User
from isthmus.xds.fleet import Fleet

PATH = "/metrics"
_CANARY_STATES = ("live", "starting", "starting again", "off")
_VERDICTS = ("accepted", "refused", "late", "unseen", "unjudged")


def metrics_routes(fleet: Fleet, canary: Canary, guarded: Any) -> list[Route]:
    """The route; `guarded` makes an endpoint of a handler that wants to know who asks."""

    async def metrics(_: Request, __: User) -> Response:
        text = "".join(f"{line}\n" for line in _lines(fleet, canary))
        return Response(text, media_type="text/plain; version=0.0.4")

    return [Route(PATH, guarded(metrics), methods=["GET"])]


def _lines(fleet: Fleet, canary: Canary) -> Iterator[str]:
    streams = fleet.connected()
    by_role = {role: sum(each.role == role for each in streams) for role in ("proxy", "agent", "grpc")}
    state = canary.state.partition(" (")[0]
    yield from _metric("streams", "gauge", "Open configuration streams.", "role", by_role)
    yield from _metric("resources_sent", "counter", "Resources sent.", "type", _short(fleet.sent))
    yield from _metric("responses_sent", "counter", "Responses sent.", "type", _short(fleet.responses))
    yield from _metric("failed_queries", "counter", "Bugs of ours, contained.", "", {"": fleet.failures})
    verdicts = {verdict: fleet.vetting.counts[verdict] for verdict in _VERDICTS}
    yield from _metric("canary_resources", "counter", "What the canary said.", "verdict", verdicts)
    states = {known: int(known == state) for known in _CANARY_STATES}
    yield from _metric("canary_state", "gauge", "1 for how the canary is.", "state", states)
    yield from _metric("canary_starts", "counter", "How often it was started.", "", {"": canary.starts})


def _metric(name: str, kind: str, text: str, label: str, values: Mapping[str, int]) -> Iterable[str]:
    full = f"isthmus_{name}_total" if kind == "counter" else f"isthmus_{name}"
    yield f"# HELP {full} {text}"
    yield f"# TYPE {full} {kind}"
    for value, number in sorted(values.items()):
        yield f'{full}{{{label}="{value}"}} {number}' if label else f"{full} {number}"


def _short(by_type: Mapping[str, int]) -> dict[str, int]:
    return {type_url.rpartition(".")[2]: number for type_url, number in by_type.items()}
