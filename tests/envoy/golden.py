"""A golden case -> what the test compares: `in.yaml`, and `out.json` with resources by type and name.

The first lines of `in.yaml` are comments: `proxy:` names the proxy, `shows:` what the case is about.
What is the same everywhere is written as a word, such as `(ads)`.
"""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.core.v3 import extension_pb2 as extension_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from google.protobuf.json_format import MessageToDict

from isthmus._pb.isthmus.agent.v1 import agent_pb2
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, EXTENSION, HOST, LISTENER, ROUTES, Manifest
from makers import World

CASES = sorted(path.parent for path in (Path(__file__).parent / "golden").glob("*/in.yaml"))
_MESSAGES: dict[str, Any] = {
    CLUSTER: cluster_v3.Cluster,
    ENDPOINTS: assignment_v3.ClusterLoadAssignment,
    LISTENER: listener_v3.Listener,
    ROUTES: route_v3.RouteConfiguration,
    EXTENSION: extension_v3.TypedExtensionConfig,
    HOST: agent_pb2.HostConfig,
}
_WORDS = {
    "sds_config": "(agent)",
    "eds_config": "(ads)",
    "config_source": "(ads)",
    "tls_params": "(TLS 1.2 to 1.3, ECDHE with AES-GCM)",
}


def manifests(case: Path) -> dict[str, Manifest]:
    """What the case's proxy should hold."""
    namespace, workload = _said(case, "proxy").split("/")
    world = World().apply((case / "in.yaml").read_text(encoding="utf-8"))
    return {type_url: world.manifest(type_url, namespace, workload) for type_url in _MESSAGES}


def readable(case: Path) -> str:
    """What the case is about, as JSON that people review."""
    patterns = _said(case, "shows").split()
    shown: dict[str, dict[str, Any]] = {}
    for type_url, manifest in manifests(case).items():
        kind = type_url.rpartition(".")[2]
        for name, resource in manifest.items():
            if any(fnmatchcase(f"{kind}/{name}", pattern) for pattern in patterns):
                message = _MESSAGES[type_url].FromString(resource.body)
                shown.setdefault(kind, {})[name] = _plain(message)
    return json.dumps(shown, indent=1, sort_keys=True) + "\n"


def _said(case: Path, word: str) -> str:
    lines = (case / "in.yaml").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"# {word}: ")).removeprefix(f"# {word}: ")


def _plain(message: Any) -> Any:
    return _shortened(MessageToDict(message, preserving_proto_field_name=True))


def _shortened(value: Any) -> Any:
    match value:
        case dict():
            return {name: _WORDS.get(name) or _shortened(part) for name, part in value.items()}
        case list():
            return [_shortened(part) for part in value]
    return value
