"""The operator's own firewall on the VM: an nftables table that has nothing to do with the mesh's."""

from isthmus.lab.host import Host

# The sidecar's redirect happens in prerouting, so when a packet for 3306 reaches the input hook its port is
# already 15006. `ct original` is what the client asked for: without it the rule would open 15006 itself, and
# a rule for `tcp dport 3306` would never match.
RULES = """
table inet firewall {
  chain input {
    type filter hook input priority filter; policy drop;
    iif "lo" accept
    ct state established,related accept
    meta l4proto { icmp, ipv6-icmp } accept
    tcp dport 15006 ct original proto-dst 3306 accept
  }
}
"""


def install(host: Host) -> None:
    """Close the host but for the mesh's way to 3306."""
    host.run(["nft", "-f", "-"], text=RULES)


def remove(host: Host) -> None:
    """Take the operator's table away again."""
    host.run(["nft", "delete", "table", "inet", "firewall"])
