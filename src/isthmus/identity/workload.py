"""A WorkloadGroup and an address -> the WorkloadEntry of a VM, by Istio's rules of auto-registration."""

from isthmus.api.meta import Key, Object, ObjectMeta
from isthmus.api.networking.workload_group import GROUP_ANNOTATION, PROBED_ANNOTATION, WorkloadGroupSpec
from isthmus.identity.ca import MAX_COMMON_NAME, Address

DEFAULT_SERVICE_ACCOUNT = "default"


def entry_from_group(group: Object, address: Address) -> Object:
    """The WorkloadEntry that the group makes for a VM at the address, by Istio's auto-registration rules."""
    spec = group.spec
    assert isinstance(spec, WorkloadGroupSpec)
    metadata = spec.metadata
    labels = {**spec.template.labels, **(metadata.labels if metadata else {})}
    annotations = {**(metadata.annotations if metadata else {}), GROUP_ANNOTATION: group.key.name}
    if spec.probe is not None:
        annotations[PROBED_ANNOTATION] = "true"
    owner = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadGroup",
        "name": group.key.name,
        "uid": group.meta.uid,
        "controller": True,
    }
    template = spec.template.model_copy(
        update={
            "address": str(address),
            "labels": labels,
            # without an account the VM would have no identity, and others would speak plaintext to it
            "service_account": spec.template.service_account or DEFAULT_SERVICE_ACCOUNT,
        }
    )
    key = Key("WorkloadEntry", group.key.namespace, workload_name(group.key.name, address))
    meta = ObjectMeta(
        name=key.name,
        namespace=key.namespace,
        labels=labels,
        annotations=annotations,
        owner_references=(owner,),
    )
    return Object(key, meta, template)


def workload_name(group: str, address: Address) -> str:
    """`<group>-<address>`; of one too long for a certificate's common name, the end that fits."""
    name = f"{group}-{str(address).replace(':', '-')}"[-MAX_COMMON_NAME:].lstrip("-.")
    # "fd00::" ends with a colon, and a name may not end with a dash
    return name + "0" if name.endswith("-") else name
