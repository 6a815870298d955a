"""Rules at a gateway: what requests from outside get, whose rules they are, and who loses a port."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_world import World, standing

from isthmus.lab import namespaces

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]

SERVERS = Path(__file__).parent.parent / "scenarios" / "servers.py"
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: NAME, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: NAME, protocol: PROTOCOL}, hosts: ["HOST"]}]
---
"""
ECHO = """
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: http-v2, port: 82, targetPort: 8082}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: shop}
spec:
  hosts: [echo.example.com]
  gateways: [edge/public]
  http:
  - {match: [{uri: {exact: /exact}}], directResponse: {status: 200, body: {string: exact}}}
  - {match: [{uri: {regex: "/v[0-9]+"}}], directResponse: {status: 200, body: {string: regex}}}
  - {match: [{uri: {prefix: /case}, ignoreUriCase: true}],
     directResponse: {status: 200, body: {string: case}}}
  - {match: [{headers: {x-user: {exact: jason}}}], directResponse: {status: 200, body: {string: header}}}
  - {match: [{queryParams: {kind: {exact: special}}}], directResponse: {status: 200, body: {string: query}}}
  - {match: [{method: {exact: DELETE}}], directResponse: {status: 200, body: {string: method}}}
  - match: [{uri: {prefix: /abort}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: &to_v1 [{destination: {host: echo, port: {number: 80}}}]
  - match: [{uri: {prefix: /delay}}]
    fault: {delay: {fixedDelay: 0.7s, percentage: {value: 100}}}
    route: *to_v1
  - match: [{uri: {prefix: /cors}}]
    corsPolicy:
      allowOrigins: [{exact: "https://friend.test"}]
      allowMethods: [GET, PUT]
      allowHeaders: [x-friend]
      maxAge: 90s
    route: *to_v1
  - match: [{uri: {prefix: /mirrored}}]
    mirror: {host: echo, port: {number: 82}}
    route: *to_v1
  - match: [{uri: {prefix: /old}}]
    rewrite: {uri: /new, authority: inner.test}
    route: *to_v1
  - {match: [{uri: {prefix: /asked-port}}], redirect: {scheme: https, derivePort: FROM_REQUEST_PORT}}
  - {match: [{uri: {prefix: /own-port}}], redirect: {scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}}
  - match: [{uri: {prefix: /weights}}]
    route:
    - {destination: {host: echo, port: {number: 80}}, weight: 20}
    - {destination: {host: echo, port: {number: 82}}, weight: 80}
  - {route: *to_v1}
---
"""
DIRECT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME, namespace: shop}
spec:
  hosts: [HOST]
  gateways: [edge/GATEWAY]
  http: [{match: [{uri: {prefix: /more}}], directResponse: {status: 200, body: {string: NAME}}}]
