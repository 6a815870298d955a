"""A kept dump of Envoy's configuration, on standard input -> the resources in it, as one delta response.

It runs as a process of its own (`python -m isthmus.agent.thaw`): to read Envoy's JSON it needs the types of
all that is configured, which the agent itself does without.
"""

import gzip
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage

_Body = Mapping[str, Any]
_Found = tuple[str, str, _Body]
"""Name, version and the resource with its type."""


def thawed(frozen: BinaryIO) -> discovery_v3.DeltaDiscoveryResponse:
    """What Envoy had accepted, of every type but secrets; ValueError for another text."""
    with gzip.open(frozen) as file:
        dump = json.load(file)
    found = [each for part in dump["configs"] for each in _resources(part)]
    for name in sorted({name for _, _, body in found for name in _types(body)}):
        _learn(name)
    response = discovery_v3.DeltaDiscoveryResponse()
    for name, version, body in found:
        resource = json_format.ParseDict(dict(body), AnyMessage())
        response.resources.add(name=name, version=version, resource=resource)
    return response


def _resources(part: Mapping[str, Any]) -> Iterator[_Found]:
    for each in part.get("dynamic_active_clusters", ()):
        yield each["cluster"]["name"], each["version_info"], each["cluster"]
    for each in part.get("dynamic_listeners", ()):
        # a listener that was refused from the beginning has none
        if state := each.get("active_state"):
            yield each["name"], state["version_info"], state["listener"]
    for each in part.get("dynamic_route_configs", ()):
        yield each["route_config"]["name"], each["version_info"], each["route_config"]
    for each in part.get("ecds_filters", ()):
        yield each["ecds_filter"]["name"], each["version_info"], each["ecds_filter"]
    for each in part.get("dynamic_endpoint_configs", ()):
        # Envoy tells no version of endpoints: who knows better sends them anew
        body = each["endpoint_config"]
        yield body["cluster_name"], "", body | {"endpoints": list(map(_place, body.get("endpoints", ())))}


def _place(place: Mapping[str, Any]) -> Mapping[str, Any]:
    """Envoy tells places without a weight as of weight 0, which it would not take again."""
    return {name: value for name, value in place.items() if name != "load_balancing_weight" or value}


def _types(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "@type" in node:
            yield node["@type"].rpartition("/")[2]
        for value in node.values():
            yield from _types(value)
    elif isinstance(node, list):
        for value in node:
            yield from _types(value)


def _learn(type_name: str) -> None:
    """Imports the modules of a message's package: types are looked up among what is imported."""
    package = importlib.import_module(type_name.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{package.__name__}.{module.name}")


if __name__ == "__main__":
    sys.stdout.buffer.write(thawed(sys.stdin.buffer).SerializeToString())
