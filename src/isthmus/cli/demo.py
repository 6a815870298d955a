"""`isthmus demo`: the whole product at work on one machine."""

import signal
import sys
import threading
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from isthmus.lab.lab import Lab


@click.group()
def demo() -> None:
    """The whole product at work on this one machine, on real parts."""


@demo.command()
@click.option("--check", is_flag=True, help="Unattended: assert everything, tear down, exit 0 or 1.")
@click.option("--only", multiple=True, metavar="LETTER", help="With --check: only these assertions.")
@click.option("--keep", is_flag=True, help="After a failure keep the lab until Ctrl-C, for a look around.")
@click.option("--port", default=9080, show_default=True, help="The page's port on 127.0.0.1, if it is free.")
@click.option("--name", default="bookinfo", show_default=True, help="The lab's name.")
def bookinfo(check: bool, only: tuple[str, ...], keep: bool, port: int, name: str) -> None:
    """Bookinfo in the mesh, with its ratings in MySQL on a VM that joined with one command."""
    from isthmus.lab.lab import Lab, LabError

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Lab.start(name) as lab:
            passed = _play(lab, check=check, only=frozenset(only), port=0 if check else port)
            if passed and check:
                return
            if passed or keep:
                _line(f"\nIt stays up until Ctrl-C. A shell on a host: isthmus lab shell --name {name} vm")
                threading.Event().wait()
    except LabError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        _line("\nThe lab is gone; this machine is as it was.")
        return
    sys.exit(1)


def _play(lab: "Lab", *, check: bool, only: frozenset[str], port: int) -> bool:
    """Tell the story and, when asked, check it; says what went wrong."""
    from isthmus.demo import story
    from isthmus.demo.check import check as run_checks
    from isthmus.demo.narration import Narration
    from isthmus.lab.lab import LabError

    narration = Narration(_line)
    try:
        stage = story.tell(lab, narration, page_port=port)
        return run_checks(stage, narration, only=only) if check else True
    except LabError as error:
        click.echo(f"\nfailed: {error}", err=True)
        return False


def _line(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()
