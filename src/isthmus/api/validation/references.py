"""References to Gateways -> their problems."""

from collections.abc import Iterator, Sequence

from isthmus.api.meta import Problem
from isthmus.api.rules import warning, wrong
from isthmus.api.syntax import fqdn, istio_label


def gateway_names(at: str, gateways: Sequence[str]) -> Iterator[Problem]:
    """References to Gateways: `name`, `namespace/name` or `mesh`."""
    for index, gateway in enumerate(gateways):
        namespace, slash, name = gateway.partition("/")
        field = f"{at}[{index}]"
        if not slash:
            if "." in gateway:
                older, home, *_ = gateway.split(".")
                text = f'using legacy gatewayName format "{gateway}"; prefer the <namespace>/<name> format'
                yield warning(field, text, f"{home}/{older}")
            yield from wrong(field, gateway, fqdn(gateway))
            continue
        if not namespace or not name:
            yield from wrong(field, gateway, "config namespace and gateway name cannot be empty")
            continue
        if istio_label(namespace):
            yield from wrong(field, gateway, f'invalid value for namespace: "{namespace}"')
        if istio_label(name):
            yield from wrong(field, gateway, f'invalid value for gateway name: "{name}"')
