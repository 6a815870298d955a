"""What a class of proxies may see: Sidecars, exportTo, and what follows from both."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh import scope as scopes
from isthmus.mesh import scope_hosts
from isthmus.mesh.model import MeshSettings, Outbound, Scope
from makers import World, service, workload

DB = Key("WorkloadEntry", "shop", "db-1")
WORLD = "".join(
    (
        service("web", vip="240.240.0.1", namespace="shop"),
        service("db", 3306, vip="240.240.0.2", namespace="shop", port_name="mysql"),
        service("mail", 25, vip="240.240.0.3", namespace="other", port_name="smtp"),
        workload("db-1", "10.0.0.1", namespace="shop"),
    )
)


def sidecar(name: str, spec: str, namespace: str = "shop") -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )


def _seen(world: World) -> dict[str, tuple[int, ...]]:
    scope = world.engine(scopes.scope_of, DB)
    assert scope is not None
    found = world.engine(scopes.imported, scope)
    return {each.host.removesuffix(".svc.cluster.local"): each.ports for each in found}


def test_without_a_sidecar_everything_is_seen() -> None:
    assert _seen(World().apply(WORLD)) == {"web.shop": (9080,), "db.shop": (3306,), "mail.other": (25,)}


@pytest.mark.parametrize(
    ("hosts", "seen"),
    [
        ("['./*']", {"web.shop", "db.shop"}),
        ("['*/*']", {"web.shop", "db.shop", "mail.other"}),
        ("['other/*']", {"mail.other"}),
        ("['./db.shop.svc.cluster.local']", {"db.shop"}),
        ("['*/*.other.svc.cluster.local']", {"mail.other"}),
        ("['*/*', '~other/*']", {"web.shop", "db.shop"}),
        ("['*/*', '~./web.shop.svc.cluster.local']", {"db.shop", "mail.other"}),
        ("['~/*']", set()),
        ("['nowhere/*']", set()),
    ],
)
def test_hosts_that_a_sidecar_names(hosts: str, seen: set[str]) -> None:
    world = World().apply(WORLD, sidecar("default", f"{{egress: [{{hosts: {hosts}}}]}}"))
    assert _seen(world).keys() == seen


def test_a_listener_of_its_own_has_one_port() -> None:
    two = (
        "{egress: [{port: {number: 9080, protocol: HTTP, name: http}, hosts: ['*/*']}, {hosts: ['other/*']}]}"
    )
    assert _seen(World().apply(WORLD, sidecar("default", two))) == {"web.shop": (9080,), "mail.other": (25,)}


def test_the_control_plane_is_always_seen() -> None:
    isthmus = service("isthmus", 80, vip="240.240.0.9", namespace="isthmus-system")
    world = World().apply(WORLD, isthmus, sidecar("default", "{egress: [{hosts: ['~/*']}]}"))
    assert _seen(world) == {"isthmus.isthmus-system": (80,)}


def test_rules_bring_their_destinations_along() -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - match: [{sourceNamespace: elsewhere}]
    route: [{destination: {host: db}}]
  - route: [{destination: {host: mail.other.svc.cluster.local, port: {number: 25}}}]
"""
    only_web = sidecar("default", "{egress: [{hosts: ['./web.shop.svc.cluster.local']}]}")
    assert _seen(World().apply(WORLD, rule, only_web)).keys() == {"web.shop", "mail.other"}


def _entry(namespace: str, port: int, more: str = "", year: int = 2020) -> str:
    return f"""---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: x, namespace: {namespace}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec: {{hosts: [mail.other.svc.cluster.local], ports: [{{number: {port}, name: tcp, protocol: TCP}}]{more}}}
"""


@pytest.mark.parametrize(
    ("objects", "port"),
    [
        # a Service, whatever the namespace is called
        ([_entry("aaa", 1000)], 25),
        # what is the own namespace's, even where it is for others
        ([_entry("aaa", 1000), _entry("shop", 2000, ", exportTo: [aaa]")], 2000),
    ],
)
def test_rules_lead_to_the_own_namespace_else_to_services(objects: list[str], port: int) -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: mail.other.svc.cluster.local}}]}]
"""
    only_web = sidecar("default", "{egress: [{hosts: ['./web.shop.svc.cluster.local']}]}")
    assert _seen(World().apply(WORLD, rule, only_web, *objects))["mail.other"] == (port,)


def test_rules_lead_to_the_oldest_entry() -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: x.example}}]}]
"""
    only_web = sidecar("default", "{egress: [{hosts: ['./web.shop.svc.cluster.local']}]}")
    entries = [
        _entry(namespace, port, year=year).replace("mail.other.svc.cluster.local", "x.example")
        for namespace, port, year in (("aaa", 1000, 2021), ("zzz", 2000, 2020))
    ]
    assert _seen(World().apply(WORLD, rule, only_web, *entries))["x.example"] == (2000,)