---
"""
URL = "http://echo.example.com"


def gateway(name: str, protocol: str, host: str) -> str:
    """A Gateway with one server, on port 80."""
    return GATEWAY.replace("NAME", name).replace("PROTOCOL", protocol).replace("HOST", host)


def direct(name: str, host: str, at: str) -> str:
    """A VirtualService that answers its name itself on paths below /more."""
    return DIRECT.replace("NAME", name).replace("HOST", host).replace("GATEWAY", at)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with standing(tmp_path_factory, "gateway-rules") as made:
        servers = made.web.host.spawn([sys.executable, str(SERVERS), "web", "v1"], log="servers.log")
        servers.wait_for_line("listening", timeout_s=60)
        made.plane.apply(gateway("public", "HTTP", "*.example.com") + ECHO)
        made.until(lambda: '"host": "web"' in made.call(f"{URL}/"), "the first answer")
        yield made


def echoed(world: World, path: str, *options: str) -> dict[str, Any]:
    """What the server saw of a request."""
    seen: dict[str, Any] = json.loads(world.call(URL + path, *options))
    return seen


@pytest.mark.parametrize(
    ("path", "options", "kind"),
    [
        ("/exact", (), "exact"),
        ("/v12", (), "regex"),
        ("/CaSe/x", (), "case"),
        ("/", ("-H", "x-user: jason"), "header"),
        ("/?kind=special", (), "query"),
        ("/", ("-X", "DELETE"), "method"),
    ],
)
def test_what_matches(world: World, path: str, options: tuple[str, ...], kind: str) -> None:
    assert world.call(URL + path, *options) == kind


@pytest.mark.parametrize("path", ["/exact/not", "/v12/x", "/cas", "/?kind=speciala"])
def test_what_matches_nearly(world: World, path: str) -> None:
    assert echoed(world, path, "-H", "x-user: jasona")["path"] == path


def test_faults(world: World) -> None:
    assert world.call(f"{URL}/abort", "-o", "/dev/null", "-w", "%{http_code}") == "418"
    status, seconds = world.call(
        f"{URL}/delay", "-o", "/dev/null", "-w", "%{http_code} %{time_starttransfer}"
    ).split()
    assert status == "200"
    assert 0.65 <= float(seconds) < 15


def test_browsers_of_other_sites(world: World) -> None:
    asking = ("-X", "OPTIONS", "-H", "access-control-request-method: PUT", "-D", "-")
    friend = world.call(f"{URL}/cors", *asking, "-H", "origin: https://friend.test").lower()
    assert "access-control-allow-origin: https://friend.test" in friend
    assert "access-control-allow-methods: get,put" in friend
    assert "access-control-allow-headers: x-friend" in friend
    assert "access-control-max-age: 90" in friend
    foe = world.call(f"{URL}/cors", *asking, "-H", "origin: https://foe.test").lower()
    assert "access-control-allow-origin" not in foe


def test_a_mirror(world: World) -> None:
    assert echoed(world, "/mirrored-once")["version"] == "v1"
    world.until(lambda: echoed(world, "/heard?mirrored-once")["heard"] == 2, "the copy")


def test_a_rewrite(world: World) -> None:
    seen = echoed(world, "/old/page?x=1")
    assert seen["path"] == "/new/page?x=1"
    assert seen["headers"]["host"] == "inner.test"


def test_a_redirect_and_its_port(world: World) -> None:
    told = ("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}")
    assert world.call(f"{URL}/asked-port", *told) == "301 https://echo.example.com:80/asked-port"
    assert world.call(f"{URL}/own-port", *told) == "301 https://echo.example.com/own-port"


def test_weights(world: World) -> None:
    answers = world.call(f"{URL}/weights?[1-300]", "-w", "\\n", "-m", "60").splitlines()
    count = Counter(json.loads(line)["version"] for line in answers)
    assert count.total() == 300
    assert 195 <= count["v2"] <= 280, count


def test_the_rules_of_two_for_one_host(world: World) -> None:
    """The first ends with a route for all; what the second says more exactly comes before that."""
    assert echoed(world, "/more/x")["path"] == "/more/x"
    world.plane.apply(direct("second", "echo.example.com", "public"))
    try:
        world.until(lambda: world.call(f"{URL}/more/x") == "second", "the second one's answer")
        assert world.call(f"{URL}/exact") == "exact"
        assert echoed(world, "/else")["version"] == "v1"
    finally:
        world.plane.isthmus("delete", "vs", "second", "-n", "shop")
    world.until(lambda: '"host"' in world.call(f"{URL}/more/x"), "the first one's answer again")


def test_of_two_gateways_on_one_port_the_loser_is_told(world: World) -> None:
    """Requests of several Gateways share a port; connections cannot share it with them."""
    world.plane.apply(gateway("rival", "TCP", "*"), wait=False)
    world.until(lambda: "edge/public" in world.condition("rival"), "the word to the loser")
    assert "status: 'False'" in world.condition("rival").replace('"', "'")
    assert "edge/rival" not in world.condition("public")
    assert echoed(world, "/else")["version"] == "v1"
    world.plane.isthmus("delete", "gateway", "rival", "-n", "edge")
    world.plane.apply(gateway("friend", "HTTP", "friend.test") + direct("third", "friend.test", "friend"))
    world.until(lambda: world.call("http://friend.test/more") == "third", "the other Gateway's answer")
    assert echoed(world, "/else")["version"] == "v1"
    assert "edge/public" not in world.condition("friend")
