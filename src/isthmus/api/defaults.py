"""What clients leave out of Kubernetes' own kinds -> what Kubernetes' API server puts there.

Readers count on it: kubectl's `describe endpointslice` ends with a fault where a port has no protocol. What
the mesh makes of an object is the same with it as without. Istio's kinds have no such fields.
https://kubernetes.io/docs/reference/kubernetes-api/
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from isthmus.api import cluster, core
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Model, Object

M = TypeVar("M", bound=Model)

_FIRST_PHASE = {"Namespace": "Active", "Pod": "Pending"}
_TCP = {"protocol": "TCP"}
_CLIENT_IP = {"clientIP": {"timeoutSeconds": 10800}}
_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
}
_CONTAINER = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}


def defaulted(obj: Object) -> Object:
    """The object with the defaults of its kind's spec; the same object when nothing is missing."""
    spec = _spec(obj.spec)
    return obj if spec is obj.spec else replace(obj, spec=spec)


def born(obj: Object) -> Object:
    """A new object with the status that its kind begins with."""
    phase = _FIRST_PHASE.get(obj.key.kind)
    return replace(obj, status={"phase": phase, **obj.status}) if phase else obj


def upgraded(obj: Object) -> Object:
    """An object that an earlier version stored, as this one would have; the same object when it is so."""
    whole, meta = defaulted(obj), obj.meta
    if obj.key.kind == "Namespace" and "phase" not in obj.status:
        phase = "Terminating" if meta.deletion_timestamp else "Active"
        whole = replace(whole, status={**obj.status, "phase": phase})
    if meta.generation and not KINDS[obj.key.kind].counts_changes:
        whole = replace(whole, meta=replace(meta, generation=0))
    return whole


def _spec(spec: Model) -> Model:
    match spec:
        case core.ServiceSpec():
            return _service(spec)
        case core.SecretSpec():
            return _filled(spec, {"type": "Opaque"})
        case cluster.EndpointSliceSpec():
            return _each(spec, "ports", lambda port: _filled(port, {"name": "", **_TCP}))
        case cluster.EndpointsSpec():
            return _each(spec, "subsets", lambda subset: _each(subset, "ports", _tcp))
        case cluster.PodSpec():
            return _filled(_each(spec, "containers", _container), _POD)
    return spec


def _service(spec: core.ServiceSpec) -> Model:
    wanted: dict[str, Any] = {"type": "ClusterIP", "session_affinity": "None"}
    if spec.session_affinity == "ClientIP":
        wanted["session_affinity_config"] = _CLIENT_IP
    if spec.type != "ExternalName":
        wanted["internal_traffic_policy"] = "Cluster"
    if spec.type in ("NodePort", "LoadBalancer"):
        wanted["external_traffic_policy"] = "Cluster"
    if spec.type == "LoadBalancer":
        wanted["allocate_load_balancer_node_ports"] = True
    return _each(_filled(spec, wanted), "ports", _service_port)


def _service_port(port: core.ServicePort) -> core.ServicePort:
    return _filled(port, {"protocol": "TCP", "target_port": port.port})


def _tcp(port: M) -> M:
    return _filled(port, _TCP)


def _container(container: cluster.Container) -> cluster.Container:
    tag = container.image.rpartition("/")[2].partition(":")[2]
    changing = tag in ("", "latest") and "@" not in container.image
    wanted = {"imagePullPolicy": "Always" if changing else "IfNotPresent", **_CONTAINER}
    return _each(_filled(container, wanted), "ports", _tcp)


def _each(model: M, name: str, change: Callable[[Any], Any]) -> M:
    """The model with every element of a list changed; the same model when none was."""
    old = getattr(model, name)
    new = tuple(map(change, old))
    same = all(one is other for one, other in zip(old, new, strict=True))
    return model if same else model.model_copy(update={name: new})


def _filled(model: M, wanted: Mapping[str, Any]) -> M:
    """The model with what is missing of these fields, known ones and others."""
    missing = {name: value for name, value in wanted.items() if _is_missing(model, name, value)}
    return model.model_copy(update=missing) if missing else model


def _is_missing(model: Model, name: str, wanted: Any) -> bool:
    if name in type(model).model_fields:
        present = getattr(model, name) if name in model.model_fields_set else None
    else:
        present = (model.model_extra or {}).get(name)
    return present is None or (present == "" and wanted != "")
