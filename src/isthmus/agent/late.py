"""A certificate that has ended -> the next one, from the server whose key the join token pinned.

The mTLS door takes no certificate that has ended; the HTTPS door that enrolled this VM takes a proof that its
key is still held (identity/late.py), for some days.
"""

from isthmus.agent import enrol, keywork
from isthmus.agent.door import DoorClosed
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.story import StepFailed

NONCE_PATH, RENEW_PATH = "/isthmus.dev/v1/nonce", "/isthmus.dev/v1/renew"
AGAIN = "join again: isthmus leave, then isthmus join with a new token"


def renewed_late(membership: Membership, credentials: Credentials) -> Credentials:
    """New credentials, not yet checked; DoorClosed when the server was not reached or said no."""
    if not membership.pin:
        raise DoorClosed(
            f"the certificate has ended, and this VM joined before the server's key was kept; {AGAIN}",
            refused=True,
        )
    try:
        pin = bytes.fromhex(membership.pin)
        asked = enrol.exchange(enrol.knock(membership.api, pin), NONCE_PATH, None)
        nonce = bytes.fromhex(str(asked["nonce"]))
        proven = keywork.prove(credentials.key, nonce)
        request = {
            "chain": credentials.chain.decode(),
            "csr": proven.csr,
            "nonce": nonce.hex(),
            "signature": proven.signature,
        }
        answer = enrol.exchange(enrol.knock(membership.api, pin), RENEW_PATH, request)
        return Credentials(proven.key, str(answer["chain"]).encode(), str(answer["roots"]).encode())
    except StepFailed as error:
        refused = error.step == "enrol"
        raise DoorClosed(
            f"{error.why} ({error.hint})" if error.hint else error.why, refused=refused
        ) from None
    except enrol.NoAnswer as error:
        raise DoorClosed(str(error)) from None
    except KeyError as error:
        raise DoorClosed(f"the control plane's answer lacks {error}: is it of another version?") from None
