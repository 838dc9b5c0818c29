"""Redis through redis.asyncio, with its messages as a `for` loop.

    pip install asyncio-thread-loop redis
    python examples/redis_pubsub.py redis://localhost &
    redis-cli publish news 'hello'
    redis-cli publish news 'stop'

Without an argument it reads REDIS_URL, then uses redis://localhost.
"""

import argparse
import os

import redis.asyncio

from asyncio_thread_loop import AsyncioThreadLoop


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what is published to the channel `news`.")
    parser.add_argument("url", nargs="?", default=os.environ.get("REDIS_URL", "redis://localhost"))
    args = parser.parse_args()

    with AsyncioThreadLoop() as loop:
        Redis = loop.to_sync(redis.asyncio.Redis)
        with Redis.from_url(args.url, decode_responses=True) as client:
            with client.pubsub(ignore_subscribe_messages=True) as news:
                news.subscribe("news")
                print("listening", flush=True)
                for message in news.listen():
                    # The client is free for other commands meanwhile, and for other threads.
                    print(f"message {client.incr('example_messages')}: {message['data']}", flush=True)
                    if message["data"] == "stop":
                        break
            # The block has unsubscribed and given the connection back.
            print("subscribers left:", dict(client.pubsub_numsub("news"))["news"])
            client.delete("example_messages")


if __name__ == "__main__":
    main()
