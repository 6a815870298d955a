"""TLS of the API's door: users may show a certificate, and requests then know which.

uvicorn keeps the certificate of a connection to itself; its protocol is asked for it once per connection.
"""

import ssl
from typing import Any, cast

from uvicorn import Config

from isthmus.server.connections import PunctualProtocol
from isthmus.server.users import Users

KEEP_ALIVE_S = 75
"""How long an idle connection stays: kubectl and controllers come back on theirs."""


class _WithCertificate(PunctualProtocol):
    """Puts the client's certificate (DER) into the state of every request of its connection."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self.app_state = {**self.app_state, "client_certificate": certificate}


def for_people(config: Config, context: ssl.SSLContext, users: Users) -> None:
    """Serves with this TLS context, and asks clients for a certificate that users have; none is needed."""
    context.load_verify_locations(cadata=users.authority())
    context.verify_mode = ssl.CERT_OPTIONAL
    config.ssl = context
    config.http_protocol_class = cast(Any, _WithCertificate)
    config.timeout_keep_alive = KEEP_ALIVE_S
