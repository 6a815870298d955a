"""Objects of Kubernetes' own kinds -> the cells of their rows that are more than a field.

The words are those of `kubectl get` at a Kubernetes API server. A status is whatever somebody wrote: nothing
of it is relied upon.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from isthmus.server.json_path import found

Document = Mapping[str, Any]
_NONE = "<none>"
_MOST = 3
"""How many of a list are shown."""
_ROLE = "node-role.kubernetes.io/"


def _listed(texts: Sequence[object], nothing: str = _NONE) -> str:
    more = f" + {len(texts) - _MOST} more..." if len(texts) > _MOST else ""
    return ",".join(map(str, texts[:_MOST])) + more if texts else nothing


def _all(path: str, nothing: str = _NONE) -> Callable[[Document], str]:
    return lambda document: ",".join(map(str, found(path, document))) or nothing


def _count(*paths: str) -> Callable[[Document], str]:
    def counted(document: Document) -> str:
        return str(sum(len(one) for path in paths for one in found(path, document)))

    return counted


def _balancers(document: Document) -> list[str]:
    """Where load balancers take connections."""
    ingress = found(".status.loadBalancer.ingress[*]", document)
    return [
        str(to)
        for one in ingress
        if isinstance(one, Mapping) and (to := one.get("ip") or one.get("hostname"))
    ]


def _external(document: Document) -> str:
    spec = document["spec"]
    given = list(map(str, spec.get("externalIPs") or ()))
    match spec.get("type"):
        case "ExternalName":
            return str(spec.get("externalName") or _NONE)
        case "LoadBalancer":
            return ",".join([*_balancers(document), *given]) or "<pending>"
    return ",".join(given) or _NONE


def _service_ports(document: Document) -> str:
    ports = document["spec"].get("ports") or ()
    return ",".join(map(_service_port, ports)) or _NONE


def _service_port(port: Mapping[str, Any]) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node}/{port.get('protocol', 'TCP')}"


def _selector(document: Document) -> str:
    return (
        ",".join(
            f"{name}={value}" for name, value in sorted((document["spec"].get("selector") or {}).items())
        )
        or _NONE
    )


def _endpoints(document: Document) -> str:
    places: list[str] = []
    for subset in document.get("subsets") or ():
        addresses = [one["ip"] for one in subset.get("addresses") or ()]
        ports = [port["port"] for port in subset.get("ports") or ()]
        for address in addresses:
            shown = f"[{address}]" if ":" in address else address
            places += [f"{shown}:{port}" for port in ports] or [address]
    return _listed(places)


def _slice_ports(document: Document) -> str:
    ports = document.get("ports") or ()
    return _listed([port.get("port") or "*" for port in ports], "<unset>")


def _slice_endpoints(document: Document) -> str:
    return _listed(found(".endpoints[*].addresses[*]", document), "<unset>")


def _pod_ready(document: Document) -> str:
    ready = [one for one in found(".status.containerStatuses[*].ready", document) if one is True]
    return f"{len(ready)}/{len(document['spec'].get('containers') or ())}"


def _pod_status(document: Document) -> str:
    if document["metadata"].get("deletionTimestamp"):
        return "Terminating"
    reasons = [
        *found(".status.containerStatuses[*].state.waiting.reason", document),
        *found(".status.containerStatuses[*].state.terminated.reason", document),
        *found(".status.reason", document),
        *found(".status.phase", document),
    ]
    return str(next(filter(None, reasons), "Unknown"))


def _restarts(document: Document) -> str:
    counts = found(".status.containerStatuses[*].restartCount", document)
    return str(sum(count for count in counts if isinstance(count, int)))


def _node_status(document: Document) -> str:
    ready = found(".status.conditions[?(@.type=='Ready')].status", document)
    word = "Unknown" if not ready else "Ready" if ready[0] == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if document["spec"].get("unschedulable") else word


def _node_roles(document: Document) -> str:
    labels = document["metadata"].get("labels") or {}
    named = {name.removeprefix(_ROLE) for name in labels if name.startswith(_ROLE)}
    return ",".join(sorted(filter(None, {*named, labels.get("kubernetes.io/role", "")}))) or _NONE


def _node_address(kind: str) -> Callable[[Document], str]:
    path = f".status.addresses[?(@.type=='{kind}')].address"
    return lambda document: str(next(iter(found(path, document)), _NONE))


def _parameters(document: Document) -> str:
    given = document["spec"].get("parameters")
    if not given:
        return _NONE
    group = f".{given['apiGroup']}" if given.get("apiGroup") else ""
    return f"{given.get('kind', '')}{group}/{given.get('name', '')}"


def _involved(document: Document) -> str:
    of = document.get("involvedObject") or {}
    return f"{str(of.get('kind', '')).lower()}/{of.get('name', '')}"


COMPUTED: Mapping[str, Mapping[str, Callable[[Document], str]]] = {
    "Service": {
        "Cluster-IP": _all(".spec.clusterIP"),
        "External-IP": _external,
        "Port(s)": _service_ports,
        "Selector": _selector,
    },
    "ServiceAccount": {"Secrets": _count(".secrets")},
    "Secret": {"Data": _count(".data")},
    "ConfigMap": {"Data": _count(".data", ".binaryData")},
    "Endpoints": {"Endpoints": _endpoints},
    "EndpointSlice": {"Ports": _slice_ports, "Endpoints": _slice_endpoints},
    "Pod": {
        "Ready": _pod_ready,
        "Status": _pod_status,
        "Restarts": _restarts,
        "IP": _all(".status.podIP"),
        "Node": _all(".spec.nodeName"),
    },
    "Node": {
        "Status": _node_status,
        "Roles": _node_roles,
        "Internal-IP": _node_address("InternalIP"),
        "External-IP": _node_address("ExternalIP"),
    },
    "IngressClass": {"Parameters": _parameters},
    "Ingress": {
        "Class": _all(".spec.ingressClassName"),
        "Hosts": lambda document: _listed([*filter(None, found(".spec.rules[*].host", document))], "*"),
        "Address": lambda document: ",".join(_balancers(document)),
        "Ports": lambda document: "80, 443" if document["spec"].get("tls") else "80",
    },
    "Event": {"Object": _involved},
}
"""Cells for which a path is not enough, by kind and column."""
