"""EnvoyFilter, ProxyConfig and WasmPlugin -> their problems."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from isthmus.api.extensions import WasmPluginSpec
from isthmus.api.meta import Problem
from isthmus.api.networking.envoy_filter import (
    EnvoyConfigObjectMatch,
    EnvoyConfigObjectPatch,
    EnvoyFilterSpec,
    FilterMatch,
)
from isthmus.api.networking.proxy_config import ProxyConfigSpec
from isthmus.api.rules import (
    attachment,
    conflict,
    duplicates,
    has,
    label_selector,
    missing,
    warning,
    workload_selector,
    wrong,
)
from isthmus.api.syntax import regex

_MANAGERS = {"envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"}
_LISTENER_PARTS = {"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"}
_ROUTE_PARTS = {"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"}
_OBJECTS = {
    "listener": "listener",
    "routeConfiguration": "route_configuration",
    "cluster": "cluster",
    "waypoint": "waypoint",
}
_LONGEST_VERSION = 1024
_SCHEMES = {"", "http", "https", "oci", "file"}
_NO_URL = re.compile(r"[\s\x00-\x1f\x7f]|%(?![0-9A-Fa-f]{2})|^:|^[^/]*[{}]")


def envoy_filter(spec: EnvoyFilterSpec) -> Iterator[Problem]:
    """The problems of an EnvoyFilter by itself; what it patches is not looked into."""
    if has(spec, "workload_selector") and has(spec, "target_refs"):
        yield conflict("spec", "only one of targetRefs or workloadSelector can be set")
    yield from workload_selector("spec.workloadSelector", spec.workload_selector)
    yield from attachment(spec)
    text = "EnvoyFilter exposes internal implementation details that may change at any time"
    yield warning("spec", text, "prefer other kinds")
    for index, patch in enumerate(spec.config_patches):
        at = f"spec.configPatches[{index}]"
        if patch.match is not None:
            yield from _match(f"{at}.match", patch.match)
        if patch.match is None or patch.match.context != "WAYPOINT":
            yield from _patch(at, patch)


def _match(at: str, match: EnvoyConfigObjectMatch) -> Iterator[Problem]:
    given = [name for name, field in _OBJECTS.items() if has(match, field)]
    if len(given) > 1:
        yield conflict(at, f"only one of {' and '.join(given)} can be set")
    if (match.context == "WAYPOINT") != (match.waypoint is not None):
        yield conflict(at, "only support waypointMatch when context is WAYPOINT")


def _patch(at: str, said: EnvoyConfigObjectPatch) -> Iterator[Problem]:
    patch = said.patch
    if said.apply_to == "INVALID":
        yield missing(f"{at}.applyTo", "Envoy filter: missing applyTo")
    elif patch is None:
        yield missing(f"{at}.patch", "Envoy filter: missing patch")
    elif patch.operation == "INVALID":
        yield missing(f"{at}.patch.operation", "Envoy filter: missing patch operation")
    elif patch.operation != "REMOVE" and patch.value is None:
        yield missing(f"{at}.patch.value", "Envoy filter: missing patch value for non-remove operation")
    version = said.match.proxy.proxy_version if said.match and said.match.proxy else ""
    if len(version) > _LONGEST_VERSION:
        text = f"Envoy filter: proxyVersion match exceeds {_LONGEST_VERSION} characters and will be ignored"
        yield warning(f"{at}.match.proxy.proxyVersion", text)
    elif version and (fault := regex(version)):
        text = f"Envoy filter: invalid regex for proxy version: {fault}"
        yield from wrong(f"{at}.match.proxy.proxyVersion", version, text)
    if said.match is not None:
        yield from _fitting(f"{at}.match", said.apply_to, said.match)


def _fitting(at: str, apply_to: str, match: EnvoyConfigObjectMatch) -> Iterator[Problem]:
    given = {name for name, field in _OBJECTS.items() if has(match, field)}
    if apply_to in _LISTENER_PARTS and given - {"listener"}:
        yield conflict(at, "Envoy filter: applyTo for listener class objects cannot have non listener match")
    if apply_to in _ROUTE_PARTS and given - {"routeConfiguration"}:
        text = "Envoy filter: applyTo for http route class objects cannot have non route configuration match"
        yield conflict(at, text)
    if apply_to == "CLUSTER" and given - {"cluster"}:
        yield conflict(at, "Envoy filter: applyTo for cluster class objects cannot have non cluster match")
    chain = match.listener.filter_chain if match.listener else None
    if apply_to in _LISTENER_PARTS and chain and chain.filter is not None:
        yield from _filter(f"{at}.listener.filterChain.filter", apply_to, chain.filter)


def _filter(at: str, apply_to: str, match: FilterMatch) -> Iterator[Problem]:
    if apply_to in {"LISTENER", "FILTER_CHAIN"}:
        yield warning(at, f"Envoy filter: filter match has no effect when used with {apply_to}")
    if not match.name:
        yield missing(f"{at}.name", "Envoy filter: filter match has no name to match on")
    if match.sub_filter is None:
        return
    if apply_to != "HTTP_FILTER":
        yield conflict(at, "Envoy filter: subfilter match can be used with applyTo HTTP_FILTER only")
    if match.name and match.name not in _MANAGERS:
        text = f"Envoy filter: subfilter match requires filter match with {min(_MANAGERS, key=len)}"
        yield conflict(at, text.replace("envoy.http_", "envoy.filters.network.http_"))
    if not match.sub_filter.name:
        yield missing(f"{at}.subFilter.name", "Envoy filter: subfilter match has no name to match on")


def proxy_config(spec: ProxyConfigSpec) -> Iterator[Problem]:
    """The problems of a ProxyConfig by itself."""
    yield from label_selector("spec.selector", spec.selector)


def wasm_plugin(spec: WasmPluginSpec) -> Iterator[Problem]:
    """The problems of a WasmPlugin by itself."""
    yield from attachment(spec)
    if not _is_url(spec.url):
        text = "url must have schema one of [http, https, file, oci]"
        yield from wrong("spec.url", spec.url, text)
    env = spec.vm_config.env if spec.vm_config else ()
    for index, variable in enumerate(env):
        if variable.value_from == "HOST" and has(variable, "value"):
            at = f"spec.vmConfig.env[{index}]"
            yield conflict(at, "value may only be set when valueFrom is INLINE")
    yield from duplicates("spec.vmConfig.env", (variable.name for variable in env), "duplicate env")
    for index, selector in enumerate(spec.match):
        numbers = (port.number for port in selector.ports)
        yield from duplicates(f"spec.match[{index}].ports", numbers, "port number")


def _is_url(text: str) -> bool:
    if _NO_URL.search(text):
        return False
    try:
        parts = urlsplit(text)
        if parts.scheme in _SCHEMES and (not parts.scheme or parts.netloc or parts.path):
            _ = parts.port
            return True
        # without a scheme, `registry:5000/image` looks like one
        return bool(urlsplit(f"http://{text}").port)
    except ValueError:
        return False
