"""What needs cryptography, done by a process of its own, for a moment: one order in, one answer out, as JSON.

{"work": "request", "key": PEM or ""}                     ─▶ {"key", "csr"}
{"work": "prove", "key": PEM, "nonce": hex}               ─▶ {"key", "csr", "signature"}
{"work": "check", "key", "chain", "roots", "spiffe_id"}   ─▶ {}
whatever cannot be done                                   ─▶ {"error": why}
"""

import json
import sys
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from isthmus.identity import keys
from isthmus.identity.possession import challenge, signed

Order = Mapping[str, str]
Answer = dict[str, str]


def request(order: Order) -> Answer:
    """A signing request for the key, or for a new one."""
    key = _key(order) if order["key"] else keys.new_key()
    return {"key": keys.key_pem(key).decode(), "csr": keys.request_pem(key)}


def prove(order: Order) -> Answer:
    """A new key and its request, with the old key's signature on it."""
    new = keys.new_key()
    proof = signed(_key(order), challenge(bytes.fromhex(order["nonce"]), new.public_key()))
    return {"key": keys.key_pem(new).decode(), "csr": keys.request_pem(new), "signature": proof.hex()}


def check(order: Order) -> Answer:
    """ValueError unless the certificate is for this identity and this key, and the roots can be read."""
    leaf = keys.certificates(order["chain"])[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ids = names.get_values_for_type(x509.UniformResourceIdentifier)
    if ids != [order["spiffe_id"]]:
        raise ValueError(f"the certificate is for {ids}, expected {order['spiffe_id']}")
    if leaf.public_key() != _key(order).public_key():
        raise ValueError("the certificate is for another key than ours")
    keys.certificates(order["roots"])
    return {}


WORKS = {work.__name__: work for work in (request, prove, check)}


def _key(order: Order) -> keys.PrivateKey:
    key = load_pem_private_key(order["key"].encode(), password=None)
    if not isinstance(key, keys.PrivateKey):
        raise ValueError(f"the key is a {type(key).__name__}, expected an EC or RSA key")
    return key


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    try:
        answer = WORKS[asked["work"]](asked)
    except (ValueError, x509.ExtensionNotFound) as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)
