"""Generates `src/isthmus/_pb` from the .proto files beside this one: `make proto`."""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent
OUT = HERE.parent / "src" / "isthmus" / "_pb"


def main() -> int:
    """Runs the compiler; its exit code."""
    sources = sorted(str(path) for path in HERE.rglob("*.proto"))
    include = str(files("grpc_tools") / "_proto")
    return int(
        protoc.main(
            ["protoc", f"-I{HERE}", f"-I{include}", f"--python_out={OUT}", f"--pyi_out={OUT}", *sources]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
