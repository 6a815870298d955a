"""`make bench`: every figure of docs/performance.md, measured in one run on this machine."""

import sys

from bench import api, mesh, story
from bench.distribution import HEADER

SECTIONS = {"mesh": mesh.run, "api": api.run, "story": story.run}


def main() -> None:
    """Runs the named sections, or all."""
    print(HEADER)
    for name in sys.argv[1:] or SECTIONS:
        for line in SECTIONS[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main()
