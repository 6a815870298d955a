"""The proof of the way in, as far as the agent decides about it."""

from collections.abc import Sequence

import pytest

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus.agent import door, proof
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.story import StepFailed

VM = Membership("shop", "vm", "spiffe://cluster.local/ns/shop/sa/vm", "10.0.0.7", ("10.0.0.1:15012",), "t")
CREDENTIALS = Credentials(b"", b"", b"")


class ControlPlane:
    """Answers to a call; `plaintext` ports cannot be proven, `deaf` ones are never reached."""

    def __init__(self, plaintext: set[int], deaf: set[int]) -> None:
        self.plaintext, self.deaf = plaintext, deaf
        self.asked: list[int] = []

    async def prove(
        self, _: Sequence[str], __: Credentials, ports: Sequence[int], ___: float
    ) -> agent_v1.ProveResponse:
        """What the control plane would say."""
        self.asked.append(len(ports))
        return agent_v1.ProveResponse(
            ports=[
                agent_v1.PortProof(
                    port=port,
                    ok=port not in self.plaintext | self.deaf,
                    plaintext=port in self.plaintext,
                    detail="no answer" if port in self.deaf else "",
                )
                for port in ports
            ]
        )


def _answering(patch: pytest.MonkeyPatch, *, plaintext: set[int], deaf: set[int]) -> ControlPlane:
    made = ControlPlane(plaintext, deaf)
    patch.setattr(door, "prove", made.prove)
    return made


async def test_ports_that_take_plaintext_only_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, plaintext={7001, 7000}, deaf=set())
    told = await proof.inbound(VM, CREDENTIALS, (80, 3306, 7000, 7001), 1)
    assert told == "80, 3306 answered to the control plane at 10.0.0.7; 7000, 7001 plaintext only, not proven"
    assert await proof.inbound(VM, CREDENTIALS, (7000,), 1) == "7000 plaintext only, not proven"


async def test_a_port_that_should_answer_and_does_not_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, plaintext={7000}, deaf={80})
    with pytest.raises(StepFailed, match=r"did not get in at 10.0.0.7 \(80: no answer\)"):
        await proof.inbound(VM, CREDENTIALS, (80, 7000), 0.3)


async def test_many_ports_are_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    here = _answering(monkeypatch, plaintext=set(), deaf=set())
    await proof.inbound(VM, CREDENTIALS, tuple(range(1, 131)), 5)
    assert here.asked == [64, 64, 2]
