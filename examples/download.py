"""Download 2,000 files at most 100 at a time, from a plain synchronous script.

    pip install "asyncio-thread-loop[progress]" aiohttp
    python examples/download.py

Without `--url` it starts `server.py` beside it on a free port and ends it afterwards.
"""

import argparse
import asyncio
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from asyncio_thread_loop import AsyncioThreadLoop


async def hold_session(url: str, *, task_status: Any) -> None:
    """One session for everybody, open until the loop ends and cancels this task."""
    # limit=0: aiohttp's own limit is off, so the one of `evaluate_many` is what counts.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        task_status.started(session)
        await asyncio.Event().wait()


async def read_checksums(session: aiohttp.ClientSession, count: int) -> dict[str, str]:
    async with session.get("/SHA256SUMS", params={"count": count}) as response:
        response.raise_for_status()
        lines = (await response.text()).splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


async def download(session: aiohttp.ClientSession, name: str, digest: str) -> int:
    async with session.get(f"/files/{name}") as response:
        response.raise_for_status()
        body = await response.read()
    if hashlib.sha256(body).hexdigest() != digest:
        raise ValueError(f"{name} does not match its checksum")
    return len(body)


async def read_peak(session: aiohttp.ClientSession) -> int:
    async with session.get("/stats") as response:
        response.raise_for_status()
        peak: int = (await response.json())["peak"]
        return peak


@contextmanager
def serve() -> Iterator[str]:
    """Runs the server in its own process; gives its address."""
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            if not url:
                raise RuntimeError("the server did not start")
            yield url
        finally:
            server.terminate()


def run(url: str, requests: int, limit: int) -> None:
    with AsyncioThreadLoop() as loop:
        _, session = loop.start_task(hold_session, url)
        checksums = loop.evaluate(read_checksums(session, requests))

        start = time.perf_counter()
        # A generator: each coroutine is made when its turn has come.
        downloads = (download(session, name, digest) for name, digest in checksums.items())
        sizes = loop.evaluate_many(downloads, limit=limit, progress=True)
        seconds = time.perf_counter() - start

        peak = loop.evaluate(read_peak(session))

    print(f"files downloaded and verified: {len(sizes):,}")
    print(f"bytes: {sum(sizes):,}")
    print(f"seconds: {seconds:.2f}")
    print(f"requests at once, as the server saw it: {peak}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Download files, many at a time.")
    parser.add_argument("--url", help="a running server.py; default: start one")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--limit", type=int, default=100, help="requests at once")
    args = parser.parse_args()

    if args.url:
        run(args.url, args.requests, args.limit)
    else:
        with serve() as url:
            run(url, args.requests, args.limit)


if __name__ == "__main__":
    main()
