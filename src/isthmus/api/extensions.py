"""extensions.istio.io: WebAssembly in the proxy. Stored and checked, never applied.

https://istio.io/latest/docs/reference/config/proxy_extensions/wasm-plugin/
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.security import TargetRefs
from isthmus.api.shapes import FilledString, Int32, LabelSelector, PolicyTargetReference, PortNumber


class EnvVar(Model):
    """A variable of the module's environment."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=2048)] = ""
    """Its value, with INLINE."""
    value_from: Literal["INLINE", "HOST"] = "INLINE"
    """Whether the value stands here or is the proxy's own."""


class VmConfig(Model):
    """The virtual machine that runs the module."""

    env: Annotated[tuple[EnvVar, ...], Field(max_length=256)] = ()
    """Its environment."""


class TrafficSelectorPort(Model):
    """A port of the selected traffic."""

    number: PortNumber
    """Port number."""


class TrafficSelector(Model):
    """Traffic that the module sees."""

    mode: Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"] = "CLIENT_AND_SERVER"
    """Which side of a call."""
    ports: tuple[TrafficSelectorPort, ...] = ()
    """Its ports; all when left out."""


class WasmPluginSpec(Model):
    """Spec of a WasmPlugin."""

    selector: LabelSelector | None = None
    """The workloads this is about; without it the whole namespace, in the root namespace the whole mesh."""
    target_ref: PolicyTargetReference | None = None
    """Old way to spell `targetRefs` for one resource."""
    target_refs: TargetRefs = ()
    """Resources this is attached to, instead of a selector."""
    url: FilledString
    """Where the module is: oci, http, https or file URL; without a scheme it is an OCI image."""
    sha256: Annotated[str, Field(pattern=r"^$|^[a-f0-9]{64}$")] = ""
    """SHA-256 of the module, hexadecimal."""
    image_pull_policy: Literal["UNSPECIFIED_POLICY", "IfNotPresent", "Always"] = "UNSPECIFIED_POLICY"
    """When the module is fetched again."""
    image_pull_secret: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Name of the secret with which the module is fetched."""
    verification_key: str = ""
    """Never had an effect."""
    plugin_config: Mapping[str, Any] | None = None
    """What is given to the module."""
    plugin_name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Name by which the module knows itself."""
    phase: Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED_PHASE"
    """Where among the filters it stands."""
    priority: Int32 | None = None
    """Order among modules of one phase: higher comes first."""
    fail_strategy: Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"] = "FAIL_CLOSE"
    """What happens to traffic while the module cannot run."""
    vm_config: VmConfig | None = None
    """The virtual machine that runs the module."""
    match: tuple[TrafficSelector, ...] = ()
    """Traffic that the module sees; all when left out."""
    type: Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"] = "UNSPECIFIED_PLUGIN_TYPE"
    """HTTP filter or network filter."""
