"""WorkloadGroup: what the workloads that join as one group have in common.

https://istio.io/latest/docs/reference/config/networking/workload-group/
"""

from collections.abc import Mapping

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.networking.workload_entry import WorkloadEntrySpec


class WorkloadGroupMetadata(Model):
    """Metadata that every WorkloadEntry of the group gets."""

    labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the WorkloadEntry objects."""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    """Annotations of the WorkloadEntry objects."""


class WorkloadGroupSpec(Model):
    """Spec of a WorkloadGroup."""

    metadata: WorkloadGroupMetadata | None = None
    """Metadata of the WorkloadEntry objects made from this group."""
    template: WorkloadEntrySpec
    """What the WorkloadEntry objects made from this group are like; without an address."""
