"""`isthmus lab`: hosts out of network namespaces, for trying things out without any VM."""

import os
import signal
import sys
import threading

import click

NAMED = click.option("--name", "name", default=None, help="Which lab; needed when several run.")


@click.group()
def lab() -> None:
    """Hosts that behave like VMs, made of network namespaces; this machine's own network is not touched."""


@lab.command()
@click.option("--name", default="lab", show_default=True)
@click.option(
    "--hosts",
    default="vm1,vm2",
    show_default=True,
    help="Names, separated by commas; NAME:v4 and NAME:v6 make a host with only that family.",
)
@click.option("--control-plane/--no-control-plane", default=True, help="Start it on the host `control`.")
@click.option("--detach", is_flag=True, help="Return when the lab stands, and leave it running.")
def up(name: str, hosts: str, control_plane: bool, detach: bool) -> None:
    """Start a lab and keep it until Ctrl-C."""
    from isthmus.lab import control
    from isthmus.lab.lab import Lab, LabError

    if detach:
        _detach()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stopped.set())
    try:
        with Lab.start(name) as running:
            if control_plane:
                plane = control.start(running)
                click.echo(f"{plane.host.name:<14}{' '.join(plane.host.record.addresses):<28}control plane")
            for wish in filter(None, hosts.split(",")):
                host_name, _, family = wish.partition(":")
                if family not in ("", "v4", "v6"):
                    raise LabError(f"host {wish!r}: after the colon comes v4 or v6, or leave it out for both")
                host = running.host(host_name, v4=family != "v6", v6=family != "v4")
                click.echo(f"{host.name:<14}{' '.join(host.record.addresses)}")
            click.echo(f"a shell on a host: isthmus lab shell --name {name} HOST")
            if control_plane:
                click.echo(
                    f"the mesh: isthmus lab exec --name {name} control -- isthmus get workloadentries -A"
                )
            click.echo(f"lab {name} is up" + ("" if detach else "; Ctrl-C ends it"))
            sys.stdout.flush()
            if detach:
                _close_output()
            stopped.wait()
    except LabError as error:
        raise click.ClickException(str(error)) from error


@lab.command("list")
def list_labs() -> None:
    """The labs of this user that stand now, and their hosts."""
    from isthmus.lab import records

    for record in records.running():
        click.echo(f"{record.name}  (leader {record.leader.pid}{', rootless' if record.rootless else ''})")
        for host in record.hosts.values():
            click.echo(f"  {host.name:<14}{' '.join(host.addresses)}")


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@NAMED
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, host: str, command: tuple[str, ...]) -> None:
    """Run a command on a host; its exit code is this command's."""
    _become(name, host, command)


@lab.command()
@NAMED
@click.argument("host")
def shell(name: str | None, host: str) -> None:
    """Open a shell on a host."""
    prompt = f"PS1=root@{host}:\\w# "
    _become(name, host, ("env", prompt, "bash", "--norc", "-i"))


@lab.command()
@NAMED
def down(name: str | None) -> None:
    """End a lab: every process and every namespace of it."""
    from isthmus.lab.lab import LabError
    from isthmus.lab.lab import down as end

    try:
        record = end(name)
    except LabError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"lab {record.name} is gone")


def _become(name: str | None, host: str, command: tuple[str, ...]) -> None:
    from isthmus.lab.lab import LabError, attach

    try:
        target = attach(name, host)
    except LabError as error:
        raise click.ClickException(str(error)) from error
    argv = target.argv(command)
    sys.stdout.flush()
    os.execvpe(argv[0], argv, target.clean_environment())


def _detach() -> None:
    """Go on in a child of its own session; the parent waits for the child's word that the lab stands."""
    ready, word = os.pipe()
    if child := os.fork():
        os.close(word)
        with os.fdopen(ready) as lines:
            for line in lines:
                click.echo(line, nl=False)
                if " is up" in line:
                    sys.exit(0)
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status) or 1)
    os.close(ready)
    os.setsid()
    os.dup2(word, 1)
    os.close(word)


def _close_output() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
