"""A host's name and number become namespaces, mounts, a cable and addresses; done by the leader.

    leader ──unshare──▶ holder: private /etc, /var/lib, /srv, /run, /dev/shm ──"mounted"──▶ leader
    leader: veth from the bridge into the holder's network namespace ──ip batch──▶ holder: addresses ──"up"──▶

The holder is pid 1 of the host's pid namespace: it ignores SIGCHLD, so that the kernel reaps orphans, and
when it dies everything on the host dies with it.
"""

import subprocess
from dataclasses import dataclass

from isthmus.lab.addresses import Network
from isthmus.lab.namespaces import new_host
from isthmus.lab.processes import children
from isthmus.lab.records import LabError

# What the hosts see of the real machine's /etc and /var/lib, mounted here in the leader's namespace.
BEHIND = "/run/lab"

PREPARE_LAB = f"""
set -e
mount -t tmpfs -o mode=755 lab /run
mkdir -p {BEHIND}/etc {BEHIND}/var-lib
mount --rbind /etc {BEHIND}/etc
mount --rbind /var/lib {BEHIND}/var-lib
hostname lab
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
ip link set lo up
ip route add unreachable default
ip -6 route add unreachable default
"""

# The real directory stays readable behind one link for each entry, while whatever the host writes stays in a
# tmpfs of its own. This needs no overlayfs, whose rootless form may not change files that real root owns.
HOLDER = f"""
set -e
name=$1 hosts=$2 resolver=$3
own() {{
  mount -t tmpfs -o mode=755 "$name" "$1"
  cd "$1"
  mkdir .host
  mount --rbind "$2" .host
  ln -s .host/* .
}}
own /etc {BEHIND}/etc
rm -rf resolv.conf hosts hostname machine-id systemd
mkdir -p systemd/system
printf '%b' "$hosts" > hosts
printf '%b' "$resolver" > resolv.conf
echo "$name" > hostname
printf '%s' "$name" | sha256sum | cut -c1-32 > machine-id
own /var/lib {BEHIND}/var-lib
rm -rf isthmus mysql
mount -t tmpfs -o mode=1777 "$name" /dev/shm
mount -t tmpfs -o mode=755 "$name" /srv
mount -t tmpfs -o mode=755 "$name" /run
mkdir -m 1777 /run/lock
cd /
hostname "$name"
# Addresses can be used at once: nobody else is on this wire, and a host that stands changes no more.
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad
echo mounted
ip -batch -
echo up
exec env --ignore-signal=CHLD sleep infinity > /dev/null 2>&1 < /dev/null
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A host to bring up: its number on a network and which address families it has."""

    name: str
    number: int
    network: Network
    v4: bool
    v6: bool

    @property
    def port(self) -> str:
        """The bridge's end of the host's cable."""
        return f"port{self.network.index}-{self.number}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The host's addresses, IPv4 first."""
        v4 = (str(self.network.host_v4(self.number)),) if self.v4 else ()
        v6 = (str(self.network.host_v6(self.number)),) if self.v6 else ()
        return (*v4, *v6)


def prepare_lab() -> None:
    """Make the leader's own namespaces ready for hosts."""
    _run(["sh", "-c", PREPARE_LAB], what="the lab's own namespace")


def add_bridge(network: Network) -> None:
    """Make the bridge that is this network, with the router's addresses on it.

    Its link address is said: else it is the lowest of its ports', and changes when a host is added. Those who
    know the earlier one then reach neither router nor name server for some five seconds.
    """
    _batch(
        f"link add {network.bridge} address {network.router_mac} type bridge mcast_snooping 0",
        f"addr add {network.router_v4}/24 dev {network.bridge}",
        f"addr add {network.router_v6}/64 dev {network.bridge} nodad",
        f"link set {network.bridge} up",
    )


def add_host(wanted: Wanted) -> int:
    """Bring a host up and return its holder's pid as the leader sees it."""
    holder = subprocess.Popen(
        [*new_host(), "sh", "-c", HOLDER, "holder", wanted.name, hosts_file(wanted), resolv_conf(wanted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    if (said := holder.stdout.readline()) != "mounted\n":
        raise LabError(f"host {wanted.name}: its mounts failed: {said}{holder.stdout.read().rstrip()}")
    (pid,) = children(holder.pid)
    _batch(
        f"link add {wanted.port} type veth peer name eth0 netns {pid}",
        f"link set {wanted.port} master {wanted.network.bridge} up",
    )
    holder.stdin.write("\n".join(interface_lines(wanted)) + "\n")
    holder.stdin.close()
    if (said := holder.stdout.readline()) != "up\n":
        raise LabError(f"host {wanted.name}: its addresses failed: {said}{holder.stdout.read().rstrip()}")
    return pid


def interface_lines(wanted: Wanted) -> list[str]:
    """The `ip -batch` lines that give the host its addresses and its default routes."""
    lines = ["link set lo up", "link set eth0 up"]
    network = wanted.network
    if wanted.v4:
        lines += [
            f"addr add {network.host_v4(wanted.number)}/24 dev eth0",
            f"route add default via {network.router_v4}",
        ]
    if wanted.v6:
        lines += [
            f"addr add {network.host_v6(wanted.number)}/64 dev eth0 nodad",
            f"route add ::/0 via {network.router_v6}",
        ]
    return lines


def hosts_file(wanted: Wanted) -> str:
    """The host's /etc/hosts as a fresh VM has it: loopback and itself."""
    own = "".join(f"{address} {wanted.name}\n" for address in wanted.addresses)
    return f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{own}".replace("\n", "\\n")


def resolv_conf(wanted: Wanted) -> str:
    """The host's /etc/resolv.conf: the lab's own name server."""
    router = wanted.network.router_v4 if wanted.v4 else wanted.network.router_v6
    return f"search lab\\nnameserver {router}\\n"


def _batch(*lines: str) -> None:
    _run(["ip", "-batch", "-"], what="; ".join(lines), text="\n".join(lines) + "\n")


def _run(argv: list[str], *, what: str, text: str = "") -> None:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{what}: {done.stderr.strip() or f'exit code {done.returncode}'}")
