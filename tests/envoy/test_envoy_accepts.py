"""A real Envoy takes everything that is made of small worlds, as it is sent over delta ADS."""

import asyncio
from pathlib import Path

import pytest
from real_envoy import can_unshare, running, served
from real_identity import secrets

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES
from makers import BOOKINFO, World

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)"),
]
SERVED = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, EXTENSION)

RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: bookinfo}
spec:
  host: reviews
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 10, connectTimeout: 1s}, http: {maxRetries: 2, idleTimeout: 1m}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 5s, baseEjectionTime: 30s, maxEjectionPercent: 50}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - {name: v3, labels: {version: v3}, trafficPolicy: {tls: {mode: DISABLE}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: mysqldb, namespace: bookinfo}
spec:
  host: mysqldb
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bookinfo}
spec:
  hosts: [reviews]
  http:
  - name: jason
    match:
    - headers: {end-user: {exact: jason}, x-any: {}}
      uri: {prefix: /reviews}
      withoutHeaders: {x-not: {regex: "a+"}}
      queryParams: {q: {exact: "1"}}
    - {uri: {regex: "/r.*s"}, method: {exact: GET}, authority: {prefix: reviews}, scheme: {exact: http}}
    - {uri: {exact: /Upper}, ignoreUriCase: true, port: 9080}
    fault:
      delay: {percentage: {value: 10.5}, fixedDelay: 7s}
      abort: {percentage: {value: 100}, httpStatus: 418}
    route: [{destination: {host: reviews, subset: v2}}]
    timeout: 10s
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx,connect-failure,418"}
    rewrite: {uri: /new, authority: other}
    headers:
      request: {set: {x-set: "100%", Host: other}, add: {x-add: "%REQ(x-any)%"}, remove: [x-gone, host]}
      response: {add: {x-by: isthmus}}
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, authority: elsewhere, port: 8080, scheme: https, redirectCode: 302}
  - match: [{uri: {prefix: /teapot}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {prefix: /api}}]
    rewrite: {uri: /}
    retries: {attempts: 0}
    route: [{destination: {host: reviews, subset: v1}}]
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 80, headers: {request: {set: {x-v: "1"}}}}
    - {destination: {host: reviews, subset: v2}, weight: 20}
    - {destination: {host: reviews, subset: v3}, weight: 0}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mysqldb, namespace: bookinfo}
spec:
  hosts: [mysqldb]
  tcp:
  - match: [{port: 3306}]
    route:
    - {destination: {host: mysqldb, port: {number: 3306}, subset: v1}, weight: 90}
    - {destination: {host: mysqldb, port: {number: 3306}, subset: v2}, weight: 10}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings, namespace: bookinfo}
spec:
  hosts: [ratings]
  http: [{route: [{destination: {host: nowhere, subset: none}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: bookinfo}
spec:
  hosts: [api.example.com, "*.example.org"]
  addresses: [10.1.0.0/16, 10.9.9.9]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
  endpoints: [{address: target.example.com}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anywhere, namespace: bookinfo}
spec:
  hosts: [anywhere.example.com]
  ports: [{number: 8080, name: http-web}, {number: 50051, name: grpc}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: inline, namespace: bookinfo}
spec:
  hosts: [inline.mesh]
  addresses: [240.240.0.77]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 50051, name: grpc-x, targetPort: 50052}, {number: 9000, name: tcp}]
  endpoints: [{address: 10.0.0.77, serviceAccount: inline, locality: eu/a/1, weight: 3}, {address: 10.0.0.78}]
"""

STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: bookinfo}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mysqldb, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: mysqldb}}
  mtls: {mode: PERMISSIVE}
  portLevelMtls: {"3306": {mode: STRICT}, "9104": {mode: DISABLE}, "9105": {mode: DISABLE}}
"""
OPEN = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: isthmus-system}
spec: {mtls: {mode: DISABLE}}
"""


async def _accepted(world: World, tmp_path: Path, workload: str) -> None:
    manifests = {t: world.manifest(t, "bookinfo", workload) for t in SERVED}
    assert all(manifests.values())
    socket = tmp_path / "xds.sock"
    async with served(socket) as discovery, running(tmp_path, socket), asyncio.timeout(15):
        discovery.secrets = secrets(tmp_path)
        await discovery.push(manifests)
        await discovery.wait_accepted(*SERVED)


@pytest.mark.parametrize("workload", ["productpage-1", "mysqldb-1", "mysqldb-2"])
@pytest.mark.parametrize("mode", ["", STRICT, OPEN], ids=["permissive", "strict", "disable"])
async def test_bookinfo(tmp_path: Path, workload: str, mode: str) -> None:
    await _accepted(World().apply(BOOKINFO, mode), tmp_path, workload)


@pytest.mark.parametrize("workload", ["productpage-1", "mysqldb-1"])
async def test_all_rules_at_once(tmp_path: Path, workload: str) -> None:
    await _accepted(World().apply(BOOKINFO, RULES, STRICT), tmp_path, workload)