@pytest.mark.parametrize(
    ("objects", "chosen"),
    [
        ([], None),
        ([sidecar("all", "{}", "isthmus-system")], "all"),
        ([sidecar("all", "{}", "isthmus-system"), sidecar("mine", "{}")], "mine"),
        ([sidecar("mine", "{}"), sidecar("db", "{workloadSelector: {labels: {app: db}}}")], "db"),
        ([sidecar("mine", "{}"), sidecar("web", "{workloadSelector: {labels: {app: web}}}")], "mine"),
        ([sidecar("x", "{workloadSelector: {labels: {app: db}}}", "isthmus-system")], None),
        ([sidecar("b", "{}"), sidecar("a", "{}")], "a"),
    ],
)
def test_the_nearest_sidecar_counts(objects: list[str], chosen: str | None) -> None:
    scope = World().apply(WORLD, *objects).engine(scopes.scope_of, DB)
    assert scope is not None
    assert (scope.sidecar.name if scope.sidecar else None) == chosen


def test_only_labels_that_rules_ask_for_tell_scopes_apart() -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - match: [{sourceLabels: {version: v1}}]
    route: [{destination: {host: web}}]
"""
    other = workload("db-2", "10.0.0.2", namespace="shop", version="v2")
    world = World().apply(WORLD, other)
    both = [world.engine(scopes.scope_of, Key("WorkloadEntry", "shop", name)) for name in ("db-1", "db-2")]
    assert both[0] == both[1] == Scope("shop")
    world.apply(rule)
    both = [world.engine(scopes.scope_of, Key("WorkloadEntry", "shop", name)) for name in ("db-1", "db-2")]
    assert both == [Scope("shop", labels=(("version", "v1"),)), Scope("shop")]


def test_what_is_exported_elsewhere_is_not_seen() -> None:
    entry = (
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
        "metadata: {{name: {0}, namespace: other}}\n"
        "spec: {{hosts: [{0}.example], exportTo: [{1}],\n"
        "  ports: [{{number: 80, name: http, protocol: HTTP}}]}}\n"
    )
    world = World().apply(
        WORLD,
        entry.format("a", "'.'"),
        entry.format("b", "shop"),
        entry.format("c", "'~'"),
        entry.format("d", "'*'"),
    )
    assert {host for host in _seen(world) if host.endswith(".example")} == {"b.example", "d.example"}
    private = World(MeshSettings(service_export_to=(".",))).apply(WORLD)
    assert _seen(private).keys() == {"web.shop", "db.shop"}


def test_one_host_of_two_namespaces_is_the_own_ones() -> None:
    entry = (
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: x, namespace: {0}}}\n"
        "spec: {{hosts: [x.example], ports: [{{number: {1}, name: tcp, protocol: TCP}}]}}\n"
    )
    world = World().apply(WORLD, entry.format("other", 1000), entry.format("shop", 2000))
    assert _seen(world)["x.example"] == (2000,)


def test_an_entry_adds_no_way_out_to_the_host_of_a_service() -> None:
    entry = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: thief, namespace: shop}
spec: {hosts: [web.shop.svc.cluster.local], ports: [{number: 81, name: http, protocol: HTTP}]}
"""
    own = "{egress: [{port: {number: 81, protocol: HTTP, name: http}, hosts: ['*/*']}, {hosts: ['*/*']}]}"
    for more in ((), (sidecar("default", own),)):
        world = World().apply(WORLD, entry, *more)
        assert _seen(world)["web.shop"] == (9080,)
        scope = world.engine(scopes.scope_of, DB)
        assert scope is not None
        called = [each.source.kind for way in world.engine(scopes.egress, scope) for each in way.services]
        assert "ServiceEntry" not in called


def test_outbound_policy_of_the_sidecar_then_of_the_mesh() -> None:
    mesh = """
apiVersion: isthmus.dev/v1alpha1
kind: MeshConfig
metadata: {name: default, namespace: isthmus-system}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, protocolDetectionTimeout: 2s}
"""
    world = World().apply(WORLD, mesh)
    scope = world.engine(scopes.scope_of, DB)
    assert scope is not None
    assert world.engine(scopes.outbound_policy, scope) is Outbound.REGISTRY_ONLY
    world.apply(sidecar("default", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}"))
    scope = world.engine(scopes.scope_of, DB)
    assert scope is not None
    assert world.engine(scopes.outbound_policy, scope) is Outbound.ALLOW_ANY


def test_names_with_wildcards_on_either_side() -> None:
    assert scope_hosts.within("a.b.c", "*.b.c")
    assert scope_hosts.within("*.b.c", "*.c")
    assert not scope_hosts.within("*.c", "*.b.c")
    assert scope_hosts.overlap("*.c", "*.b.c")
    assert not scope_hosts.within("*.c", "a.c")
    assert scope_hosts.parse(("no-slash", "a/b/c"), "shop") == {}
