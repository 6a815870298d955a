"""Kubernetes' defaults: what is put where nothing was said, and nothing else."""

from typing import Any

import pytest

from documents import document, service, virtual_service
from isthmus.api.codec import decode, encode, facts
from isthmus.api.core import ServiceSpec
from isthmus.api.defaults import born, defaulted, upgraded
from isthmus.api.meta import Object
from isthmus.mesh.declared import from_service
from isthmus.mesh.model import MeshSettings

DOOR = {"sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"}
PORT = {"port": 80, "protocol": "TCP", "targetPort": 80}


def read(doc: dict[str, Any]) -> Object:
    """The object of a document."""
    obj, problems = decode(doc)
    assert obj is not None, problems
    return obj


def bare(kind: str, api_version: str = "v1", **body: Any) -> dict[str, Any]:
    """A document without spec."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "n"}, **body}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            document("v1", "Service", "a", "n", {"ports": [{"port": 80}]}),
            {"spec": {**DOOR, "ports": [PORT]}},
        ),
        (
            document("v1", "Service", "a", "n", {"ports": [{"port": 80, "targetPort": "web"}]}),
            {"spec": {**DOOR, "ports": [{**PORT, "targetPort": "web"}]}},
        ),
        (
            document("v1", "Service", "a", "n", {"type": "ExternalName", "externalName": "x.org"}),
            {"spec": {"type": "ExternalName", "externalName": "x.org", "sessionAffinity": "None"}},
        ),
        (
            document("v1", "Service", "a", "n", {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}),
            {
                "spec": {
                    **DOOR,
                    "type": "LoadBalancer",
                    "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
                    "externalTrafficPolicy": "Cluster",
                    "allocateLoadBalancerNodePorts": True,
                }
            },
        ),
        (bare("Secret", data={"a": "Yg=="}), {"type": "Opaque", "data": {"a": "Yg=="}}),
        (bare("Secret", type="kubernetes.io/tls"), {"type": "kubernetes.io/tls"}),
        (bare("ConfigMap"), {}),
        (
            bare(
                "EndpointSlice", "discovery.k8s.io/v1", addressType="IPv4", endpoints=[], ports=[{"port": 1}]
            ),
            {"addressType": "IPv4", "endpoints": [], "ports": [{"name": "", "port": 1, "protocol": "TCP"}]},
        ),
        (
            bare("Endpoints", subsets=[{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}]}]),
            {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1, "protocol": "TCP"}]}]},
        ),
        (
            document("v1", "Pod", "a", "n", {"containers": [{"name": "c", "image": "h:5000/c:1"}]}),
            {
                "spec": {
                    "containers": [
                        {
                            "name": "c",
                            "image": "h:5000/c:1",
                            "imagePullPolicy": "IfNotPresent",
                            "resources": {},
                            "terminationMessagePath": "/dev/termination-log",
                            "terminationMessagePolicy": "File",
                        }
                    ],
                    "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 30,
                    "dnsPolicy": "ClusterFirst",
                    "securityContext": {},
                    "schedulerName": "default-scheduler",
                    "enableServiceLinks": True,
                }
            },
        ),
    ],
    ids=lambda value: value.get("kind", "") if isinstance(value, dict) else "",
)
def test_what_is_left_out_is_put_there_once(given: dict[str, Any], expected: dict[str, Any]) -> None:
    obj = defaulted(read(given))
    frame = {"apiVersion", "kind", "metadata"}
    assert {name: value for name, value in encode(obj).items() if name not in frame} == expected
    assert defaulted(obj) is obj
    assert defaulted(read(encode(obj))) == obj


def test_kinds_of_the_mesh_stay_as_they_were_written() -> None:
    obj = read(virtual_service("reviews"))
    assert (defaulted(obj), born(obj), upgraded(obj)) == (obj, obj, obj)
    assert defaulted(obj) is obj


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"clusterIP": "None"},
        {"type": "ExternalName", "externalName": "x.org"},
        {"type": "NodePort"},
        {"ports": [{"port": 53, "protocol": "UDP"}]},
    ],
    ids=str,
)
def test_a_service_is_to_the_mesh_what_it_was_without(spec: dict[str, Any]) -> None:
    obj = read(service("db", 3306, **spec))
    found = []
    for one in (obj, defaulted(obj)):
        assert isinstance(one.spec, ServiceSpec)
        found.append(from_service(facts(one), one.spec, MeshSettings()))
    assert found[0] == found[1]


def test_a_new_namespace_is_active_and_an_old_one_as_it_was_left() -> None:
    obj = read({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "generation": 3}})
    assert born(obj).status == {"phase": "Active"}
    old = upgraded(obj)
    assert (old.status, old.meta.generation) == ({"phase": "Active"}, 0)
    ends = read(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "deletionTimestamp": "t"}}
    )
    assert upgraded(ends).status == {"phase": "Terminating"}
