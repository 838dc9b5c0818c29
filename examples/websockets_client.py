"""A WebSocket client in synchronous code: one thread sends, another reads, over one connection.

    pip install asyncio-thread-loop websockets
    python examples/server.py --port 8080 &
    python examples/websockets_client.py ws://127.0.0.1:8080/echo

The server sends back what it gets, and closes the connection after "bye".
"""

import argparse
import threading
from typing import Any

import websockets

from asyncio_thread_loop import AsyncioThreadLoop

MESSAGES = [f"message {number}" for number in range(1000)]


def send(socket: Any) -> None:
    for message in MESSAGES:
        socket.send(message)
    socket.send("bye")


def main() -> None:
    parser = argparse.ArgumentParser(description="Send 1,000 messages and read them back.")
    parser.add_argument("url")
    args = parser.parse_args()

    with AsyncioThreadLoop() as loop:
        connect = loop.to_sync(websockets.connect)
        with connect(args.url) as socket:
            sender = threading.Thread(target=send, args=[socket])
            sender.start()
            # It ends when the server closes the connection.
            echoes = list(socket)
            sender.join()

            print(f"{len(echoes)} echoes, in order: {echoes == [*MESSAGES, 'bye']}")
            try:
                socket.send("one more")
            except websockets.ConnectionClosedOK:
                print("closed by the server:", socket.close_code)


if __name__ == "__main__":
    main()
