"""Isthmus: virtual machines in the service mesh, with one command."""

__version__ = "0.1.0"
