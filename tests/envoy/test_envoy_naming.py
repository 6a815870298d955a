"""Names of Envoy resources, and back."""

from isthmus.envoy import naming


def test_cluster_names_read_back() -> None:
    name = naming.outbound("reviews.shop.svc.cluster.local", 9080, "v2")
    assert name == "outbound|9080|v2|reviews.shop.svc.cluster.local"
    assert naming.parse_cluster(name) == naming.ClusterName(
        "outbound", 9080, "v2", "reviews.shop.svc.cluster.local"
    )
    assert naming.parse_cluster(naming.inbound(80)) == naming.ClusterName("inbound", 80, "", "")
    assert naming.parse_cluster("PassthroughCluster") is None
    assert naming.parse_cluster("outbound|x||y") is None


def test_server_names() -> None:
    assert naming.sni("a.b", 80) == "outbound_.80_._.a.b"
    assert naming.sni("a.b", 80, "v1") == "outbound_.80_.v1_.a.b"
