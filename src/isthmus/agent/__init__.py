"""The life of a VM in the mesh: join, serve, renew, leave."""

import os

# gRPC's fork handlers run in the child between fork and exec, while other threads are inside gRPC, and now
# and then abort it there (seen: a failed check in its event engine). Our children exec at once and need none
# of it; the switch is read when grpc is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
