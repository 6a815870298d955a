"""Names become the demo's cast: which host runs what, with which settings, and how its page is read."""

import http.client
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from isthmus.demo.mariadb import PASSWORD, USER, MariaDB
from isthmus.demo.vm import VM
from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Host, Process
from isthmus.lab.lab import Lab
from isthmus.lab.records import LabError
from isthmus.lab.snapshot import Snapshot

PORT = 9080
FOLLOWS_S = 15


@dataclass(frozen=True, slots=True)
class Part:
    """One of Bookinfo's processes: the service it is, its version, and its environment."""

    service: str
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The host it runs on, which its page names as the server of the reviews."""
        return f"{self.service}-{self.version}"

    @property
    def group(self) -> str:
        """The WorkloadGroup that its host joins."""
        return f"bookinfo/{self.service}-{self.version}"


DATABASE = {
    "DB_TYPE": "mysql",
    "MYSQL_DB_HOST": "mysqldb.vm.svc.cluster.local",
    "MYSQL_DB_PORT": "3306",
    "MYSQL_DB_USER": USER,
    "MYSQL_DB_PASSWORD": PASSWORD,
}
BOOKINFO = (
    Part("productpage", "v1"),
    Part("details", "v1"),
    Part("reviews", "v1"),
    Part("reviews", "v2", {"ENABLE_RATINGS": "true", "STAR_COLOR": "black"}),
    Part("reviews", "v3", {"ENABLE_RATINGS": "true", "STAR_COLOR": "red"}),
    Part("ratings", "v1"),
    Part("ratings", "v2-mysql-vm", DATABASE),
)


@dataclass(slots=True)
class Stage:
    """Everything that stands, by the end of the story."""

    lab: Lab
    plane: ControlPlane
    machine: Snapshot
    vm_before: Snapshot
    vm: VM
    bookinfo: dict[str, VM] = field(default_factory=dict)
    services: dict[str, Process] = field(default_factory=dict)
    more: dict[str, VM] = field(default_factory=dict)
    """Hosts of the check that the story does not need."""
    database: MariaDB | None = None
    page_port: int = 0

    @property
    def url(self) -> str:
        """The page's address on the real machine."""
        return f"http://127.0.0.1:{self.page_port}/productpage"

    def page(self, *, user: str | None = None) -> str:
        """The page as a browser on the real machine gets it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.page_port, timeout=15)
        try:
            connection.request("GET", f"/productpage?u={user}" if user else "/productpage")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def await_page(self, wanted: Callable[[str], bool], what: str, *, timeout_s: float = FOLLOWS_S) -> str:
        """Ask for the page until it is as wanted; the error shows what it says instead."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                seen = self.page()
            except (OSError, http.client.HTTPException) as error:
                seen = f"{type(error).__name__}: {error}"
            if wanted(seen):
                return seen
            if time.monotonic() > deadline:
                raise LabError(
                    f"the page: {what} was not there after {timeout_s:g} s; it says: {words(seen)}"
                )
            time.sleep(0.1)

    def apply(self, *names: str) -> None:
        """Apply rules of the demo by file name, one after the other, and wait until every proxy has them."""
        for name in names:
            self.plane.apply(manifest(f"rules/{name}.yaml"))

    def sql(self, text: str) -> str:
        """Run SQL on the VM."""
        if self.database is None:
            raise LabError("the demo's VM has no database yet")
        return self.database.sql(text)

    def ratings(self) -> list[int]:
        """The stars that stand in the database now, by ReviewID."""
        return [int(row) for row in self.sql("SELECT Rating FROM test.ratings ORDER BY ReviewID").split()]


def manifest(name: str) -> str:
    """The text of one of the demo's YAML files."""
    return resources.files("isthmus.demo.bookinfo").joinpath(name).read_text()


def service(host: Host, module: str, environment: Mapping[str, str]) -> Process:
    """Start one of Bookinfo's services on a host and wait until it listens."""
    process = host.spawn(
        host.python(f"isthmus.demo.bookinfo.{module}", str(PORT)),
        log=f"{host.name}-{module}.log",
        environment=environment,
    )
    process.wait_for_line("listening", timeout_s=15)
    return process


def stars(page: str) -> list[int]:
    """How many stars each review on the page has; empty when it shows none."""
    reviews = page.split("<blockquote>")[1:]
    return [review.count('"glyphicon glyphicon-star"') for review in reviews if "glyphicon" in review]


def words(page: str) -> str:
    """The page's text without its markup, in one line."""
    body = page.partition("<body>")[2] or page
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())[-600:]
