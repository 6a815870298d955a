"""`isthmus join`, `leave` and `agent`: what a person types on a VM."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from isthmus.agent.paths import Paths
from isthmus.agent.story import Story

if TYPE_CHECKING:
    from isthmus.agent.join import Wish


@click.command()
@click.argument("token")
@click.option("--address", metavar="IP", help="The address under which other hosts reach this VM.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground even where systemd runs.")
def join(token: str, address: str | None, foreground: bool) -> None:
    """Bring this VM into the mesh with TOKEN (`-`: read it from standard input, `@FILE`: from a file).

    Everything is proven before it says so, and taken back if anything fails.
    """
    from isthmus.agent.join import Wish

    bring_in(token, Wish(address, foreground))


def bring_in(token: str, wish: "Wish") -> None:
    """Joins with a token as given on the command line, and tells how it went."""
    from isthmus.agent.join import RolledBack
    from isthmus.agent.join import join as join_mesh

    # SIGTERM and a closed terminal roll back as Ctrl-C does; once the agent runs it has its own handlers
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    text = _token(token)
    try:
        join_mesh(text, paths=Paths(), say=Story(_line), wish=wish)
    except RolledBack as failed:
        cause = failed.cause
        click.echo(f"failed       at {cause.step}: {cause.why}", err=True)
        done = ", ".join(failed.taken_back)
        click.echo(f"rolled back  {done or 'nothing had been changed'}", err=True)
        click.echo(f"try          {cause.hint}", err=True)
        sys.exit(1)


@click.command()
def leave() -> None:
    """Take this VM out of the mesh and put back everything that join changed."""
    from isthmus.agent.leave import leave as leave_mesh
    from isthmus.agent.story import StepFailed

    try:
        leave_mesh(Paths(), Story(_line))
    except StepFailed as failed:
        click.echo(f"failed       at {failed.step}: {failed.why}", err=True)
        click.echo(f"try          {failed.hint}", err=True)
        sys.exit(1)


@click.command()
def agent() -> None:
    """Run the agent of a VM that has joined (systemd does this where it runs)."""
    from isthmus.agent.service import agent as run_agent

    sys.exit(run_agent(Paths()))


def _token(given: str) -> str:
    if given == "-":
        return sys.stdin.read()
    if given.startswith("@"):
        try:
            return Path(given[1:]).read_text("utf-8")
        except OSError as error:
            raise click.ClickException(f"cannot read the token: {error}") from None
    return given


def _line(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
