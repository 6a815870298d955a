"""Kills its own process after so many changes that it was about to make."""

import os
import signal
import sys

_EVENTS = {
    "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree",
    "subprocess.Popen", "socket.bind", "os.utime",
}  # fmt: skip


def arm(after: int) -> None:
    """From here on the process counts what it does to the system, and dies by SIGKILL at its turn."""
    left = after

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        # byte code that Python caches is no change of ours
        if (event in _EVENTS or writes) and "__pycache__" not in str(arguments):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(hook)
