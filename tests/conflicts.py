"""Objects that want the same thing -> who loses it, and in which words it is told.

Each case: what stands before, and the object that comes last. `loser` is the one that must say what it lost;
nothing may change for all others but what `own` names (the loser's own things, which stay harmless).
"""

from dataclasses import dataclass

BASE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: shop}
spec: {address: 10.0.0.1, labels: {app: a, tier: back}, serviceAccount: shop}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-2, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: b}, serviceAccount: shop}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gate, namespace: shop, annotations: {isthmus.dev/proxy: gateway}}
spec: {address: 10.0.0.9, labels: {istio: gate}, serviceAccount: shop}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {clusterIP: 240.240.9.1, selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
spec: {clusterIP: 240.240.9.2, selector: {app: b}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 240.240.9.3, selector: {app: b}, ports: [{name: tcp-db, port: 3306}]}
"""
_HOSTS = {
    "networking.istio.io/v1": ("ServiceEntry", "VirtualService", "DestinationRule", "Sidecar", "Gateway")
}
_ROOT = {kind: version for version, kinds in _HOSTS.items() for kind in kinds}
_ROOT |= {"PeerAuthentication": "security.istio.io/v1", "Service": "v1"}


@dataclass(frozen=True, slots=True)
class Conflict:
    """One case."""

    name: str
    before: str
    last: str
    loser: str
    """`Kind/name`, in namespace shop."""
    field: str
    says: str
    hint: str
    own: str = ""
    """A word in the names of what is the loser's own."""
    gateway: bool = False
    """Whether it is about gateways."""

    def __str__(self) -> str:
        return self.name


def thing(kind: str, name: str, spec: str, *, labels: str = "") -> str:
    """One object of namespace shop."""
    return (
        f"---\napiVersion: {_ROOT[kind]}\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\nspec: {{{spec}}}\n"
    )


def entry(name: str, rest: str, ports: str = "9000 TCP", *, host: str = "db.mesh", labels: str = "") -> str:
    """A ServiceEntry; `ports` are `NUMBER PROTOCOL`, or with a name."""
    listed = []
    for port in ports.split(", "):
        number, protocol, *called = port.split()
        listed.append(f"{{number: {number}, protocol: {protocol}, name: {(called or ['p' + number])[0]}}}")
    return thing(
        "ServiceEntry", name, f"hosts: [{host}], ports: [{', '.join(listed)}], {rest}", labels=labels
    )


def _to(host: str, prefix: str) -> str:
    return f"http: [{{match: [{{uri: {{prefix: {prefix}}}}}], route: [{{destination: {{host: {host}}}}}]}}]"


def _server(number: int, protocol: str, host: str, more: str = "", *, name: str = "") -> str:
    port = f"{{number: {number}, protocol: {protocol}, name: {name or protocol.lower()}}}"
    return f"{{port: {port}, hosts: [{host}]{more}}}"


def _gateway(name: str, *servers: str) -> str:
    """A Gateway with a rule that is bound to it."""
    rule = (
        f"hosts: ['*.example.com'], gateways: [{name}], {_to('a', '/')}, "
        "tcp: [{route: [{destination: {host: db}}]}]"
    )
    spec = f"selector: {{istio: gate}}, servers: [{', '.join(servers)}]"
    return thing("Gateway", name, spec) + thing("VirtualService", f"of-{name}", rule)


_TLS = ", tls: {mode: SIMPLE, credentialName: x}"
_ONE = "resolution: STATIC, addresses: [198.51.100.1], endpoints: [{address: 192.0.2.1}]"
_TWO = "resolution: STATIC, addresses: [198.51.100.2], endpoints: [{address: 192.0.2.2}]"
_ALIKE = "make resolution, workloadSelector, exportTo and labels alike in both"
_TAKEN = "db.mesh is already declared by ServiceEntry/shop/one, which counts and has"

CONFLICTS = (
    Conflict(
        "entries of another resolution",
        entry("one", _ONE),
        entry("two", _TWO.replace("STATIC", "DNS"), "9000 TCP, 9001 HTTP"),
        "ServiceEntry/two",
        "spec.resolution",
        f"{_TAKEN} another resolution: nothing of this one is used",
        _ALIKE,
    ),
    Conflict(
        "entries of other workloads",
        entry("one", _ONE),
        entry("two", f"{_TWO}, workloadSelector: {{labels: {{app: none}}}}".replace(
            ", endpoints: [{address: 192.0.2.2}]", ""), "9001 HTTP"),
        "ServiceEntry/two",
        "spec.workloadSelector",
        f"{_TAKEN} another workloadSelector",
        _ALIKE,
    ),
    Conflict(
        "entries of other labels",
        entry("one", _ONE),
        entry("two", _TWO, "9000 TCP, 9001 TCP", labels="team: x"),
        "ServiceEntry/two",
        "metadata.labels",
        f"{_TAKEN} other labels",
        _ALIKE,
    ),
    Conflict(
        "entries that are both exported to somebody",
        entry("one", f"{_ONE}, exportTo: [shop, web]"),
        entry("two", f"{_TWO}, exportTo: [shop]", "9000 TCP, 9001 TCP"),
        "ServiceEntry/two",
        "spec.exportTo",
        f"{_TAKEN} another exportTo",
        _ALIKE,
    ),
    Conflict(
        "an entry for the own namespace alone goes before one for all",
        entry("two", f"{_TWO}, exportTo: [.]", "9000 TCP, 9001 TCP"),
        entry("one", _ONE, "9000 TCP, 9002 TCP"),
        "ServiceEntry/one",
        "spec.exportTo",
        "db.mesh is already declared by ServiceEntry/shop/two, which counts and has another exportTo: "
        "nothing of this one is used (as callers of shop see it)",
        _ALIKE,
    ),
    Conflict(
        "entries that disagree about what a port speaks",
        entry("one", _ONE, "9000 HTTP"),
        entry("two", _TWO, "9000 TCP"),
        "ServiceEntry/two",
        "spec.ports[0]",
        "port 9000 of db.mesh is HTTP and is called p9000, as ServiceEntry/shop/one says, which counts",
        "give number, name and protocol alike in both, or use another number",
    ),
    Conflict(
        "entries that disagree about the name of a port",
        entry("one", _ONE),
        entry("two", _TWO, "9000 TCP other"),
        "ServiceEntry/two",
        "spec.ports[0]",
        "is called p9000, as ServiceEntry/shop/one says",
        "give number, name and protocol alike",
    ),
    Conflict(
        "two single endpoints",
        entry("one", "resolution: DNS_ROUND_ROBIN, endpoints: [{address: one.example.com}]", "80 HTTP"),
        entry("two", "resolution: DNS_ROUND_ROBIN, endpoints: [{address: two.example.com}]", "80 HTTP"),
        "ServiceEntry/two",
        "spec.ports[0]",
        "db.mesh:80 has its one endpoint from ServiceEntry/shop/one",
        "use resolution DNS for several endpoints",
    ),
    Conflict(
        "an entry for the host of a Service",
        "",
        entry("two", _TWO, "80 HTTP, 81 TCP", host="a.shop.svc.cluster.local"),
        "ServiceEntry/two",
        "spec.hosts",
        "a.shop.svc.cluster.local is already declared by Service/shop/a, which counts: nothing of this one",
        "delete one of the two, or use another host",
    ),
    Conflict(
        "one address and port of two entries",
        entry("one", _ONE),
        entry("two", _TWO.replace("198.51.100.2", "198.51.100.1"), host="other.mesh"),
        "ServiceEntry/two",
        "spec.ports[0]",
        "other.mesh:9000 has no place on listener 198.51.100.1_9000, which ServiceEntry/shop/one has",
        "give one of them an address of its own, or another port",
        own="other.mesh",
    ),
    Conflict(
        "one address and port of a Service and an entry",
        "",
        entry("zwo", _TWO.replace("198.51.100.2", "240.240.9.3"), "3306 TCP", host="other.mesh"),
        "ServiceEntry/zwo",
        "spec.ports[0]",
        "other.mesh:3306 has no place on listener 240.240.9.3_3306, which Service/shop/db has",
        "give one of them an address of its own, or another port",
        own="other.mesh",
    ),
    Conflict(
        "one address and port of two Services",
        "",
        thing("Service", "zwo", "clusterIP: 240.240.9.3, selector: {app: a}, ports: [{name: tcp, port: 3306, "
              "targetPort: 80}]"),
        "Service/zwo",
        "spec.ports[0]",
        "cluster.local:3306 has no place on listener 240.240.9.3_3306, which Service/shop/db has",
        "give one of them an address of its own, or another port",
        own="zwo.shop",
    ),
    Conflict(
        "rules for the requests of one host",
        thing("VirtualService", "one", f"hosts: [a], {_to('b', '/one')}"),
        thing("VirtualService", "two", f"hosts: [a], {_to('b', '/two')}"),
        "VirtualService/two",
        "spec.hosts[0]",
        "VirtualService/shop/one already routes a.shop.svc.cluster.local and counts first",
        "put the rules into one VirtualService",
    ),
    Conflict(
        "rules for the connections of one host",
        thing("VirtualService", "one", "hosts: [db], tcp: [{route: [{destination: {host: db}}]}]"),
        thing("VirtualService", "two", "hosts: [db], tcp: [{route: [{destination: {host: a}}]}]"),
        "VirtualService/two",
        "spec.hosts[0]",
        "VirtualService/shop/one already routes db.shop.svc.cluster.local and counts first",
        "put the rules into one VirtualService",
    ),
    Conflict(
        "traffic policies of one host",
        thing("DestinationRule", "one", "host: a, trafficPolicy: {tls: {mode: DISABLE}}"),
        thing("DestinationRule", "two", "host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}"),
        "DestinationRule/two",
        "spec.trafficPolicy",
        "DestinationRule/shop/one is older and says the traffic policy of a.shop.svc.cluster.local",
        "put the policy into one DestinationRule",
    ),
    Conflict(
        "subsets of one name",
        thing("DestinationRule", "one", "host: a, subsets: [{name: v1, labels: {app: a}}]"),
        thing("DestinationRule", "two", "host: a, subsets: [{name: v1, labels: {tier: front}}]"),
        "DestinationRule/two",
        "spec.subsets[0].name",
        "DestinationRule/shop/one is older and defines subset v1 of a.shop.svc.cluster.local",
        "give it another name, or define it in one DestinationRule",
    ),
    Conflict(
        "rules of one host that are exported differently",
        thing("DestinationRule", "one", "host: a, exportTo: [.], trafficPolicy: {tls: {mode: DISABLE}}"),
        thing("DestinationRule", "a-one", "host: a, exportTo: [shop, web], trafficPolicy: "
              "{loadBalancer: {simple: RANDOM}}"),
        "DestinationRule/a-one",
        "spec.exportTo",
        "DestinationRule/shop/one is about a.shop.svc.cluster.local as well, with another exportTo, and "
        "counts for callers of shop: nothing of this one is used there",
        "give both the same exportTo, or put them into one DestinationRule",
    ),
    Conflict(
        "rules of one host for overlapping workloads",
        thing("DestinationRule", "one", "host: a, workloadSelector: {matchLabels: {app: a}}, "
              "trafficPolicy: {tls: {mode: DISABLE}}"),
        thing("DestinationRule", "two", "host: a, workloadSelector: {matchLabels: {tier: back}}, "
              "trafficPolicy: {loadBalancer: {simple: RANDOM}}"),
        "DestinationRule/two",
        "spec.workloadSelector",
        "DestinationRule/shop/one is about a.shop.svc.cluster.local and vm-1 as well, and counts there",
        "let them select different workloads",
    ),
    Conflict(
        "Sidecars of one namespace",
        thing("Sidecar", "one", "egress: [{hosts: [./a.shop.svc.cluster.local]}]"),
        thing("Sidecar", "two", "egress: [{hosts: [./b.shop.svc.cluster.local]}]"),
        "Sidecar/two",
        "spec",
        "Sidecar/shop/one is older and is the Sidecar of the namespace",
        "give it a workloadSelector, or keep one of them",
    ),
    Conflict(
        "Sidecars of one workload",
        thing("Sidecar", "one", "workloadSelector: {labels: {app: a}}, egress: [{hosts: ['./*']}]"),
        thing("Sidecar", "two", "workloadSelector: {labels: {tier: back}}, egress: [{hosts: ['~/*']}]"),
        "Sidecar/two",
        "spec.workloadSelector.labels",
        "Sidecar/shop/one is older and is about vm-1 as well: this one does not count there",
        "let them select different workloads",
    ),
    Conflict(
        "mTLS rules of one namespace",
        thing("PeerAuthentication", "one", "mtls: {mode: STRICT}"),
        thing("PeerAuthentication", "two", "mtls: {mode: DISABLE}"),
        "PeerAuthentication/two",
        "spec",
        "PeerAuthentication/shop/one is older and says the mode of the namespace",
        "keep one of them",
    ),
    Conflict(
        "mTLS rules of one workload",
        thing("PeerAuthentication", "one", "selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}"),
        thing("PeerAuthentication", "two", "selector: {matchLabels: {tier: back}}, mtls: {mode: DISABLE}"),
        "PeerAuthentication/two",
        "spec.selector.matchLabels",
        "PeerAuthentication/shop/one is older and is about vm-1 as well: this one does not count there",
        "let them select different workloads",
    ),
    Conflict(
        "Gateways that want one port",
        _gateway("one", _server(80, "HTTP", "a.example.com")),
        _gateway("two", _server(80, "TCP", "'*'")),
        "Gateway/two",
        "spec.servers[0]",
        "port 80 is taken: TCP cannot share it with HTTP, by Gateway/shop/one",
        "change host, port or bind of one of the two",
        gateway=True,
    ),
    Conflict(
        "Gateways that open TLS for one host",
        _gateway("one", _server(443, "HTTPS", "a.example.com", _TLS)),
        _gateway("two", _server(443, "HTTPS", "a.example.com, b.example.com", _TLS)),
        "Gateway/two",
        "spec.servers[0]",
        "a.example.com is served at port 443 already, by Gateway/shop/one",
        "change host, port or bind of one of the two",
        gateway=True,
    ),
    Conflict(
        "Gateways that treat the TLS of one host differently",
        _gateway("one", _server(443, "HTTPS", "a.example.com", _TLS)),
        _gateway("two", _server(443, "TLS", "a.example.com", ", tls: {mode: PASSTHROUGH}")),
        "Gateway/two",
        "spec.servers[0]",
        "a.example.com is served at port 443 already, by Gateway/shop/one",
        "change host, port or bind of one of the two",
        gateway=True,
    ),
)  # fmt: skip
