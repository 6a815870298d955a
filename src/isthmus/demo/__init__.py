"""The demonstration: Bookinfo in the mesh, its ratings in MariaDB on a VM that joined with one command."""
