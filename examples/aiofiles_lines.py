"""Files through aiofiles: many at once, and one line by line.

    pip install asyncio-thread-loop aiofiles
    python examples/aiofiles_lines.py report.txt *.py

The first file is written, the others are read.
"""

import argparse
from pathlib import Path
from typing import Any

import aiofiles

from asyncio_thread_loop import AsyncioThreadLoop


async def count_lines(path: Path) -> int:
    count = 0
    async with aiofiles.open(path) as file:
        async for _ in file:
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a report of how many lines files have, and print it.")
    parser.add_argument("report", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()

    with AsyncioThreadLoop() as loop:
        counts = loop.evaluate_many((count_lines(path) for path in args.files), limit=10)

        # A function has a synchronous face, too: what it returns opens, reads, writes and closes as a file does.
        open_file: Any = loop.to_sync(aiofiles.open)
        with open_file(args.report, "w") as report:
            report.writelines(
                f"{count} {path.name}\n" for path, count in zip(args.files, counts, strict=True)
            )
        with open_file(args.report) as report:
            for line in report:
                print(line, end="")


if __name__ == "__main__":
    main()
