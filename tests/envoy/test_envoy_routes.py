"""Services and VirtualServices of a scope -> virtual hosts: names, domains, who routes, what is shared."""

import random
import time

import pytest
from route_worlds import (
    BOOKINFO,
    SERVICES,
    configuration,
    many_rules,
    resource,
    virtual_hosts,
    virtual_service,
)

from isthmus.api.meta import Key
from isthmus.mesh.model import MeshSettings, Outbound, Scope
from makers import World, service

REVIEWS = "reviews.bookinfo.svc.cluster.local"


def _rule(subset: str, name: str = "") -> str:
    return f"http: [{{name: '{name}', route: [{{destination: {{host: reviews, subset: {subset}}}}}]}}]"


def _subset(world: World, host: str, name: str = "9080", scope: Scope = BOOKINFO) -> str:
    return str(virtual_hosts(world, name, scope)[host].routes[0].route.cluster.split("|")[2])


def test_domains_of_a_service() -> None:
    world = World().apply(service("reviews", vip="240.240.0.3"))
    (host, rest) = configuration(world).virtual_hosts
    assert host.name == f"{REVIEWS}:9080"
    assert list(host.domains) == [
        *(REVIEWS, f"{REVIEWS}.", "reviews.bookinfo.svc", "reviews.bookinfo", "reviews", "240.240.0.3"),
    ]
    assert host.routes[0].name == "default"
    assert (rest.name, rest.domains, rest.routes[0].route.cluster) == (
        "allow_any",
        ["*"],
        "PassthroughCluster",
    )
    elsewhere = virtual_hosts(world, scope=Scope("shop"))[f"{REVIEWS}:9080"]
    assert "reviews" not in elsewhere.domains
    assert configuration(world).ignore_port_in_host_matching


def test_what_nobody_claims_is_blocked_where_the_mesh_says_so() -> None:
    world = World(MeshSettings(outbound=Outbound.REGISTRY_ONLY)).apply(SERVICES)
    rest = virtual_hosts(world)["block_all"]
    assert rest.routes[0].direct_response.status == 502


def test_other_names_of_a_host_and_names_below_a_headless_one() -> None:
    world = World().apply(
        service("reviews", vip="'None'"),
        """---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: bookinfo}
spec: {type: ExternalName, externalName: reviews.bookinfo.svc.cluster.local}
""",
    )
    domains = virtual_hosts(world)[f"{REVIEWS}:9080"].domains
    assert {"alias", "alias.bookinfo.svc.cluster.local", f"*.{REVIEWS}", "*.reviews"} <= set(domains)


def test_the_host_itself_counts_more_than_wildcards_and_longer_wildcards_more() -> None:
    wide = virtual_service("wide", f"{{hosts: ['*.local'], {_rule('wide')}}}", created="2001")
    narrow = virtual_service(
        "narrow", f"{{hosts: ['*.svc.cluster.local'], {_rule('narrow')}}}", created="2002"
    )
    odd = virtual_service(
        "odd", f"{{hosts: ['*s.bookinfo.svc.cluster.local'], {_rule('odd')}}}", created="2003"
    )
    exact = virtual_service("exact", f"{{hosts: [reviews], {_rule('exact')}}}", created="2004")
    world = World().apply(SERVICES, wide)
    assert _subset(world, f"{REVIEWS}:9080") == "wide"
    assert _subset(world.apply(narrow), f"{REVIEWS}:9080") == "narrow"
    assert _subset(world.apply(odd), f"{REVIEWS}:9080") == "odd"
    assert _subset(world.apply(exact), f"{REVIEWS}:9080") == "exact"


def test_a_rule_without_routes_for_the_caller_leaves_the_host_to_the_next() -> None:
    only_web = (
        "{hosts: [reviews], http: [{match: [{sourceLabels: {app: web}}],"
        " route: [{destination: {host: reviews, subset: web}}]}]}"
    )
    world = World().apply(
        SERVICES,
        virtual_service("a", only_web, created="2001"),
        virtual_service("b", f"{{hosts: [reviews], {_rule('all')}}}", created="2002"),
    )
    assert _subset(world, f"{REVIEWS}:9080") == "all"
    assert _subset(world, f"{REVIEWS}:9080", scope=Scope("bookinfo", labels=(("app", "web"),))) == "web"
    world.delete("VirtualService", "bookinfo", "b")
    assert _subset(world, f"{REVIEWS}:9080") == ""


def test_hosts_that_no_service_has_are_routed_on_port_80_and_beside_services() -> None:
    world = World().apply(
        SERVICES,
        service("web", 80),
        virtual_service("alone", f"{{hosts: [shop.example.com, '*.example.org'], {_rule('a')}}}"),
        virtual_service("beside", f"{{hosts: [reviews, bookinfo.example.com], {_rule('b')}}}"),
    )
    assert _subset(world, "shop.example.com:80", "80") == "a"
    assert _subset(world, "*.example.org:80", "80") == "a"
    assert _subset(world, "bookinfo.example.com:80", "80") == "b"
    assert _subset(world, "bookinfo.example.com:9080") == "b"
    assert "shop.example.com:9080" not in virtual_hosts(world)


