"""The smallest control plane that an agent can join: one VM, fixed orders, and Envoy without ADS.

Run on the peer as `python mesh.py DIRECTORY`; writes DIRECTORY/token when its doors are open. What should go
wrong is in DIRECTORY/faults.json. The product's own control plane has tests of its own; this one is here so
that every fault can be had at will.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus._pb.istio.v1.auth import ca_pb2 as ca_v1
from isthmus.identity import jointoken, keys
from isthmus.identity.ca import Authority
from isthmus.identity.csr import accepted, requested_key
from isthmus.identity.serving import ServingIdentity
from isthmus.identity.spiffe import SpiffeId

VM, PEER = "10.0.0.7", "10.0.0.1"
ENROL, ADS, HTTP = 8443, 15012, 8080
ID = SpiffeId("cluster.local", "vm", "mysqldb")
WORKLOAD = "mysqldb-10.0.0.7"
TOKEN = "t"
VIP = "240.240.0.1"
HOST = "type.googleapis.com/isthmus.agent.v1.HostConfig"
TARGET = "isthmus.isthmus-system.svc.cluster.local"


class Mesh:
    """The state of the tiny control plane."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.open(directory / "ca", "cluster.local", self.now)
        self.serving = ServingIdentity.open(directory / "serving", self.authority, [PEER], self.now)
        self.used_by: bytes | None = None

    @staticmethod
    def now() -> datetime:
        return datetime.now(UTC)

    @property
    def faults(self) -> dict[str, Any]:
        path = self.directory / "faults.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def note(self, event: str) -> None:
        with (self.directory / "events").open("a") as file:
            file.write(event + "\n")

    def certificate(self, csr: str) -> str:
        ttl = timedelta(seconds=float(self.faults.get("ttl", 3600)))
        return self.authority.sign(requested_key(csr), ID, common_name=WORKLOAD, ttl=ttl).chain

    def enrol(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key = keys.public_key_der(requested_key(request["csr"]))
        if refusal := self.faults.get("refuse"):
            return 403, {"error": refusal, "hint": "create a new token"}
        if self.used_by not in (None, key):
            return 409, {"error": "the token was used already", "hint": "create a new token"}
        self.used_by = key
        self.note("enrolled")
        return 200, {
            "namespace": "vm",
            "workload": WORKLOAD,
            "spiffe_id": str(ID),
            "chain": self.certificate(request["csr"]),
            "roots": self.authority.roots,
            "bootstrap": self.faults.get("bootstrap") or bootstrap(),
            "ads": [f"{PEER}:{ADS}"],
            "token_expires": "2199-01-01T00:00:00Z",
        }

    def orders(self) -> agent_v1.HostConfig:
        return agent_v1.HostConfig(
            inbound_ports=self.faults.get("ports", [3306]),
            capture_prefixes=["240.240.0.0/16", "2001:2::/48"],
            names=[agent_v1.Name(host=TARGET, addresses=[VIP])],
        )

    async def stream(self, requests: AsyncIterator[Any], context: Any) -> None:
        """HostConfig, sent when it is another than the client says it has; polled, since tests change it."""
        first = await anext(requests)
        held = dict(first.initial_resource_versions).get("host", "")
        self.note(f"stream {first.node.id} held={bool(held)}")

        async def read() -> None:
            async for request in requests:
                self.note(f"answer {request.error_detail.message or 'ack'}")

        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read())
            while not reading.done():
                body = self.orders().SerializeToString(deterministic=True)
                version = str(hash(body))
                if version != held and not self.faults.get("no orders"):
                    held = version
                    response = discovery_v3.DeltaDiscoveryResponse(type_url=HOST, nonce=version)
                    resource = response.resources.add(name="host", version=version)
                    resource.resource.type_url, resource.resource.value = HOST, body
                    await context.write(response)
                await asyncio.sleep(0.02)

    async def create_certificate(self, request: Any, context: Any) -> Any:
        self.note("renewed")
        return ca_v1.IstioCertificateResponse(
            cert_chain=[self.certificate(request.csr), self.authority.roots]
        )

    async def prove(self, request: Any, context: Any) -> Any:
        proofs = []
        for port in request.ports:
            seen = await greeting(VM, port)
            # the program must have seen Envoy's source address: else the connection went round it
            proofs.append(
                agent_v1.PortProof(port=port, ok=seen == "127.0.0.6", detail=f"the program saw {seen!r}")
            )
        return agent_v1.ProveResponse(ports=proofs)

    async def leave(self, request: Any, context: Any) -> Any:
        self.note("left")
        (shown,) = context.auth_context()["x509_pem_cert"]
        key = keys.public_key_der(accepted(x509.load_pem_x509_certificate(shown).public_key()))
        if request.unused_token != TOKEN or key != self.used_by:
            return agent_v1.LeaveResponse(detail="it is not this key's")
        self.used_by = None
        self.note("given back")
        return agent_v1.LeaveResponse(token_given_back=True)


