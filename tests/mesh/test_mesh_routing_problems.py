"""What the author of a VirtualService is told about it among all other objects."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh.routing_problems import problems_of
from makers import World, service


def _virtual_service(name: str, spec: str, *, created: str = "") -> str:
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}, namespace: bookinfo{stamp}}}\nspec: {spec}\n"
    )


def _texts(world: World, name: str = "r") -> list[str]:
    return [str(problem) for problem in world.engine(problems_of, Key("VirtualService", "bookinfo", name))]


SERVICES = service("reviews") + service("web", 80)


@pytest.mark.parametrize(
    ("rules", "field", "words"),
    [
        ("http: [{route: [{destination: {host: gone}}]}]", "http[0].route[0].destination.host", "503"),
        (
            "http: [{route: [{destination: {host: reviews}}], mirror: {host: gone}}]",
            "http[0].mirror.host",
            "no service",
        ),
        (
            "http: [{route: [{destination: {host: reviews}}],"
            " mirrors: [{destination: {host: reviews, subset: x}}]}]",
            "http[0].mirrors[0].destination.subset",
            "no DestinationRule defines subset x",
        ),
        (
            "tcp: [{route: [{destination: {host: web, port: {number: 7}}}]}]",
            "tcp[0].route[0].destination.port.number",
            "has no port 7 (it has 80)",
        ),
        (
            "tls: [{match: [{sniHosts: [reviews]}], route: [{destination: {host: gone}}]}]",
            "tls[0].route[0].destination.host",
            "no service",
        ),
        # what goes to the port that it came to
        (
            "http: [{route: [{destination: {host: web}}]}]",
            "http[0].route[0].destination.port",
            "reviews.bookinfo.svc.cluster.local:9080 go to port 9080, which web.bookinfo",
        ),
    ],
)
def test_destinations(rules: str, field: str, words: str) -> None:
    world = World().apply(SERVICES, _virtual_service("r", f"{{hosts: [reviews], {rules}}}"))
    (text,) = _texts(world)
    assert text.startswith(f"spec.{field}: ")
    assert words in text


def test_a_gateway_knows_the_only_port() -> None:
    spec = "{hosts: [a.com], gateways: [door], http: [{route: [{destination: {host: web}}]}]}"
    assert _texts(World().apply(SERVICES, _virtual_service("r", spec))) == []


def test_hosts_that_only_port_80_knows_and_hosts_that_an_older_object_routes() -> None:
    to = "http: [{route: [{destination: {host: reviews}}]}]"
    world = World().apply(
        SERVICES,
        _virtual_service("r", f"{{hosts: [a.example.com], {to}}}"),
        _virtual_service("w", f"{{hosts: ['*.cluster.local'], {to}}}"),
        _virtual_service("old", f"{{hosts: [reviews], {to}}}", created="2001"),
        _virtual_service("new", f"{{hosts: [reviews.bookinfo.svc.cluster.local], {to}}}", created="2002"),
    )
    assert "only requests to port 80 are routed" in _texts(world)[0]
    assert _texts(world, "w") == []
    assert _texts(world, "old") == []
    assert "VirtualService/bookinfo/old already routes" in _texts(world, "new")[0]
