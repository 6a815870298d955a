"""The `isthmus` command. Subcommands are imported when they are used, so that each starts fast."""

from importlib import import_module

import click

from isthmus import __version__

COMMANDS = {
    "serve": "isthmus.cli.serve:serve",
    "token": "isthmus.cli.token:token",
    "apply": "isthmus.cli.objects:apply",
    "get": "isthmus.cli.get:get",
    "delete": "isthmus.cli.objects:delete",
    "edit": "isthmus.cli.edit:edit",
    "diff": "isthmus.cli.diff:diff",
    "explain": "isthmus.cli.explain:explain",
    "validate": "isthmus.cli.validate:validate",
    "user": "isthmus.cli.users:user",
    "backup": "isthmus.cli.backups:backup",
    "restore": "isthmus.cli.backups:restore",
    "render": "isthmus.cli.render:render",
    "join": "isthmus.cli.vm:join",
    "gateway": "isthmus.cli.gateway:gateway",
    "leave": "isthmus.cli.vm:leave",
    "agent": "isthmus.cli.vm:agent",
    "lab": "isthmus.cli.lab:lab",
    "demo": "isthmus.cli.demo:demo",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="isthmus")
def main() -> None:
    """Virtual machines in the service mesh, with one command."""
