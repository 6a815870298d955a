"""Istio's documentation, as tests of the demonstration: what Bookinfo's page says under each task's rules.

https://istio.io/latest/docs/tasks/ (request routing, fault injection, traffic shifting, authorization) and
https://istio.io/latest/docs/examples/virtual-machines/. The page is asked for by a machine outside the mesh.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from isthmus.demo import mariadb, story
from isthmus.demo.narration import Narration
from isthmus.demo.stage import Stage
from isthmus.lab import namespaces
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0) or mariadb.lacking()),
        reason="this machine can run no lab, or has no MariaDB",
    ),
]
STARS = "glyphicon glyphicon-star"
UNRATED = "Ratings service is currently unavailable"
SOON_S = 10.0


@dataclass(frozen=True, slots=True)
class Town:
    """Bookinfo, its database on a VM, and a browser outside the mesh."""

    stage: Stage
    browser: Host

    def page(self, user: str = "") -> tuple[int, str]:
        """Status and text of the page, as the browser gets it from the sidecar in front of it."""
        address = self.stage.bookinfo["productpage-v1"].host.address
        url = f"http://{address}:9080/productpage" + (f"?u={user}" if user else "")
        asked = self.browser.run(["curl", "-sS", "-m", "20", "-w", "\n%{http_code}", url]).stdout
        body, _, status = asked.rpartition("\n")
        return int(status), body

    def until(self, holds: Callable[[int, str], bool], user: str = "") -> str:
        """The page, as soon as it is so: connections that are open may still be under earlier rules."""
        deadline = time.monotonic() + SOON_S
        while True:
            status, body = self.page(user)
            if holds(status, body):
                return body
            assert time.monotonic() < deadline, (status, body)
            time.sleep(0.1)

    def apply(self, *documents: str) -> None:
        """Applies documents, and waits until every proxy has them."""
        self.stage.plane.apply("\n---\n".join(documents))

    def delete_policies(self, *names: str) -> None:
        """Deletes AuthorizationPolicies of Bookinfo's namespace."""
        self.stage.plane.isthmus("delete", "-n", "bookinfo", "authorizationpolicy", *names)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("bookinfo") as lab:
            yield Town(story.tell(lab, Narration(lambda _: None)), lab.host("browser"))


@pytest.fixture
def first_versions(town: Town) -> Iterator[Town]:
    """Everything at v1, as most tasks begin."""
    town.stage.apply("all-v1")
    yield town
    town.stage.apply("all-v1", "ratings-mysql-vm")


def routes(host: str, http: str) -> str:
    """A VirtualService of Bookinfo."""
    return (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {host}, namespace: bookinfo}}\nspec: {{hosts: [{host}], http: {http}}}\n"
    )


def viewer(app: str, *callers: str) -> str:
    """A policy that lets GET through to an app: of anybody, or of these callers."""
    principals = ", ".join(f"cluster.local/ns/bookinfo/sa/bookinfo-{caller}" for caller in callers)
    source = f"from: [{{source: {{principals: [{principals}]}}}}], " if callers else ""
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {app}-viewer, namespace: bookinfo}}\n"
        f"spec: {{selector: {{matchLabels: {{app: {app}}}}}, action: ALLOW, "
        f"rules: [{{{source}to: [{{operation: {{methods: [GET]}}}}]}}]}}\n"
    )


def test_the_ratings_are_those_of_mysql_on_the_vm(town: Town) -> None:
    stage = town.stage
    stage.sql("UPDATE test.ratings SET Rating = 5 WHERE ReviewID = 1")
    rows = "SELECT ReviewID, Rating FROM test.ratings ORDER BY ReviewID"
    assert stage.sql(rows).split() == ["1", "5", "2", "4"]
    stage.sql("UPDATE test.ratings SET Rating = 1 WHERE ReviewID = 1")
    assert stage.sql(rows).split() == ["1", "1", "2", "4"]
    body = town.until(lambda _, body: STARS in body)
    assert body.count(f'"{STARS}"') == 1 + 4
    seen = stage.vm.host.run(["curl", "-sS", "-m", "20", "http://productpage.bookinfo:9080"]).stdout
    assert "<title>Simple Bookstore App</title>" in seen


def test_request_routing(first_versions: Town) -> None:
    first_versions.stage.apply("reviews-jason-v2")
    first_versions.until(lambda _, body: STARS in body, user="jason")
    first_versions.until(lambda _, body: "Book Reviews" in body and STARS not in body)


