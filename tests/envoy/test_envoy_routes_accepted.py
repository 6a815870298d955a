"""A real Envoy takes every route that VirtualServices become."""

import asyncio
from pathlib import Path

import pytest
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from real_envoy import can_unshare, running, served
from route_worlds import SERVICES, many_rules, resource, virtual_service

from isthmus.envoy import routes_gateway
from isthmus.envoy.filters import manner, outbound_http
from isthmus.envoy.message import address
from isthmus.envoy.message import resource as as_resource
from isthmus.envoy.resource import CLUSTER, LISTENER, ROUTES, Resource
from isthmus.mesh.model import MeshSettings, Outbound
from makers import World

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)"),
]

EVERYTHING = """
  hosts: [reviews, "*.example.com", "*-x.example.org", 2001:db8::1]
  gateways: [mesh, door]
  http:
  - name: matches
    match:
    - {name: a, uri: {exact: /a}, ignoreUriCase: true, statPrefix: mine}
    - {uri: {prefix: /b}, scheme: {exact: http}, method: {regex: "GET|POST"}, authority: {prefix: r}}
    - {uri: {regex: "/c/[0-9]+"}, headers: {x: {}, y: {regex: "*"}, z: {exact: ""}, Upper: {prefix: p}}}
    - {uri: {exact: ""}, queryParams: {q: {exact: "1"}, r: {regex: ".+"}, s: {prefix: a}, t: {}}}
    - {withoutHeaders: {x: {}, y: {exact: a}, z: {regex: "b.*"}, w: {regex: "*"}}}
    - headers: {"@request.auth.claims.a.b": {exact: x}, "@request.auth.claims[c]": {regex: "y.*"}}
      withoutHeaders: {"@request.auth.claims.d": {}}
    - {sourceNamespace: bookinfo, gateways: [mesh], port: 9080, uri: {prefix: /d}}
    timeout: 10.5s
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx,gateway-error,reset,503,418", backoff: 10ms,
      retryRemoteLocalities: true, retryIgnorePreviousHosts: false}
    fault: {delay: {percentage: {value: 0.0001}, fixedDelay: 7s},
      abort: {percentage: {value: 100}, grpcStatus: UNAVAILABLE}}
    mirrors: [{destination: {host: ratings}, percentage: {value: 12.5}}, {destination: {host: nowhere}}]
    corsPolicy: {allowOrigins: [{exact: "*"}, {regex: "https://.*"}, {prefix: "http://"}],
      allowMethods: [GET], allowHeaders: [x], exposeHeaders: [y], maxAge: 24h,
      allowCredentials: true, unmatchedPreflights: IGNORE}
    headers:
      request: {set: {x: "100%", Host: h, y: "%REQ(x)% %DOWNSTREAM_REMOTE_ADDRESS%", e: ""},
        remove: [z, host]}
      response: {add: {x: "%UNKNOWN% 5%%"}, remove: [server]}
    route:
    - {destination: {host: reviews, subset: cookie}, weight: 1, headers: {request: {set: {":authority": w}}}}
    - {destination: {host: reviews, subset: query}, weight: 4000000}
    - {destination: {host: gone, port: {number: 1}}, weight: 0}
  - match: [{uri: {prefix: /r1}}]
    rewrite: {uri: /, authority: other}
    route: [{destination: {host: reviews, subset: ip}}]
  - match: [{uri: {regex: "/r2.*"}}]
    rewrite: {uriRegexRewrite: {match: "^/r2/([^/]+)(/.*)$", rewrite: "\\\\2/x/\\\\1"}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {exact: /r3}}]
    rewrite: {uri: /new}
    retries: {attempts: 0}
    route: [{destination: {host: reviews}, weight: 7}]
  - match: [{uri: {prefix: /u1}}]
    redirect: {uri: /x, authority: h, port: 8080, scheme: https, redirectCode: 308}
  - {match: [{uri: {prefix: /u2}}], redirect: {derivePort: FROM_REQUEST_PORT, authority: h}}
  - match: [{uri: {prefix: /u3}}]
    redirect: {authority: h, redirectCode: 303}
    corsPolicy: {allowOrigin: [a]}
  - {match: [{uri: {prefix: /u4}}], directResponse: {status: 503, body: {string: BODY}}}
  - {match: [{uri: {prefix: /u5}}], directResponse: {status: 200, body: {bytes: AAEC}}}
  - {match: [{uri: {prefix: /u6}}], directResponse: {status: 204}, headers: {response: {set: {x: y}}}}
  - {match: [{uri: {prefix: /bad}, headers: {x: {regex: "(?=a)"}}}], route: [{destination: {host: reviews}}]}
  - {match: [{uri: {prefix: /deep}}], delegate: {name: leaf}}
  - route: [{destination: {host: reviews}}]
    fault: {abort: {httpStatus: 503, percentage: {value: 1}}}
    mirror: {host: details}
    mirrorPercentage: {value: 100}
""".replace("BODY", "x" * 200_000)
LEAF = "{http: [{match: [{uri: {prefix: /deep/er}}], route: [{destination: {host: ratings}}]}]}"
HASHES = """
  host: reviews
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
  subsets:
  - {name: cookie, trafficPolicy: {loadBalancer: {consistentHash:
      {httpCookie: {name: c, path: /p, ttl: 5s, attributes: [{name: SameSite, value: Lax}]}}}}}
  - {name: ip, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}
  - {name: query, trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: q}}}}
"""
ALL = (
    SERVICES,
    virtual_service("all", EVERYTHING),
    virtual_service("leaf", LEAF),
    virtual_service("hashes", HASHES, kind="DestinationRule"),
)


async def _accepted(tmp_path: Path, world: World, *found: Resource) -> None:
    listeners, style = {}, world.engine(manner)
    for i, routes in enumerate(found):
        message = listener_v3.Listener(name=f"l{i}", address=address("127.0.0.1", 10_000 + i))
        message.filter_chains.add(filters=[outbound_http(style, f"l{i}", routes.name)])
        listeners[message.name] = as_resource(LISTENER, message.name, message)
    socket = tmp_path / "xds.sock"
    async with served(socket) as discovery, running(tmp_path, socket), asyncio.timeout(15):
        # Envoy asks for listeners once it has clusters
        only = cluster_v3.Cluster(name="only", type=cluster_v3.Cluster.STATIC)
        clusters = {only.name: as_resource(CLUSTER, only.name, only)}
        await discovery.push(
            {CLUSTER: clusters, LISTENER: listeners, ROUTES: {routes.name: routes for routes in found}}
        )
        await discovery.wait_accepted(LISTENER, ROUTES)


@pytest.mark.parametrize("outbound", Outbound)
async def test_everything_a_virtual_service_can_say(tmp_path: Path, outbound: Outbound) -> None:
    world = World(MeshSettings(outbound=outbound)).apply(*ALL)
    gateway = world.engine(
        routes_gateway.gateway_routes,
        "http.80",
        (routes_gateway.GatewayServer("bookinfo/door", ("*",), 80, https_redirect=True),),
        "bookinfo",
        (),
    )
    names = ("9080", "80", "reviews.bookinfo.svc.cluster.local:9080")
    await _accepted(tmp_path, world, *(resource(world, name) for name in names), gateway)


async def test_ten_thousand_rules_for_one_host(tmp_path: Path) -> None:
    world = many_rules(10_000)
    await _accepted(tmp_path, world, resource(world))
