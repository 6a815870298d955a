"""The lab: hosts made of network namespaces that behave like VMs on a network, inside one disposable process tree."""
