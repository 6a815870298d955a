"""A certificate authority -> the SDS secrets of one VM, and files for clients that are not Envoy."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_secret_v3
from real_envoy import CONTROL_PLANE

from isthmus.identity.ca import Authority
from isthmus.identity.keys import key_pem, new_key
from isthmus.identity.spiffe import SpiffeId


def secrets(directory: Path) -> dict[str, bytes]:
    """The secrets of a VM's Envoy; vm.pem, control.pem and roots.pem are left in the directory."""
    authority = Authority.open(directory / "ca", "cluster.local", lambda: datetime.now(UTC))
    for name, identity in (
        ("vm", SpiffeId("cluster.local", "bookinfo", "vm")),
        ("control", CONTROL_PLANE),
    ):
        key = new_key()
        issued = authority.sign(key.public_key(), identity, common_name=name, ttl=timedelta(hours=1))
        (directory / f"{name}.pem").write_text(key_pem(key).decode() + issued.chain)
    (directory / "roots.pem").write_text(authority.roots)
    own = (directory / "vm.pem").read_bytes()
    secret = tls_secret_v3.Secret
    return {
        "default": secret(
            name="default",
            tls_certificate={
                "certificate_chain": {"inline_bytes": own},
                "private_key": {"inline_bytes": own},
            },
        ).SerializeToString(),
        "ROOTCA": secret(
            name="ROOTCA", validation_context={"trusted_ca": {"inline_string": authority.roots}}
        ).SerializeToString(),
    }
