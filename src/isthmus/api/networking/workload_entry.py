"""WorkloadEntry: one workload outside Kubernetes, such as a VM.

https://istio.io/latest/docs/reference/config/networking/workload-entry/
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.shapes import PortNumber, UInt32


class WorkloadEntrySpec(Model):
    """Spec of a WorkloadEntry, also an endpoint of a ServiceEntry and the template of a WorkloadGroup."""

    address: Annotated[str, Field(max_length=256)] = ""
    """IP address of the workload, or a DNS name where the service's resolution is DNS."""
    ports: Annotated[Mapping[str, PortNumber], Field(max_length=128)] = Field(default_factory=dict)
    """Ports of the workload by name; a service port of the same name goes to this number."""
    labels: Annotated[Mapping[str, str], Field(max_length=256)] = Field(default_factory=dict)
    """Labels of the workload, which selectors look at."""
    network: Annotated[str, Field(max_length=2048)] = ""
    """Network of the workload; workloads of one network reach each other directly."""
    locality: Annotated[str, Field(max_length=2048)] = ""
    """Place of the workload as region/zone/subzone."""
    weight: UInt32 = 0
    """Load balancing weight; a higher weight gets proportionally more traffic."""
    service_account: Annotated[str, Field(max_length=253)] = ""
    """The service account of the workload, in the entry's own namespace: the identity it must prove."""
