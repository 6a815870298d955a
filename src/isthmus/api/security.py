"""security.istio.io kinds (https://istio.io/latest/docs/reference/config/security/peer_authentication/)."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.shapes import PortKey


class LabelSelector(Model):
    """Istio's type `WorkloadSelector`: the workloads that have all these labels."""

    match_labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels that a workload must have, all of them, in the object's own namespace."""


class MutualTLS(Model):
    """Whether connections to a workload use mutual TLS."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"
    """UNSET inherits from the parent, PERMISSIVE takes plaintext and mutual TLS, STRICT mutual TLS only."""


class PeerAuthenticationSpec(Model):
    """Spec of a PeerAuthentication: how traffic is taken by a workload's proxy."""

    selector: LabelSelector | None = None
    """The workloads this is about; without it the whole namespace, in the root namespace the whole mesh."""
    mtls: MutualTLS | None = None
    """Mutual TLS settings of the workload; inherited when left out."""
    port_level_mtls: Mapping[PortKey, MutualTLS] = Field(default_factory=dict)
    """Mutual TLS settings of single workload ports; needs a selector."""
