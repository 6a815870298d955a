"""`isthmus serve`: the control plane in the foreground, everything embedded."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Database, keys, admin.kubeconfig; made 0700 when missing.",
)
@click.option(
    "--advertise",
    multiple=True,
    metavar="ADDRESS",
    help="IP address or name by which VMs reach this machine; repeat for several. Default: the address of the default route.",
)
@click.option(
    "--api-port", default=8443, show_default=True, help="HTTPS: the API and enrolment; 0 = any free port."
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
@click.option("--bind", default="::", show_default=True, help="Address to listen on.")
@click.option("--trust-domain", default="cluster.local", show_default=True)
@click.option("--certificate-ttl", default="24h", show_default=True, help="Life of workload certificates.")
@click.option(
    "--ca-cert",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Intermediate certificate to sign with, instead of an own root.",
)
@click.option(
    "--ca-key", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Key of --ca-cert."
)
@click.option(
    "--ca-chain",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Certificates between --ca-cert and the root, leaf side first.",
)
@click.option(
    "--ca-root",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Root certificate(s) that --ca-cert leads to.",
)
def serve(
    state_dir: Path,
    advertise: tuple[str, ...],
    api_port: int,
    ads_port: int,
    probe_port: int,
    bind: str,
    trust_domain: str,
    certificate_ttl: str,
    ca_cert: Path | None,
    ca_key: Path | None,
    ca_chain: Path | None,
    ca_root: Path | None,
) -> None:
    """Run the control plane until Ctrl-C. Prints one line when it is ready."""
    from isthmus.api.duration import parse_duration
    from isthmus.server.app import Options, OwnAuthority, Refusal, run

    given = (ca_cert, ca_key, ca_root)
    if any(given) and not all(given):
        raise click.UsageError("--ca-cert, --ca-key and --ca-root go together: give all three, or none")
    try:
        ttl_s = parse_duration(certificate_ttl)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--certificate-ttl") from error
    try:
        run(
            Options(
                state_dir=state_dir,
                advertise=advertise,
                api_port=api_port,
                ads_port=ads_port,
                probe_port=probe_port,
                bind=bind,
                trust_domain=trust_domain,
                certificate_ttl_s=ttl_s,
                authority=OwnAuthority(ca_cert, ca_key, ca_chain, ca_root)
                if ca_cert and ca_key and ca_root
                else None,
            )
        )
    except Refusal as refusal:
        raise click.ClickException(str(refusal)) from refusal
