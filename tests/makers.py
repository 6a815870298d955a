"""YAML and one-line makers -> objects in an engine, as the registry feed would commit them.

world = World().apply(BOOKINFO)          world.manifest(CLUSTER, "bookinfo", "productpage-10.0.0.1")
"""

from collections.abc import Hashable, Mapping
from typing import Any

from isthmus.api.codec import decode, facts
from isthmus.api.documents import read_documents
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Key, Object
from isthmus.engine import Engine
from isthmus.envoy.manifest import manifest
from isthmus.envoy.resource import Manifest, ProxyId
from isthmus.mesh.model import MeshSettings


class World:
    """A store without a store: objects by key, committed to an engine of its own."""

    def __init__(self, settings: MeshSettings | None = None) -> None:
        self.engine = Engine()
        self.objects: dict[Key, Object] = {}
        if settings:
            self.engine.commit({("mesh",): settings})

    def apply(self, *texts: str) -> "World":
        """Creates or replaces the objects of YAML texts; a bad document fails the test."""
        for text in texts:
            documents, unreadable = read_documents(text, "test")
            assert not unreadable, unreadable
            for document in documents:
                obj, problems = decode(document.data)
                assert obj is not None, [str(problem) for problem in problems]
                self.objects[obj.key] = obj
        self._commit()
        return self

    def delete(self, kind: str, namespace: str, name: str) -> "World":
        """Deletes one object."""
        del self.objects[Key(kind, namespace, name)]
        self.engine.commit({("fact", kind, namespace, name): None, ("status", kind, namespace, name): None})
        self._commit()
        return self

    def set_status(self, kind: str, namespace: str, name: str, status: Mapping[str, Any]) -> "World":
        """Says what the status of an object is."""
        self.engine.commit({("status", kind, namespace, name): status})
        return self

    def unhealthy(self, namespace: str, name: str) -> "World":
        """Marks a workload as unfit for traffic."""
        conditions = [{"type": "Healthy", "status": "False"}]
        return self.set_status("WorkloadEntry", namespace, name, {"conditions": conditions})

    def manifest(self, type_url: str, namespace: str, workload: str) -> Manifest:
        """What a proxy should hold."""
        return self.engine(manifest, type_url, ProxyId(namespace, workload))

    def _commit(self) -> None:
        inputs: dict[tuple[Hashable, ...], Any] = {}
        names: dict[tuple[str, str], list[str]] = {}
        for key, obj in self.objects.items():
            inputs["fact", key.kind, key.namespace, key.name] = facts(obj)
            names.setdefault((key.kind, key.namespace), []).append(key.name)
            if obj.status:
                inputs["status", key.kind, key.namespace, key.name] = obj.status
        for kind in KINDS:
            held = sorted(namespace for found, namespace in names if found == kind)
            inputs["namespaces", kind] = tuple(held) or None
        for (kind, namespace), found in names.items():
            inputs["keys", kind, namespace] = tuple(Key(kind, namespace, name) for name in sorted(found))
        self.engine.commit(inputs)


def service(
    name: str, port: int = 9080, *, namespace: str = "bookinfo", vip: str = "", port_name: str = "http"
) -> str:
    """A Service whose workloads are labelled `app: <name>`."""
    address = f"  clusterIP: {vip}\n" if vip else ""
    return (
        f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec:\n{address}  selector: {{app: {name}}}\n  ports: [{{name: {port_name}, port: {port}}}]\n"
    )


def workload(
    name: str,
    address: str,
    *,
    namespace: str = "bookinfo",
    app: str = "",
    version: str = "v1",
    account: str = "",
    ports: str = "",
) -> str:
    """A WorkloadEntry labelled with app and version; its service account is the app unless said otherwise."""
    app = app or name.rsplit("-", 1)[0]
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{address: '{address}', labels: {{app: {app}, version: {version}}}, "
        f"serviceAccount: {account or app}, ports: {{{ports}}}}}\n"
    )


BOOKINFO = "".join(
    (
        service("productpage", vip="240.240.0.1"),
        service("details", vip="240.240.0.2"),
        service("reviews", vip="240.240.0.3"),
        service("ratings", vip="240.240.0.4"),
        """---
apiVersion: v1
kind: Service
metadata: {name: mysqldb, namespace: bookinfo}
spec:
  clusterIPs: [240.240.0.5, '2001:2::5']
  selector: {app: mysqldb}
  ports: [{name: mysql, port: 3306}]
---
apiVersion: v1
kind: Service
metadata: {name: isthmus, namespace: isthmus-system}
spec:
  clusterIPs: [240.240.0.9, '2001:2::9']
  selector: {app: isthmus}
  ports: [{name: http, port: 80, targetPort: 15080}]
""",
        workload("productpage-1", "10.0.0.1"),
        workload("details-1", "10.0.0.2"),
        workload("reviews-1", "10.0.0.31"),
        workload("reviews-2", "10.0.0.32", version="v2"),
        workload("reviews-3", "fd00::33", version="v3"),
        workload("ratings-1", "10.0.0.4"),
        workload("mysqldb-1", "10.0.0.5"),
        workload("mysqldb-2", "fd00::5", version="v2"),
        workload("isthmus-1", "10.0.0.9", namespace="isthmus-system"),
    )
)
"""Bookinfo with its ratings in MySQL, and the control plane, on machines of both address families."""
