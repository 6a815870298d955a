"""Documents + a proxy -> the Envoy configuration that it would get, with no server running.

    documents --read--> objects, problems      objects --rendered--> listeners, clusters, routes, endpoints

The way is the server's own: virtual addresses, engine inputs, manifests. A folder is a whole world: what
nobody declares does not exist, except namespaces, which exist by being named.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.core.v3 import extension_pb2 as extension_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpoint_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from isthmus.api.codec import decode
from isthmus.api.core import NamespaceSpec
from isthmus.api.documents import Document
from isthmus.api.inspection import inspected
from isthmus.api.kinds import ISTHMUS, KINDS, kind_by_type
from isthmus.api.mesh import MeshConfigSpec
from isthmus.api.meta import Key, Object, ObjectMeta, Problem
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.unknown import without_unknown
from isthmus.engine import Engine
from isthmus.envoy.manifest import manifest
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Manifest, ProxyId
from isthmus.mesh.model import MeshSettings
from isthmus.mesh.proxies import Proxy
from isthmus.mesh.settings import KIND, NAME
from isthmus.mesh.settings import whole as mesh_settings
from isthmus.registry.inputs import whole
from isthmus.server.vips import with_vips

DESCRIBED = "(described)"
"""The name of a proxy that no object speaks of; no object can have this name."""
_ISTIO_ROOT = "istio-system"

_SECTIONS: Mapping[str, tuple[str, type[Message]]] = {
    "listeners": (LISTENER, listener_v3.Listener),
    "clusters": (CLUSTER, cluster_v3.Cluster),
    "routes": (ROUTES, route_v3.RouteConfiguration),
    "endpoints": (ENDPOINTS, endpoint_v3.ClusterLoadAssignment),
}
_OUR_GROUPS = frozenset(kind.group for kind in KINDS.values() if kind.group)


def read(documents: Sequence[Document]) -> tuple[list[Object], list[tuple[Document, Problem]]]:
    """The objects of documents, and every problem with its document.

    What can be understood is read, whatever else is wrong with it: a server would refuse all of it. A kind
    that the mesh does not read (a Deployment, say) is told as a warning and left out.
    """
    objects: dict[Key, Object] = {}
    problems: list[tuple[Document, Problem]] = []
    for document in documents:
        if (foreign := _foreign(document)) is not None:
            problems.append((document, foreign))
            continue
        problems += ((document, problem) for problem in inspected(document.data))
        obj = _understood(document.data)
        if obj is None:
            continue
        if obj.key in objects:
            text = f"{obj.key} is given more than once"
            problems.append((document, Problem("metadata.name", text, "keep one of them")))
        objects[obj.key] = obj
    return list(objects.values()), problems


def _foreign(document: Document) -> Problem | None:
    api_version, kind = document.data.get("apiVersion"), document.data.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str) or not api_version or not kind:
        return None  # not even a kind: decoding says what is missing
    if kind_by_type(api_version, kind) is not None or api_version.partition("/")[0] in _OUR_GROUPS:
        return None
    if api_version == "v1" and kind in KINDS:
        return None
    return Problem("kind", f"{kind} of {api_version} is not read by the mesh: left out", severity="warning")


def _understood(data: Mapping[str, Any]) -> Object | None:
    """The object without the fields that nobody knows, as an API server prunes it."""
    kind = kind_by_type(str(data.get("apiVersion")), str(data.get("kind")))
    return decode(without_unknown(data, kind)[0])[0] if kind else None


def settings_from(config: Mapping[str, Any], objects: Iterable[Object]) -> tuple[MeshSettings, list[Problem]]:
    """The settings of a world, from a MeshConfig: Istio's `mesh.yaml`, or an object of that kind.

    The root namespace is as said there, else ours where objects stand in it, else Istio's.
    """
    defaults = MeshSettings()
    ours = any(obj.key.namespace == defaults.root_namespace for obj in objects)
    settings = defaults if ours else replace(defaults, root_namespace=_ISTIO_ROOT)
    document = {"apiVersion": f"{ISTHMUS}/v1alpha1", "kind": KIND, "metadata": {"name": NAME}}
    obj, problems = decode(config if "kind" in config else {**document, "spec": config})
    if obj is None or not isinstance(obj.spec, MeshConfigSpec):
        return settings, problems or [Problem("kind", f"should be {KIND}, is {config['kind']}")]
    return mesh_settings(settings, obj.spec), problems


def rendered(
    objects: Sequence[Object], proxy: ProxyId | Proxy, settings: MeshSettings
) -> dict[str, list[dict[str, Any]]]:
    """What the proxy would hold, in Envoy's JSON form, each list sorted by name.

    Filters that are sent apart from their listener are shown where they stand.
    """
    types = [type_url for type_url, _ in _SECTIONS.values()]
    held = manifests(objects, proxy, settings, [*types, EXTENSION])
    apart = {made["name"]: made for made in _shown(held[EXTENSION], extension_v3.TypedExtensionConfig)}
    return {
        section: [_joined(made, apart) for made in _shown(held[type_url], model)]
        for section, (type_url, model) in _SECTIONS.items()
    }


def _shown(found: Manifest, model: type[Message]) -> list[Any]:
    """The resources as JSON, sorted by name."""
    return [
        MessageToDict(model.FromString(each.body), preserving_proto_field_name=True)
        for _, each in sorted(found.items())
    ]


def _joined(made: Any, apart: Mapping[str, Any]) -> Any:
    """The same JSON, with filters in place of where they are to be found."""
    if isinstance(made, list):
        return [_joined(each, apart) for each in made]
    if not isinstance(made, dict):
        return made
    if "config_discovery" in made and made.get("name") in apart:
        return apart[made["name"]]
    return {name: _joined(value, apart) for name, value in made.items()}


def manifests(
    objects: Sequence[Object], proxy: ProxyId | Proxy, settings: MeshSettings, types: Iterable[str]
) -> dict[str, Manifest]:
    """What the proxy would hold of these types in a world of these objects, as it is sent."""
    world = with_vips([*objects, *_implicit_namespaces(objects)], ())
    inputs = whole(world)
    inputs["mesh",] = settings
    if isinstance(proxy, Proxy):
        inputs["proxy", proxy.namespace, DESCRIBED] = _as_registered(proxy, world)
        proxy = ProxyId(proxy.namespace, DESCRIBED)
    engine = Engine()
    engine.commit(inputs)
    return {type_url: engine(manifest, type_url, proxy) for type_url in types}


def _as_registered(proxy: Proxy, objects: Iterable[Object]) -> Proxy:
    """The described proxy with the ports that the WorkloadEntry of one of its addresses declares."""
    for obj in objects:
        if isinstance(obj.spec, WorkloadEntrySpec) and obj.key.namespace == proxy.namespace:
            if obj.spec.address in proxy.addresses:
                return replace(proxy, ports=tuple(sorted(obj.spec.ports.items())))
    return proxy


def _implicit_namespaces(objects: Iterable[Object]) -> list[Object]:
    given = {obj.key for obj in objects}
    named = {Key("Namespace", "", obj.key.namespace) for obj in objects if obj.key.namespace}
    return [Object(key, ObjectMeta(key.name), NamespaceSpec()) for key in sorted(named - given)]
