"""YAML of VirtualServices -> the routes that sidecars of `bookinfo` get, as plain dictionaries."""

from typing import Any

from envoy.config.route.v3 import route_pb2 as route_v3
from google.protobuf.json_format import MessageToDict

from isthmus.api.meta import Key, Object, ObjectMeta
from isthmus.api.networking.virtual_service import VirtualServiceSpec
from isthmus.envoy.resource import Resource
from isthmus.envoy.routes import routes
from isthmus.mesh.model import Scope
from makers import World, service

BOOKINFO = Scope("bookinfo")
SERVICES = "".join(service(name) for name in ("reviews", "ratings", "details"))


def virtual_service(
    name: str, spec: str, *, namespace: str = "bookinfo", created: str = "", kind: str = "VirtualService"
) -> str:
    """One object of the networking group."""
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return (
        f"---\napiVersion: networking.istio.io/v1\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: {namespace}{stamp}}}\nspec: {spec}\n"
    )


def resource(world: World, name: str = "9080", scope: Scope = BOOKINFO) -> Resource:
    """The route configuration of that name."""
    found: Resource = world.engine(routes, scope, name)
    return found


def configuration(world: World, name: str = "9080", scope: Scope = BOOKINFO) -> route_v3.RouteConfiguration:
    """The same as a message."""
    return route_v3.RouteConfiguration.FromString(resource(world, name, scope).body)


def virtual_hosts(world: World, name: str = "9080", scope: Scope = BOOKINFO) -> dict[str, Any]:
    """Its virtual hosts by name."""
    message = configuration(world, name, scope)
    return {host.name: host for host in message.virtual_hosts}


def made(rule: str, *others: str) -> dict[str, Any]:
    """The first route that an HTTP rule of `reviews` becomes."""
    world = World().apply(SERVICES, virtual_service("r", f"{{hosts: [reviews], http: [{rule}]}}"), *others)
    host = virtual_hosts(world)["reviews.bookinfo.svc.cluster.local:9080"]
    plain: dict[str, Any] = MessageToDict(host.routes[0], preserving_proto_field_name=True)
    return plain


def many_rules(count: int) -> World:
    """A world in which `reviews` has so many rules, each with an expression of its own."""
    world = World().apply(SERVICES)
    spec = {
        "hosts": ["reviews"],
        "http": [
            {
                "match": [{"uri": {"regex": f"/p{i}/([a-z]+[0-9]*)+"}}],
                "route": [{"destination": {"host": "reviews", "subset": f"v{i % 3}"}}],
            }
            for i in range(count)
        ],
    }
    key = Key("VirtualService", "bookinfo", "many")
    meta = ObjectMeta(name="many", namespace="bookinfo")
    world.objects[key] = Object(key, meta, VirtualServiceSpec.model_validate(spec))
    return world.apply()
