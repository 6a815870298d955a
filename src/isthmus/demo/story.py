"""An empty machine becomes Bookinfo in a mesh, its ratings on a VM: eight steps, told as they happen."""

from concurrent.futures import ThreadPoolExecutor

from isthmus.demo import firewall, mariadb, vm
from isthmus.demo.narration import Narration
from isthmus.demo.stage import BOOKINFO, PORT, Part, Stage, manifest, service, stars
from isthmus.demo.vm import VM
from isthmus.lab import control, snapshot
from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Process
from isthmus.lab.lab import Lab
from isthmus.lab.records import LabError

AT_ONCE = 4


def tell(lab: Lab, narration: Narration, *, page_port: int = 0) -> Stage:
    """Play all eight steps in an empty lab; what then stands is returned."""
    if missing := mariadb.lacking():
        raise LabError("\n".join(missing))
    machine = snapshot.machine()
    _platform(lab, narration)
    plane = _control_plane(lab, narration)
    stage = _virtual_machine(lab, plane, machine, narration)
    _bookinfo(stage, narration)
    stage.page_port = _front_door(lab, page_port)
    stage.await_page(lambda page: "Book Reviews" in page and "Book Details" in page, "Bookinfo")
    narration.line(f"the page is at {stage.url}: reviews v1, so no stars yet")
    _database(stage, narration)
    _firewall(stage, narration)
    _service(stage, narration)
    _data(stage, narration)
    return stage


def _platform(lab: Lab, narration: Narration) -> None:
    narration.chapter(1, "The platform: hosts on a network")
    for part in BOOKINFO:
        lab.host(part.host)
    lab.host("vm")
    names = ", ".join(lab.hosts)
    narration.line(
        f"{len(lab.hosts)} lab hosts stand, each with its own network, files and processes: {names}"
    )
    narration.line(f"a shell on any of them: isthmus lab shell --name {lab.name} vm")


def _control_plane(lab: Lab, narration: Narration) -> ControlPlane:
    narration.chapter(2, "The control plane")
    plane = control.start(lab)
    narration.line(f"isthmus serve runs on the host control ({plane.host.address})")
    plane.apply(manifest("mesh.yaml"))
    plane.apply(manifest("vm.yaml"))
    plane.apply(manifest("rules/all-v1.yaml"))
    narration.line("it holds Bookinfo's services, groups and rules; no host has joined yet")
    return plane


def _virtual_machine(
    lab: Lab, plane: ControlPlane, machine: snapshot.Snapshot, narration: Narration
) -> Stage:
    narration.chapter(3, "A virtual machine joins")
    host = lab.hosts["vm"]
    before = host.snapshot()
    narration.line(
        "elsewhere: copy certificates, a token, a cluster.env and lines for /etc/hosts to it by hand; here:"
    )
    narration.line(f"vm# isthmus join {plane.token('vm/mysqldb')[:24]}…")
    joined = vm.join(plane, host, "vm/mysqldb")
    narration.quote(joined.agent.output().splitlines())
    return Stage(lab, plane, machine, before, joined)


def _bookinfo(stage: Stage, narration: Narration) -> None:
    narration.chapter(4, "Bookinfo is deployed into the mesh")

    def deploy(part: Part) -> tuple[str, Process, VM]:
        host = stage.lab.hosts[part.host]
        process = service(host, part.service, part.environment)
        return part.host, process, vm.join(stage.plane, host, part.group)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, process, joined in pool.map(deploy, BOOKINFO):
            stage.services[name], stage.bookinfo[name] = process, joined
            narration.line(f"{name} runs and has joined")


def _front_door(lab: Lab, wanted: int) -> int:
    try:
        return lab.forward(BOOKINFO[0].host, PORT, listen=wanted)
    except LabError:
        return lab.forward(BOOKINFO[0].host, PORT)  # taken: any free one will do, it is told below


def _database(stage: Stage, narration: Narration) -> None:
    narration.chapter(5, "MySQL is installed on the VM")
    stage.database = mariadb.install(stage.vm.host)
    version = stage.sql("SELECT VERSION()").strip()
    narration.line(f"MariaDB {version} listens on port 3306, test.ratings holds {stage.ratings()}")


def _firewall(stage: Stage, narration: Narration) -> None:
    narration.chapter(6, "The VM's firewall")
    firewall.install(stage.vm.host)
    narration.quote(firewall.RULES.strip().splitlines())
    narration.line(
        "open: connections made to 3306, in the shape in which the firewall sees them. The sidecar takes"
    )
    narration.line(
        "them over in prerouting, so at the input hook their port is 15006 already; `ct original` keeps"
    )
    narration.line(
        "15006 itself closed. The control plane is called from inside: nothing else needs to be open."
    )


def _service(stage: Stage, narration: Narration) -> None:
    narration.chapter(7, "The VM's MySQL becomes a mesh service, and the backend of ratings")
    stage.plane.apply(manifest("mysqldb.yaml"))
    stage.apply("ratings-mysql-vm")
    wanted = stage.ratings()
    stage.await_page(lambda page: stars(page) == wanted, f"stars {wanted}")
    narration.line(
        f"the page shows {_drawn(wanted)}: reviews v3 → ratings v2 → mysqldb.vm, all over mutual TLS"
    )


def _data(stage: Stage, narration: Narration) -> None:
    narration.chapter(8, "The data changes, and the page follows")
    statement = "UPDATE test.ratings SET Rating = 1 WHERE ReviewID = 1"
    stage.sql(statement)
    narration.line(f"vm# mariadb -e '{statement}'")
    wanted = stage.ratings()
    stage.await_page(lambda page: stars(page) == wanted, f"stars {wanted}")
    narration.line(f"the page shows {_drawn(wanted)}")
    narration.line(f"open it: {stage.url}")


def _drawn(ratings: list[int]) -> str:
    return " and ".join("★" * rating + "☆" * (5 - rating) for rating in ratings)