async def greeting(address: str, port: int) -> str:
    """What a server-first program says."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(address, port)
            said = (await reader.read(100)).decode()
            writer.close()
            return said
    except (OSError, TimeoutError) as error:
        return type(error).__name__


def bootstrap() -> dict[str, Any]:
    """An Envoy whose listeners are fixed: out to the mesh's HTTP server, in to the program behind."""
    return {
        "node": {"id": f"sidecar~{VM}~{WORKLOAD}.vm~vm.svc.cluster.local", "cluster": "mysqldb"},
        "admin": {"address": {"pipe": {"path": "/run/isthmus/envoy/admin.sock", "mode": 0o600}}},
        "static_resources": {
            "listeners": [
                _listener("virtualOutbound", 15001, "mesh"),
                _listener("virtualInbound", 15006, "inbound"),
                _listener("tls", 15444, "mesh", tls=True),
            ],
            "clusters": [
                _cluster("mesh", {"socket_address": {"address": PEER, "port_value": HTTP}}),
                {"name": "nowhere", "type": "STATIC"},
                {
                    "name": "inbound",
                    "type": "ORIGINAL_DST",
                    "lb_policy": "CLUSTER_PROVIDED",
                    "upstream_bind_config": {
                        "source_address": {"address": "127.0.0.6", "port_value": 0},
                        "extra_source_addresses": [{"address": {"address": "::6", "port_value": 0}}],
                    },
                },
                _cluster("sds-grpc", {"pipe": {"path": "/run/isthmus/sds.sock"}})
                | {
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": f"{_PREFIX}upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    }
                },
            ],
        },
    }


_PREFIX = "type.googleapis.com/envoy.extensions."


def _cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _listener(name: str, port: int, cluster: str, *, tls: bool = False) -> dict[str, Any]:
    proxy = {
        "@type": f"{_PREFIX}filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": name,
        "cluster": cluster,
    }
    chain: dict[str, Any] = {"filters": [{"name": "tcp", "typed_config": proxy}]}
    # whoever dials Envoy itself would make it dial itself, again and again
    hole = {
        "filter_chain_match": {"destination_port": port},
        "filters": [{"name": "tcp", "typed_config": proxy | {"cluster": "nowhere"}}],
    }
    if tls:
        source = {
            "resource_api_version": "V3",
            "api_config_source": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
            },
        }
        chain["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": f"{_PREFIX}transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": source}],
                    "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": source},
                },
            },
        }
    original = {
        "name": "original_dst",
        "typed_config": {"@type": f"{_PREFIX}filters.listener.original_dst.v3.OriginalDst"},
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "additional_addresses": [{"address": {"socket_address": {"address": "::", "port_value": port}}}],
        "listener_filters": [original],
        "filter_chains": [chain] if tls else [hole, chain],
    }


async def serve(mesh: Mesh) -> None:
    """Opens the three doors and stays."""
    token = jointoken.mint(namespace="vm", name=TOKEN, addresses=[f"{PEER}:{ENROL}"], pin=mesh.serving.pin())
    enrol = await asyncio.start_server(
        lambda reader, writer: _http(reader, writer, mesh.enrol),
        PEER,
        ENROL,
        ssl=mesh.serving.server_context(alpn=["http/1.1"], clients=False),
    )
    probe = await asyncio.start_server(lambda reader, writer: _http(reader, writer, None), PEER, HTTP)
    ads = grpc.aio.server()
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
    for service, handlers in {
        "envoy.service.discovery.v3.AggregatedDiscoveryService": {
            "DeltaAggregatedResources": stream(
                mesh.stream,
                request_deserializer=discovery_v3.DeltaDiscoveryRequest.FromString,
                response_serializer=discovery_v3.DeltaDiscoveryResponse.SerializeToString,
            )
        },
        "isthmus.agent.v1.Agent": {
            "Prove": unary(
                mesh.prove, agent_v1.ProveRequest.FromString, agent_v1.ProveResponse.SerializeToString
            ),
            "Leave": unary(
                mesh.leave, agent_v1.LeaveRequest.FromString, agent_v1.LeaveResponse.SerializeToString
            ),
        },
        "istio.v1.auth.IstioCertificateService": {
            "CreateCertificate": unary(
                mesh.create_certificate,
                ca_v1.IstioCertificateRequest.FromString,
                ca_v1.IstioCertificateResponse.SerializeToString,
            )
        },
    }.items():
        ads.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    key, chain = mesh.serving.key_path.read_bytes(), mesh.serving.chain_path.read_bytes()
    roots = mesh.authority.roots.encode()
    ads.add_secure_port(f"{PEER}:{ADS}", grpc.ssl_server_credentials([(key, chain)], roots, True))
    await ads.start()
    (mesh.directory / "token").write_text(token.text)
    async with enrol, probe:
        await asyncio.Event().wait()


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, door: Any) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, answer = 200, {"you": str(ID), "nonce": head.split()[1]}
    if door is not None:
        length = int(head.lower().partition("content-length:")[2].split()[0])
        status, answer = door(json.loads(await reader.readexactly(length)))
    body = json.dumps(answer).encode()
    writer.write(
        b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)) + body
    )
    await writer.drain()
    writer.close()


def served_certificate(address: str) -> str:
    """The serial number of the certificate that Envoy shows on its TLS port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    pem = ssl.get_server_certificate((address, 15444))
    return str(x509.load_pem_x509_certificate(pem.encode()).serial_number)


if __name__ == "__main__":
    asyncio.run(serve(Mesh(Path(sys.argv[1]))))
