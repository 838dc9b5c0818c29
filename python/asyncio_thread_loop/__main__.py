"""`python -m asyncio_thread_loop`: the commands of the package."""

from __future__ import annotations

import argparse
import sys

from ._stubgen.command import add_arguments


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m asyncio_thread_loop")
    commands = parser.add_subparsers(title="commands", required=True)
    add_arguments(commands.add_parser("stubgen", help="write typed synchronous faces of async classes"))
    arguments = parser.parse_args()
    code: int = arguments.run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