def test_fault_injection(first_versions: Town) -> None:
    town = first_versions
    jason = "match: [{headers: {end-user: {exact: jason}}}]"
    rest = "{route: [{destination: {host: ratings, subset: v1}}]}"
    town.stage.apply("reviews-jason-v2")
    delay = "fault: {delay: {percentage: {value: 100}, fixedDelay: 7s}}"
    town.apply(
        routes(
            "ratings",
            f"[{{{jason}, {delay}, route: [{{destination: {{host: ratings, subset: v1}}}}]}}, {rest}]",
        )
    )
    town.until(
        lambda _, body: "Sorry, product reviews are currently unavailable for this book." in body, "jason"
    )
    abort = "fault: {abort: {percentage: {value: 100}, httpStatus: 500}}"
    town.apply(
        routes(
            "ratings",
            f"[{{{jason}, {abort}, route: [{{destination: {{host: ratings, subset: v1}}}}]}}, {rest}]",
        )
    )
    town.until(lambda _, body: UNRATED in body, "jason")
    town.until(lambda _, body: "Book Reviews" in body and UNRATED not in body)


def test_traffic_shifting(first_versions: Town) -> None:
    town = first_versions

    def share(count: int) -> float:
        return 100 * sum("reviews-v3" in town.page()[1] for _ in range(count)) / count

    town.until(lambda _, body: "reviews-v1" in body)
    assert share(30) == 0
    halves = ", ".join(
        f"{{destination: {{host: reviews, subset: {version}}}, weight: 50}}" for version in ("v1", "v3")
    )
    town.apply(routes("reviews", f"[{{route: [{halves}]}}]"))
    # six standard deviations of 100 calls
    assert abs(share(100) - 50) <= 30
    town.apply(routes("reviews", "[{route: [{destination: {host: reviews, subset: v3}}]}]"))
    town.until(lambda _, body: "reviews-v3" in body)
    assert share(30) == 100


def test_authorization(first_versions: Town) -> None:
    town = first_versions
    town.apply(
        routes("reviews", "[{route: [{destination: {host: reviews, subset: v3}}]}]"),
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: allow-nothing, namespace: bookinfo}\nspec: {}\n",
    )
    try:
        status, body = town.page()
        assert (status, body) == (403, "RBAC: access denied")
        town.apply(viewer("productpage"))
        status, body = town.page()
        assert status == 200
        for text in (
            "William Shakespeare",
            "Error fetching product details",
            "Error fetching product reviews",
        ):
            assert text in body
        town.apply(viewer("details", "productpage"), viewer("reviews", "productpage"))
        status, body = town.page()
        assert status == 200
        for text in ("William Shakespeare", "PublisherA", UNRATED):
            assert text in body
        town.apply(viewer("ratings", "reviews"))
        status, body = town.page()
        assert status == 200
        for text in ("William Shakespeare", "Book Details", "Book Reviews", STARS):
            assert text in body
    finally:
        apps = ("productpage", "details", "reviews", "ratings")
        town.delete_policies("allow-nothing", *(f"{app}-viewer" for app in apps))
    town.until(lambda status, _: status == 200)


def test_access_to_the_database_is_its_own_rule(town: Town) -> None:
    """The VM as a server that speaks first: only ratings may talk to MySQL."""
    town.stage.apply("ratings-mysql-vm")
    policy = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: mysql, namespace: vm}\n"
        "spec: {rules: [{from: [{source: {serviceAccounts: [%s]}}], to: [{operation: {ports: ['3306']}}]}]}\n"
    )
    try:
        town.apply(policy % "bookinfo/bookinfo-reviews")
        town.until(lambda _, body: UNRATED in body)
        town.apply(policy % "bookinfo/bookinfo-ratings")
        town.until(lambda _, body: STARS in body)
    finally:
        town.stage.plane.isthmus("delete", "-n", "vm", "authorizationpolicy/mysql")


def test_calls_of_the_vm_are_under_the_rules_of_those_it_calls(town: Town) -> None:
    """The VM as the caller: details lets it in or not, by its identity."""
    call = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://details.bookinfo:9080/details/0"]
    policy = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: not-the-vm, namespace: bookinfo}\n"
        "spec: {selector: {matchLabels: {app: details}}, action: DENY, "
        "rules: [{from: [{source: {principals: [cluster.local/ns/vm/sa/mysqldb]}}]}]}\n"
    )
    assert town.stage.vm.host.run(call).stdout == "200"
    town.apply(policy)
    try:
        assert town.stage.vm.host.run(call).stdout == "403"
        town.until(lambda _, body: "PublisherA" in body)
    finally:
        town.delete_policies("not-the-vm")
