"""httpx's AsyncClient from synchronous code: many files at once, an upload, a timeout, a stream.

    pip install asyncio-thread-loop httpx
    python examples/server.py --port 8080 &
    python examples/httpx_client.py http://127.0.0.1:8080 some-large-file

It ends by printing what is posted to the server's feed, until the feed ends. In another terminal:

    curl -d 'hello' http://127.0.0.1:8080/feed
    curl -X DELETE http://127.0.0.1:8080/feed
"""

import argparse
import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from asyncio_thread_loop import AsyncioThreadLoop


async def read_blocks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, 64 * 1024):
            yield block


def upload(client: Any, path: Path) -> None:
    # The body is sent as it is read: the file is never in memory as a whole.
    answer = client.put("/uploads", content=read_blocks(path)).json()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    print(f"uploaded {answer['size']} bytes, checksum matches: {answer['sha256'] == digest}")


def give_up(client: Any) -> None:
    try:
        client.get("/wait", params={"seconds": 3600}, timeout=0.2)
    except httpx.ReadTimeout as error:
        print(f"gave up: {type(error).__name__}")
    print("the client is still usable:", client.get("/files/motd").is_success)


def follow(client: Any) -> None:
    with client.stream("GET", "/feed", timeout=None) as response:
        print("following the feed", flush=True)
        for line in response.aiter_lines():
            print("feed:", line, flush=True)
    print("the feed has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description="Use an HTTP server without writing async code.")
    parser.add_argument("url")
    parser.add_argument("file", type=Path, help="what to upload")
    args = parser.parse_args()

    with AsyncioThreadLoop() as loop:
        # A synchronous class: the same names, the same arguments, the same errors.
        Client = loop.to_sync(httpx.AsyncClient)
        with Client(base_url=args.url) as client:
            # The original does many things at once, over the same connections.
            requests = (client.aio.get(f"/files/file-{number}") for number in range(100))
            sizes = [len(response.content) for response in loop.evaluate_many(requests, limit=20)]
            print(f"downloaded {len(sizes)} files of {sum(sizes)} bytes")

            upload(client, args.file)
            give_up(client)
            follow(client)


if __name__ == "__main__":
    main()
