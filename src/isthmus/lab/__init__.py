"""The lab: network namespaces that behave like VMs on a network, in one disposable process tree."""
