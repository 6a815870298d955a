"""The columns of `kubectl get`, those of Kubernetes' own kinds as Kubernetes has them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`. A priority above 0 shows with `-o wide` only."""

    name: str
    json_path: str
    type: str = "string"
    description: str = ""
    priority: int = 0


AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since the object was created.")

CONFIG_MAP = (Column("Data", ".data", description="How many values it holds."), AGE)
ENDPOINTS = (Column("Endpoints", ".subsets", description="Addresses with their ports."), AGE)
ENDPOINT_SLICE = (
    Column("AddressType", ".addressType", description="Kind of the addresses."),
    Column("Ports", ".ports[*].port", description="Ports of every endpoint."),
    Column("Endpoints", ".endpoints[*].addresses[*]", description="Addresses of the endpoints."),
    AGE,
)
EVENT = (
    Column("Last Seen", ".lastTimestamp", "date", "When it was last seen."),
    Column("Type", ".type", description="Normal or Warning."),
    Column("Reason", ".reason", description="One word for machines."),
    Column("Object", ".involvedObject.name", description="What it is about."),
    Column("Message", ".message", description="A sentence for people."),
)
INGRESS = (
    Column("Class", ".spec.ingressClassName", description="Whose Ingress it is."),
    Column("Hosts", ".spec.rules[*].host", description="Hosts that it has rules for."),
    Column("Address", ".status.loadBalancer", description="Where requests are taken."),
    Column("Ports", ".spec.tls", description="Ports at which requests are taken."),
    AGE,
)
INGRESS_CLASS = (
    Column("Controller", ".spec.controller", description="Who looks after its Ingresses."),
    Column("Parameters", ".spec.parameters", description="Further settings of the controller."),
    AGE,
)
NAMESPACE = (Column("Status", ".status.phase", description="Active or Terminating."), AGE)
NODE = (
    Column("Status", ".status.conditions", description="Whether it is ready."),
    Column("Roles", ".metadata.labels", description="What it is for."),
    AGE,
    Column("Version", ".status.nodeInfo.kubeletVersion", description="Version of its kubelet."),
    Column("Internal-IP", ".status.addresses", description="Its address.", priority=1),
    Column("External-IP", ".status.addresses", description="Its address from outside.", priority=1),
)
POD = (
    Column("Ready", ".status.containerStatuses", description="Containers that are ready, of how many."),
    Column("Status", ".status.phase", description="Where the Pod is in its life."),
    Column("Restarts", ".status.containerStatuses", description="How often containers were restarted."),
    AGE,
    Column("IP", ".status.podIP", description="Its address.", priority=1),
    Column("Node", ".spec.nodeName", description="Where it runs.", priority=1),
)
SECRET = (
    Column("Type", ".type", description="What the data is for."),
    Column("Data", ".data", description="How many values it holds."),
    AGE,
)
SERVICE = (
    Column("Type", ".spec.type", description="How the service is exposed."),
    Column("Cluster-IP", ".spec.clusterIP", description="Virtual address of the service."),
    Column("External-IP", ".spec.externalIPs", description="Addresses for callers from elsewhere."),
    Column("Port(s)", ".spec.ports[*].port", description="Ports of the service."),
    AGE,
    Column("Selector", ".spec.selector", description="Labels of its workloads.", priority=1),
)
SERVICE_ACCOUNT = (Column("Secrets", ".secrets", description="How many Secrets it names."), AGE)
