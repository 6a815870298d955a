"""The saved membership -> a running agent: after a reboot, after a crash, at first under systemd."""

import asyncio
import logging
import sys

from isthmus.agent import journal, run, story, systemd
from isthmus.agent.journal import Journal
from isthmus.agent.paths import Paths
from isthmus.agent.story import Say, StepFailed

_LOG = logging.getLogger("isthmus.agent")


def agent(paths: Paths) -> int:
    """Runs the agent until it is told to stop; the exit code."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    try:
        record = Journal.load(paths)
    except (journal.Busy, journal.JournalDamaged) as error:
        _LOG.error("agent not started reason=%s", error)
        return 1
    if record is None:
        _LOG.error("agent not started reason=this VM has not joined a mesh: isthmus join TOKEN")
        return systemd.JOIN_FAILED
    joining = not record.joined
    say = _both(story.recorder(paths.story)) if joining else _log
    try:
        asyncio.run(run.run(paths, record, say))
    except StepFailed as error:
        _LOG.error("%s failed reason=%s try=%s", error.step, error.why, error.hint)
        if joining and not record.joined:
            say(*story.failure_line(error))
            return systemd.JOIN_FAILED
        return 1
    finally:
        record.close()
    return 0


def _log(step: str, text: str) -> None:
    _LOG.info("%s %s", step, text)


def _both(record: Say) -> Say:
    def say(step: str, text: str) -> None:
        _log(step, text)
        record(step, text)

    return say
