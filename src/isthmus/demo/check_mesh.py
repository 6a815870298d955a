"""What a mesh must do while all is well: assertions a) to e) and k)."""

import json
import sys
from collections.abc import Callable, Iterable

from isthmus.demo import vm
from isthmus.demo.load import Load
from isthmus.demo.stage import Stage, manifest, service, stars, words
from isthmus.lab.host import Host
from isthmus.lab.records import LabError
from isthmus.lab.wire import flows

Say = Callable[[str], None]
UNAVAILABLE = "Ratings service is currently unavailable"
# Both stand in the greeting with which a MariaDB server opens every connection.
GREETING = (b"MariaDB", b"mysql_native_password")
READABLE = (*GREETING, b"SELECT Rating", b"ReviewID")
STRANGER = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 4) as s:
        s.settimeout(4)
        print(repr(s.recv(4096)))
except OSError as error:
    print(type(error).__name__)
"""
SHARE, POINTS, REQUESTS = 20.0, 5.0, 500


class Wrong(LabError):
    """Something is not as the assertion says; the text says what was seen."""


def expect(holds: bool, seen: str) -> None:
    """Raise Wrong with what was seen unless the condition holds."""
    if not holds:
        raise Wrong(seen)


def stars_follow_mysql(stage: Stage, say: Say) -> None:
    """a) The page shows what is in MySQL on the VM, and follows an UPDATE made there."""
    for first, second in ((3, 2), (5, 4)):
        stage.sql(
            f"UPDATE test.ratings SET Rating = {first} WHERE ReviewID = 1;"
            f"UPDATE test.ratings SET Rating = {second} WHERE ReviewID = 2;"
        )
        seen = stars(stage.page())
        expect(seen == [first, second], f"MySQL holds {[first, second]}, the page shows {seen}")
        say(f"MySQL holds {stage.ratings()}, the page shows {seen}")


def vm_calls_by_name(stage: Stage, say: Say) -> None:
    """b) From the VM the page is there under its mesh name."""
    url = "http://productpage.bookinfo:9080/productpage"
    body = stage.vm.host.run(["curl", "-sS", "--fail", "-m", "15", url]).stdout
    expect("<title>Simple Bookstore App</title>" in body, f"curl {url} on the VM: {words(body)}")
    say(f"vm# curl {url} → {len(body)} bytes, Simple Bookstore App")


def wire_is_unreadable(stage: Stage, say: Say) -> None:
    """c) Between ratings and the VM only TLS crosses; a client without the mesh gets not even a greeting."""
    greeting = _ask(stage.vm.host, "127.0.0.1", 3306)
    expect(
        all(text.decode() in greeting for text in GREETING),
        f"MariaDB's own greeting should hold {GREETING}: {greeting}",
    )
    with stage.lab.wire("vm", stage.lab.directory / "vm.pcap") as path:
        for _ in range(3):
            expect(stars(stage.page()) == stage.ratings(), "no stars while the wire was watched")
    crossed = {flow: data for flow, data in flows(path).items() if data}
    for flow, data in crossed.items():
        found = [text for text in READABLE if text in data]
        expect(not found, f"{flow}: readable on the wire: {found}")
    sent = {flow: data for flow, data in crossed.items() if 3306 in (flow.source_port, flow.target_port)}
    expect(len(sent) >= 2, f"the capture shows no connection to port 3306, only {list(crossed)}")
    for flow, data in sent.items():
        expect(data[0] in (0x14, 0x15, 0x16, 0x17), f"{flow}: begins with {data[:16]!r}, no TLS record")
    say(f"{sum(map(len, sent.values()))} bytes in {len(sent)} flows on the VM's cable: TLS, no MySQL text")
    stranger = stage.lab.host("stranger")
    for address in stage.vm.host.record.addresses:
        answer = _ask(stranger, address, 3306)
        expect(
            answer in ("b''", "ConnectionResetError", "TimeoutError"),
            f"a stranger at {address}:3306 got {answer}",
        )
        closed = _ask(stranger, address, 15006)
        expect(closed == "TimeoutError", f"the firewall should drop {address}:15006, a stranger got {closed}")
    say(f"a plaintext client at port 3306 of the VM: {answer}, no byte of a greeting; at 15006: dropped")


def rules_both_ways(stage: Stage, say: Say) -> None:
    """d) Rules govern calls to the VM and calls that the VM makes."""
    try:
        stage.apply("mysqldb-v1")
        stage.await_page(lambda page: stars(page) == stage.ratings(), "stars through the TCP route to v1")
        say("to the VM: TCP route to subset v1 → stars")
        stage.apply("mysqldb-v2")
        stage.await_page(
            lambda page: UNAVAILABLE in page, "no ratings with the TCP route to the empty subset v2"
        )
        say("to the VM: TCP route to subset v2, which is empty → no ratings")
    finally:
        stage.plane.isthmus("delete", "-n", "vm", "virtualservice/mysqldb")
    stage.await_page(lambda page: stars(page) == stage.ratings(), "stars again without the TCP route")
    caller = stage.vm.host
    try:
        stage.apply("all-v1", "details-abort")
        status, _ = _curl(caller, "http://details.bookinfo:9080/details/0")
        expect(status == 555, f"abort: the VM's call of details got {status}, expected 555")
        say("from the VM: abort → 555")
        stage.apply("details-delay")
        status, took_s = _curl(caller, "http://details.bookinfo:9080/details/0")
        expect(
            status == 200 and took_s >= 1.0, f"delay: the VM got {status} after {took_s:.2f} s, expected 1 s"
        )
        say(f"from the VM: delay of 1 s → {status} after {took_s:.2f} s")
        stage.apply("reviews-impatient", "ratings-slow")
        status, took_s = _curl(caller, "http://reviews.bookinfo:9080/reviews/0")
        expect(
            status == 504 and took_s < 1.5,
            f"timeout: the VM got {status} after {took_s:.2f} s, expected 504 at 0.5 s",
        )
        say(f"from the VM: timeout of 0.5 s → {status} after {took_s:.2f} s")
        stage.apply("reviews-jason-v2")
        jason = _body(caller, "http://reviews.bookinfo:9080/reviews/0", "end-user: jason")
        other = _body(caller, "http://reviews.bookinfo:9080/reviews/0", "end-user: someone")
        expect(
            "reviews-v2" in jason and "reviews-v1" in other, f"match on a header: {jason[:80]} / {other[:80]}"
        )
        say("from the VM: match on end-user: jason → reviews v2, others → v1")
    finally:
        stage.apply("all-v1", "ratings-mysql-vm")


def weights(stage: Stage, say: Say) -> None:
    """e) Of 500 calls that the VM makes with weights 80/20, 75 to 85 in a hundred go to the first."""
    try:
        stage.apply("all-v1", "reviews-80-20")
        for attempt in (1, 2):
            load = load_from(
                stage.vm.host, "http://reviews.bookinfo:9080/reviews/0", "--count", str(REQUESTS)
            )
            expect(load.failed == 0, f"{load.failed} of {load.requests} calls failed: {load.failures}")
            share = 100 * load.answers.get("reviews-v3", 0) / load.requests
            say(f"{dict(sorted(load.answers.items()))}: {share:.1f} % to v3")
            # One honest run in 200 is further off than this; two in a row are one in 40000.
            if abs(share - SHARE) <= POINTS:
                return
            expect(
                attempt == 1, f"{share:.1f} % went to v3 in a second run too, expected {SHARE:g} ± {POINTS:g}"
            )
            say("further off than 5 points, which happens to one run in 200 by chance: once more")
    finally:
        stage.apply("all-v1", "ratings-mysql-vm")


def ipv6_only(stage: Stage, say: Say) -> None:
    """k) The same call between two hosts that have no IPv4 address."""
    stage.plane.apply(manifest("check.yaml"))
    client = stage.lab.host("six-client", v4=False)
    server = stage.lab.host("six-server", v4=False)
    service(server, "details", {})
    joined = vm.join(stage.plane, client, "check/six-client")
    vm.join(stage.plane, server, "check/six-server")
    say(joined.agent.output().strip().splitlines()[-1])
    status, took_s = _await_status(client, "http://six.check:9080/details/0", 200)
    stranger = stage.lab.host("stranger")
    plain = stranger.run(["curl", "-sS", "-m", "5", f"http://[{server.address}]:9080/details/0"], check=False)
    expect(plain.returncode != 0, f"STRICT: plaintext to {server.address} was answered: {plain.stdout[:80]}")
    say(f"{client.address} → http://six.check:9080/ → {server.address}: {status} in {1000 * took_s:.0f} ms")


def load_from(host: Host, url: str, *options: str, timeout_s: float = 120) -> Load:
    """Load a URL from a host and wait for the result."""
    done = host.run(host.python("isthmus.demo.load", url, *options), timeout_s=timeout_s)
    return load_result(done.stdout)


def load_result(output: str) -> Load:
    """The result that the loader printed as its last line."""
    return Load(**json.loads(output.strip().splitlines()[-1]))


def _await_status(host: Host, url: str, wanted: int) -> tuple[int, float]:
    seen = (0, 0.0)

    def answered() -> bool:
        nonlocal seen
        seen = _curl(host, url)
        return seen[0] == wanted

    host.wait_until(answered, f"status {wanted} from {url}", timeout_s=15)
    return seen


def _curl(host: Host, url: str) -> tuple[int, float]:
    """Status (0: none) and seconds of one GET."""
    form = "%{http_code} %{time_total}"
    done = host.run(["curl", "-s", "-o", "/dev/null", "-m", "15", "-w", form, url], check=False)
    status, took_s = done.stdout.split()
    return int(status), float(took_s)


def _body(host: Host, url: str, *headers: str) -> str:
    return host.run(["curl", "-sS", "-m", "15", *_each("-H", headers), url]).stdout


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _ask(host: Host, address: str, port: int) -> str:
    """What a silent plaintext client gets: the bytes, or the name of the error."""
    done = host.run([sys.executable, "-c", STRANGER, address, str(port)], timeout_s=20)
    return done.stdout.strip()
