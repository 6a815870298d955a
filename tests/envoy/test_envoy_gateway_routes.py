"""Servers and the VirtualServices of a gateway -> the routes of its port."""

import pytest
from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from route_worlds import SERVICES, virtual_service

from isthmus.envoy.routes_gateway import GatewayServer, gateway_routes, in_common
from makers import World

DOOR = "bookinfo/door"


def _rule(path: str, name: str, to: str = "reviews") -> str:
    return f"{{name: {name}, match: [{{uri: {{prefix: {path}}}}}], route: [{{destination: {{host: {to}}}}}]}}"


def _hosts(
    world: World, *servers: GatewayServer, viewer: str = "bookinfo"
) -> dict[str, route_components_v3.VirtualHost]:
    made = world.engine(gateway_routes, "http.80", servers, viewer, ())
    message = route_v3.RouteConfiguration.FromString(made.body)
    assert message.name == "http.80"
    return {host.name: host for host in message.virtual_hosts}


def _bound(name: str, hosts: str, *rules: str, created: str = "", namespace: str = "bookinfo") -> str:
    spec = f"{{hosts: [{hosts}], gateways: [{DOOR}], http: [{', '.join(rules)}]}}"
    return virtual_service(name, spec, created=created, namespace=namespace)


def test_rules_of_several_objects_for_one_host_are_put_together_catch_alls_last() -> None:
    world = World().apply(
        SERVICES,
        _bound("old", "a.com, b.com", _rule("/", "all"), created="2001"),
        _bound("new", "a.com", _rule("/x", "x"), _rule("/y", "y"), created="2002"),
    )
    found = _hosts(world, GatewayServer(DOOR, ("*",), 80))
    assert sorted(found) == ["a.com:80", "b.com:80"]
    assert [route.name for route in found["a.com:80"].routes] == ["x", "y", "all"]
    assert [route.name for route in found["b.com:80"].routes] == ["all"]
    # without a port a gateway goes to the only port of the host
    assert found["b.com:80"].routes[0].route.cluster == "outbound|9080||reviews.bookinfo.svc.cluster.local"


def test_hosts_with_the_same_routes_share_a_virtual_host() -> None:
    world = World().apply(SERVICES, _bound("r", "b.com, aaa.com, '*.a.com'", _rule("/", "all")))
    ((name, host),) = _hosts(world, GatewayServer(DOOR, ("*",), 80)).items()
    assert (name, list(host.domains)) == ("aaa.com:80", ["aaa.com", "b.com", "*.a.com"])


def test_redirects_to_https_with_and_without_rules() -> None:
    world = World().apply(SERVICES, _bound("r", "a.com", _rule("/", "all")))
    server = GatewayServer(DOOR, ("a.com", "shop/empty.com"), 80, https_redirect=True)
    found = _hosts(world, server)
    assert {name: host.require_tls for name, host in found.items()} == {"a.com:80": 2, "empty.com:80": 2}


def test_without_any_rule_every_request_is_answered_with_404() -> None:
    (host,) = _hosts(World().apply(SERVICES), GatewayServer(DOOR, ("*",), 80)).values()
    assert (host.name, list(host.domains), list(host.routes)) == ("blackhole:80", ["*"], [])


def test_redirect_rules_know_whether_the_server_opens_tls() -> None:
    world = World().apply(
        SERVICES,
        _bound("r", "a.com", "{match: [{uri: {prefix: /r}}], redirect: {authority: x, port: 443}}"),
    )
    (plain,) = _hosts(world, GatewayServer(DOOR, ("*",), 80)).values()
    (tls,) = _hosts(world, GatewayServer(DOOR, ("*",), 443, tls=True)).values()
    assert (plain.routes[0].redirect.port_redirect, tls.routes[0].redirect.port_redirect) == (443, 0)


@pytest.mark.parametrize(
    ("server", "rule", "expected"),
    [
        (("*.foo.com",), ("a.foo.com", "b.bar.com"), ("a.foo.com",)),
        (("a.foo.com", "b.foo.com"), ("*.foo.com",), ("a.foo.com", "b.foo.com")),
        (("*",), ("*.foo.com",), ("*.foo.com",)),
        (("*.foo.com",), ("*.a.foo.com", "foo.com"), ("*.a.foo.com",)),
        (("shop/*", "./x.com"), ("x.com",), ()),
        (("bookinfo/*",), ("x.com",), ("x.com",)),
        (("*/x.com",), ("x.com", "y.com"), ("x.com",)),
    ],
)
def test_hosts_in_common(server: tuple[str, ...], rule: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert in_common(server, "door-ns/door", "bookinfo", rule) == expected