def test_no_domain_is_given_twice() -> None:
    entry = "kind: ServiceEntry\nmetadata: {{name: {0}, namespace: bookinfo}}\nspec:\n  hosts: [{1}]\n"
    ports = "  addresses: [240.240.0.9]\n  ports: [{number: 9080, name: http}]\n  resolution: STATIC\n"
    world = World().apply(
        SERVICES,
        *(
            f"---\napiVersion: networking.istio.io/v1\n{entry.format(name, host)}{ports}"
            for name, host in (("x", "reviews.bookinfo"), ("y", "y.example.com"), ("z", "z.example.com"))
        ),
        virtual_service("r", f"{{hosts: [ratings.bookinfo, details], {_rule('a')}}}"),
    )
    hosts = virtual_hosts(world)
    domains = [domain for host in hosts.values() for domain in host.domains]
    assert len(domains) == len(set(domains))
    # a short form does not take a name that is another's own
    assert "reviews.bookinfo" in hosts["reviews.bookinfo:9080"].domains
    assert "240.240.0.9" in hosts["reviews.bookinfo:9080"].domains


def test_one_service_whose_protocol_is_found_out() -> None:
    world = World().apply(
        service("reviews", port_name="auto"),
        service("ratings", port_name="auto"),
        virtual_service("r", f"{{hosts: [reviews], {_rule('v2')}}}"),
    )
    (host,) = configuration(world, f"{REVIEWS}:9080").virtual_hosts
    assert (host.name, host.domains) == (f"{REVIEWS}:9080", ["*"])
    assert host.routes[0].route.cluster == f"outbound|9080|v2|{REVIEWS}"
    assert not configuration(world, "nobody.example.com:9080").virtual_hosts


def test_a_forward_proxy_knows_all_ports() -> None:
    world = World().apply(
        service("reviews"),
        service("web", 80),
        """---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: bookinfo}
spec:
  egress:
  - {port: {number: 3128, name: proxy, protocol: HTTP_PROXY}, bind: 127.0.0.1, hosts: ['*/*']}
  - {hosts: ['./*']}
""",
        virtual_service("r", f"{{hosts: [reviews], {_rule('v2')}}}"),
    )
    scope = Scope("bookinfo", sidecar=Key("Sidecar", "bookinfo", "default"))
    found = configuration(world, "3128", scope)
    domains = {host.name: set(host.domains) for host in found.virtual_hosts}
    assert "reviews:9080" in domains[f"{REVIEWS}:9080"]
    assert "reviews" not in domains[f"{REVIEWS}:9080"]
    assert {"web", "web:80"} <= domains["web.bookinfo.svc.cluster.local:80"]
    assert not found.ignore_port_in_host_matching
    assert _subset(world, f"{REVIEWS}:9080", "3128", scope) == "v2"
    assert _subset(world, f"{REVIEWS}:9080", "9080", scope) == "v2"


def test_sources_are_all_objects_that_the_routes_were_made_from() -> None:
    world = World().apply(
        SERVICES,
        virtual_service("r", "{hosts: [reviews], http: [{delegate: {name: leaf}}]}"),
        virtual_service("leaf", _rule("x").join("{}")),
    )
    assert {str(key) for key in resource(world).sources} == {
        *(f"Service/bookinfo/{name}" for name in ("reviews", "ratings", "details")),
        *("VirtualService/bookinfo/r", "VirtualService/bookinfo/leaf"),
    }


WORLD = [
    SERVICES,
    service("web", 80),
    virtual_service("a", f"{{hosts: [reviews], {_rule('a')}}}", created="2001"),
    virtual_service("b", f"{{hosts: [reviews, ratings], {_rule('b')}}}", created="2001"),
    virtual_service("c", f"{{hosts: ['*.cluster.local', web.example.com], {_rule('c')}}}", created="2000"),
    virtual_service("d", f"{{hosts: [reviews.bookinfo.svc.cluster.local], exportTo: [.], {_rule('d')}}}"),
    virtual_service("e", f"{{hosts: [details], {_rule('e')}}}", namespace="shop"),
    virtual_service("root", "{hosts: [details], http: [{delegate: {name: leaf}}]}"),
    virtual_service("leaf", _rule("leaf").join("{}")),
]


@pytest.mark.parametrize("seed", range(12))
def test_the_order_of_objects_never_changes_the_result(seed: int) -> None:
    shuffled = list(WORLD)
    random.Random(seed).shuffle(shuffled)
    expected, found = World().apply(*WORLD), World()
    for text in shuffled:
        found.apply(text)
        resource(found)  # what was answered on the way must not matter
    for name in ("9080", "80", f"{REVIEWS}:9080"):
        assert resource(found, name) == resource(expected, name)


def test_an_unrelated_object_changes_no_bytes_and_runs_little() -> None:
    world = World().apply(*WORLD)
    before = resource(world)
    world.apply(virtual_service("gate", f"{{hosts: [x.example.com], gateways: [door], {_rule('x')}}}"))
    world.apply(virtual_service("hid", f"{{hosts: [reviews], exportTo: [x], {_rule('x')}}}", namespace="x"))
    assert resource(world) == before
    world.apply(service("other", 7000, namespace="x"))
    assert resource(world) == before


def test_callers_that_look_alike_share_the_routes_of_a_host() -> None:
    world = World().apply(*WORLD)
    resource(world, scope=Scope("one"))
    before = world.engine.runs
    many = [resource(world, scope=Scope("two", labels=(("app", f"x{i}"),))) for i in range(10)]
    assert len({made.version for made in many}) == 1
    first = world.engine.runs - before
    assert first < 10 * 60


def test_ten_times_the_rules_take_about_ten_times_as_long() -> None:
    def seconds(count: int) -> float:
        world = many_rules(count)
        begin = time.process_time()
        assert len(virtual_hosts(world)[f"{REVIEWS}:9080"].routes) == count
        return time.process_time() - begin

    seconds(10)
    assert seconds(10_000) < 30 * max(seconds(1_000), 0.02)
