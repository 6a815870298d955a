"""What the systemd unit runs."""

import sys

from isthmus.agent.paths import Paths
from isthmus.agent.service import agent

if __name__ == "__main__":
    sys.exit(agent(Paths()))
