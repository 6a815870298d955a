"""Destinations of routes, and their weights -> their problems."""

from collections.abc import Iterator, Sequence

from isthmus.api.meta import Problem
from isthmus.api.networking.virtual_service import Destination
from isthmus.api.rules import port, wrong
from isthmus.api.syntax import istio_label, wildcard_domain


def destination(at: str, said: Destination) -> Iterator[Problem]:
    """Where traffic goes."""
    if said.host == "*":
        yield from wrong(f"{at}.host", said.host, "invalid destination host: name a service")
    else:
        yield from wrong(f"{at}.host", said.host, wildcard_domain(said.host))
    if said.subset:
        yield from subset_name(f"{at}.subset", said.subset)
    if said.port is not None:
        yield from port(f"{at}.port.number", said.port.number)


def subset_name(field: str, name: str) -> Iterator[Problem]:
    """The name of a subset."""
    if not name:
        yield from wrong(field, name, "subset name cannot be empty")
    elif fault := istio_label(name):
        yield from wrong(field, name, f"subset name is invalid: {fault}")


def weights(at: str, weight_by_destination: Sequence[int]) -> Iterator[Problem]:
    """Shares of several destinations."""
    for index, weight in enumerate(weight_by_destination):
        if weight < 0:
            yield from wrong(f"{at}[{index}].weight", weight, f"weight {weight} < 0")
    if len(weight_by_destination) > 1 and sum(weight_by_destination) == 0:
        text = "total destination weight = 0"
        yield from wrong(at, "array", text, "give each destination a weight, such as 80 and 20")
