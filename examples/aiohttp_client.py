"""aiohttp's ClientSession from synchronous code: many files at once, an upload, a timeout, a stream.

    pip install asyncio-thread-loop aiohttp
    python examples/server.py --port 8080 &
    python examples/aiohttp_client.py http://127.0.0.1:8080 some-large-file

It ends by printing what is posted to the server's feed, until the feed ends. In another terminal:

    curl -d 'hello' http://127.0.0.1:8080/feed
    curl -X DELETE http://127.0.0.1:8080/feed
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import aiohttp

from asyncio_thread_loop import AsyncioThreadLoop

NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


async def download(session: aiohttp.ClientSession, name: str) -> bytes:
    async with session.get(f"/files/{name}") as response:
        response.raise_for_status()
        return await response.read()


def upload(session: Any, path: Path) -> None:
    # aiohttp reads a file as it sends it.
    with path.open("rb") as file, session.put("/uploads", data=file) as response:
        answer = response.json()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    print(f"uploaded {answer['size']} bytes, checksum matches: {answer['sha256'] == digest}")


def give_up(session: Any) -> None:
    impatient = aiohttp.ClientTimeout(sock_read=0.2)
    try:
        # Where nothing is to be held open, `.result()` gives the response instead of `with`.
        session.get("/wait", params={"seconds": 3600}, timeout=impatient).result()
    except aiohttp.SocketTimeoutError as error:
        print(f"gave up: {type(error).__name__}")
    with session.get("/files/motd") as response:
        print("the session is still usable:", response.ok)


def follow(session: Any) -> None:
    with session.get("/feed", timeout=NO_TIMEOUT) as response:
        print("following the feed", flush=True)
        for line in response.content:
            print("feed:", line.decode().rstrip(), flush=True)
    print("the feed has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description="Use an HTTP server without writing async code.")
    parser.add_argument("url")
    parser.add_argument("file", type=Path, help="what to upload")
    args = parser.parse_args()

    with AsyncioThreadLoop() as loop:
        # A synchronous class: the same names, the same arguments, the same errors. It is made on the loop's thread, as
        # aiohttp wants it.
        Session = loop.to_sync(aiohttp.ClientSession)
        with Session(args.url) as session:
            # The original does many things at once, over the same connections.
            downloads = (download(session.aio, f"file-{number}") for number in range(100))
            sizes = [len(body) for body in loop.evaluate_many(downloads, limit=20)]
            print(f"downloaded {len(sizes)} files of {sum(sizes)} bytes")

            upload(session, args.file)
            give_up(session)
            follow(session)


if __name__ == "__main__":
    main()
