from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from isthmus.api.codec import decode
from isthmus.api.meta import Object
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.identity.ca import MAX_COMMON_NAME
from isthmus.identity.enrol import certificate_ttl, routable
from isthmus.identity.refusal import Refused
from isthmus.identity.workload import entry_from_group, workload_name


def group(name: str = "wg-a", annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    obj, problems = decode(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadGroup",
            "metadata": {
                "name": name,
                "namespace": "a",
                "labels": {"grouplabel": "notonentry"},
                "annotations": annotations or {},
            },
            "spec": {"template": {}, **spec},
        }
    )
    assert obj is not None, problems
    return obj


def test_an_entry_is_made_by_istios_rules() -> None:
    made = entry_from_group(
        group(
            metadata={"labels": {"foo": "bar"}, "annotations": {"foo": "bar"}},
            template={
                "ports": {"http": 80},
                "labels": {"app": "a"},
                "weight": 1,
                "network": "nw0",
                "locality": "rgn1/zone1/subzone1",
                "serviceAccount": "sa-a",
            },
        ),
        ip_address("10.0.0.1"),
    )
    assert str(made.key) == "WorkloadEntry/a/wg-a-10.0.0.1"
    assert made.meta.labels == {"app": "a", "foo": "bar"}
    assert made.meta.annotations == {"istio.io/autoRegistrationGroup": "wg-a", "foo": "bar"}
    (owner,) = made.meta.owner_references
    assert (owner["kind"], owner["name"], owner["controller"]) == ("WorkloadGroup", "wg-a", True)
    assert made.spec == WorkloadEntrySpec(
        address="10.0.0.1",
        ports={"http": 80},
        labels={"app": "a", "foo": "bar"},
        network="nw0",
        locality="rgn1/zone1/subzone1",
        weight=1,
        service_account="sa-a",
    )


def test_a_group_without_an_account_gets_the_default_one() -> None:
    spec = entry_from_group(group(), ip_address("10.0.0.1")).spec
    assert isinstance(spec, WorkloadEntrySpec)
    assert spec.service_account == "default"


def test_a_group_cannot_pass_its_entries_off_as_anothers() -> None:
    made = entry_from_group(
        group(metadata={"annotations": {"istio.io/autoRegistrationGroup": "other"}}), ip_address("10.0.0.1")
    )
    assert made.meta.annotations == {"istio.io/autoRegistrationGroup": "wg-a"}


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        ("mysql", "10.0.0.1", "mysql-10.0.0.1"),
        ("mysql", "fd00::1", "mysql-fd00--1"),
        ("mysql", "fd00::", "mysql-fd00--0"),
    ],
)
def test_workloads_are_named_by_group_and_address(name: str, address: str, expected: str) -> None:
    assert workload_name(name, ip_address(address)) == expected


def test_a_long_name_is_cut_on_the_left_to_what_a_certificate_takes() -> None:
    name = workload_name("x" * 100 + "-mysql", ip_address("fd00:1111:2222:3333:4444:5555:6666:7777"))
    assert len(name) <= MAX_COMMON_NAME
    assert name.endswith("-mysql-fd00-1111-2222-3333-4444-5555-6666-7777")
    cut = workload_name("a." + "-" * 5 + "b" * 53, ip_address("10.0.0.1"))
    assert cut == "b" * 53 + "-10.0.0.1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", timedelta(hours=24)),
        ("60s", timedelta(seconds=60)),
        ("1h30m", timedelta(minutes=90)),
        ("1ms", timedelta(seconds=10)),
        ("-1h", timedelta(seconds=10)),
        ("99999h", timedelta(days=90)),
        ("soon", timedelta(hours=24)),
    ],
)
def test_the_groups_annotation_sets_the_certificates_life(text: str, expected: timedelta) -> None:
    assert certificate_ttl(group(annotations={"isthmus.dev/certificate-ttl": text})) == expected
    assert certificate_ttl(None) == timedelta(hours=24)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "127.8.8.8",
        "::1",
        "::ffff:127.0.0.1",
        "224.0.0.1",
        "ff02::1",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1%eth0",
        "255.255.255.255",
        "240.240.0.7",
        "2001:2::7",
        "",
        "vm-1",
        "10.0.0.1/24",
        "010.0.0.1",
        "10.0.0.5\n",
    ],
)
def test_addresses_that_no_vm_can_have(text: str) -> None:
    with pytest.raises(Refused) as refused:
        routable(text)
    assert refused.value.status == 422
    assert "--address" in refused.value.hint


def test_an_address_is_spelled_the_one_way() -> None:
    assert str(routable("FD00:0:0::0001")) == "fd00::1"
    assert str(routable("::ffff:10.0.0.5")) == "10.0.0.5"
