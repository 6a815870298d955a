"""A stage after the story becomes a verdict: eleven assertions, a) to k), each with what was seen."""

import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isthmus.demo import check_faults, check_mesh
from isthmus.demo.narration import Narration
from isthmus.demo.stage import Stage
from isthmus.lab.records import LabError

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Assertion:
    """One thing that must be true: what it says, and what finds out."""

    title: str
    holds: Callable[[Stage, Say], None]


# In the order in which they run: leaving the mesh and the machine's own state come last.
ASSERTIONS: Mapping[str, Assertion] = {
    "a": Assertion("the page shows the stars that are in MySQL", check_mesh.stars_follow_mysql),
    "b": Assertion("the VM calls the mesh by name", check_mesh.vm_calls_by_name),
    "c": Assertion("nothing readable on the wire, nothing for strangers", check_mesh.wire_is_unreadable),
    "d": Assertion("rules on calls to and from the VM take effect", check_mesh.rules_both_ways),
    "e": Assertion("weights 80/20 over 500 requests", check_mesh.weights),
    "f": Assertion("a minute without the control plane", check_faults.control_plane_killed),
    "h": Assertion("certificates rotate under load", check_faults.certificates_rotate),
    "g": Assertion("the agent is killed and comes back", check_faults.agent_killed),
    "k": Assertion("IPv6 only", check_mesh.ipv6_only),
    "i": Assertion("the VM leaves and is as it was", check_faults.vm_leaves),
    "j": Assertion("this machine is as it was", check_faults.machine_untouched),
}


def check(stage: Stage, narration: Narration, *, only: frozenset[str] = frozenset()) -> bool:
    """Run the assertions (all, or those with the letters given) and tell each verdict; True when all hold."""
    wanted = [letter for letter in ASSERTIONS if not only or letter in only]
    failed = [letter for letter in wanted if not _holds(letter, stage, narration)]
    narration.line("")
    if failed:
        narration.line(f"{len(failed)} of {len(wanted)} assertions do not hold: {', '.join(sorted(failed))}")
    else:
        narration.line(f"all {len(wanted)} assertions hold")
    return not failed


def _holds(letter: str, stage: Stage, narration: Narration) -> bool:
    assertion = ASSERTIONS[letter]
    narration.line("")
    narration.line(f"{letter}) {assertion.title}")
    try:
        assertion.holds(stage, lambda text: narration.line(f"   {text}"))
    except (LabError, OSError, ValueError, http.client.HTTPException) as error:
        narration.line(f"   NOT OK: {error}")
        return False
    narration.line("   ok")
    return True
