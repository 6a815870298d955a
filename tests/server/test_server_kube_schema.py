"""What the served OpenAPI documents tell of every field."""

from collections.abc import Iterator
from typing import Any

import pytest

from kube_server import KubeServer, kube_server

Schema = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        yield found


def fields(schema: Any, path: str) -> Iterator[tuple[str, Schema]]:
    """Every property of a schema and of those inside it."""
    if isinstance(schema, list):
        for item in schema:
            yield from fields(item, path)
    if not isinstance(schema, dict):
        return
    for name, below in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", below
        yield from fields(below, f"{path}.{name}")
    for word in ("items", "additionalProperties", "allOf", "anyOf", "oneOf"):
        yield from fields(schema.get(word), path)


def documents(server: KubeServer) -> Iterator[tuple[str, dict[str, Schema]]]:
    """The schemas of every document that is served."""
    for name, one in server.request("GET", "/openapi/v3").document["paths"].items():
        found = server.request("GET", one["serverRelativeURL"]).document
        yield name, found["components"]["schemas"]


def test_every_field_is_described(server: KubeServer) -> None:
    found = [
        (document, path, field)
        for document, schemas in documents(server)
        for name, schema in schemas.items()
        for path, field in fields(schema, name)
    ]
    assert len(found) > 2500
    assert [(document, path) for document, path, field in found if not field.get("description")] == []
    # in OpenAPI 3.0 what stands beside a $ref is not read
    assert [path for _, path, field in found if "$ref" in field and len(field) > 1] == []


def test_nothing_is_said_twice(server: KubeServer) -> None:
    """kubectl prints what a field says, and then what its type says."""
    for _, schemas in documents(server):
        for name, schema in schemas.items():
            for path, field in fields(schema, name):
                for one in field.get("allOf", ()):
                    of = schemas[one["$ref"].rpartition("/")[2]]
                    assert field["description"] != of.get("description"), path
