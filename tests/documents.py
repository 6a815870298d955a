"""Makers of API documents: they hide only what a test is not about."""

from typing import Any

Document = dict[str, Any]


def document(
    api_version: str, kind: str, name: str, namespace: str, spec: Document, **metadata: Any
) -> Document:
    """Any document."""
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), **metadata}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": spec}


def namespace(name: str = "bookinfo") -> Document:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service(name: str, *ports: int, namespace: str = "bookinfo", **spec: Any) -> Document:
    """A Service with numbered ports."""
    rows = [{"name": f"http-{port}", "port": port} for port in ports or (9080,)]
    return document("v1", "Service", name, namespace, {"ports": rows, "selector": {"app": name}, **spec})


def workload_entry(
    name: str, address: str = "10.0.0.1", namespace: str = "bookinfo", **meta: Any
) -> Document:
    """A WorkloadEntry with an address."""
    return document("networking.istio.io/v1", "WorkloadEntry", name, namespace, {"address": address}, **meta)


def workload_group(name: str, namespace: str = "bookinfo") -> Document:
    """A WorkloadGroup with a service account."""
    template = {"serviceAccount": name, "labels": {"app": name}}
    return document("networking.istio.io/v1", "WorkloadGroup", name, namespace, {"template": template})


def virtual_service(name: str, *http: Document, namespace: str = "bookinfo", **spec: Any) -> Document:
    """A VirtualService of a host of the same name; without rules it routes to that host."""
    rules = list(http) or [{"route": [{"destination": {"host": name}}]}]
    return document(
        "networking.istio.io/v1",
        "VirtualService",
        name,
        namespace,
        {"hosts": [name], "http": rules, **spec},
    )


def service_entry(name: str, namespace: str = "bookinfo", **spec: Any) -> Document:
    """A ServiceEntry for `<name>.example.com` with a TCP port."""
    ports = [{"number": 3306, "name": "mysql", "protocol": "TCP"}]
    wanted = {"hosts": [f"{name}.example.com"], "ports": ports, "resolution": "STATIC", **spec}
    return document("networking.istio.io/v1", "ServiceEntry", name, namespace, wanted)
