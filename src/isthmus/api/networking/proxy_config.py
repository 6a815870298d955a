"""ProxyConfig: how the proxy itself runs.

https://istio.io/latest/docs/reference/config/networking/proxy-config/
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.shapes import LabelSelector


class ProxyImage(Model):
    """Which build of the proxy runs."""

    image_type: str = ""
    """Kind of image: default, debug or distroless."""


class ProxyConfigSpec(Model):
    """Spec of a ProxyConfig."""

    selector: LabelSelector | None = None
    """The workloads this is about; without it the whole namespace, in the root namespace the whole mesh."""
    concurrency: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Threads of the proxy; 0 is one for each processor."""
    environment_variables: Mapping[str, Annotated[str, Field(max_length=2048)]] = Field(default_factory=dict)
    """Environment of the proxy."""
    image: ProxyImage | None = None
    """Which build of the proxy runs."""
