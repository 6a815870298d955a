"""What all commands that talk to the API share: `--kubeconfig`, and how refusals end them."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from isthmus.cli.client import Client

F = TypeVar("F", bound=Callable[..., Any])

kubeconfig_option = click.option(
    "--kubeconfig",
    metavar="FILE",
    help="How to reach the control plane. Default: $ISTHMUS_KUBECONFIG, then ./admin.kubeconfig.",
)


def connect(kubeconfig: str | None) -> "Client":
    """The client for `--kubeconfig`."""
    from isthmus.cli.client import Client, kubeconfig_path

    return Client.from_kubeconfig(kubeconfig_path(kubeconfig))


def told(command: F) -> F:
    """A command that ends with one sentence, and status 1, when the API says no."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        from isthmus.cli.client import ClientError

        try:
            return command(*args, **kwargs)
        except ClientError as error:
            raise click.ClickException(str(error)) from error

    return guarded  # type: ignore[return-value]
