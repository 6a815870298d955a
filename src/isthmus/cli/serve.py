"""`isthmus serve`: the control plane in the foreground, everything embedded."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Database, keys and admin.kubeconfig; made 0700 when missing.",
)
@click.option(
    "--advertise",
    multiple=True,
    metavar="ADDRESS",
    help="IP address or name by which VMs reach this machine; repeat for several. "
    "Default: the addresses of the default routes.",
)
@click.option(
    "--bind", default="::", show_default=True, help="Address to listen on; :: is all, both families."
)
@click.option(
    "--api-port", default=8443, show_default=True, help="HTTPS: API and enrolment; 0 = any free port."
)
@click.option(
    "--ads-port", default=15012, show_default=True, help="mTLS: configuration and renewal; 0 = any free port."
)
@click.option(
    "--probe-port",
    default=15014,
    show_default=True,
    help="mTLS: what a joining VM calls through its sidecar; 0 = any free port.",
)
@click.option("--trust-domain", default="cluster.local", show_default=True)
def serve(
    state_dir: Path,
    advertise: tuple[str, ...],
    bind: str,
    api_port: int,
    ads_port: int,
    probe_port: int,
    trust_domain: str,
) -> None:
    """Run the control plane until Ctrl-C. Prints one line when it is ready.

    To sign with your own intermediate, put ca-key.pem, ca-cert.pem, cert-chain.pem and root-cert.pem
    into STATE_DIR/ca before the first start.
    """
    from isthmus.server.app import Options, Refusal, run

    options = Options(
        state_dir=state_dir,
        advertise=advertise,
        bind=bind,
        api_port=api_port,
        ads_port=ads_port,
        probe_port=probe_port,
        trust_domain=trust_domain,
    )
    try:
        run(options)
    except Refusal as refusal:
        raise click.ClickException(str(refusal)) from refusal
