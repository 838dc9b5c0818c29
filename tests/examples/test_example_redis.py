"""The example with Redis, against a server that the tests start."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from running_examples import running_example


@pytest.fixture
def client(redis_socket: Path) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(redis_socket), decode_responses=True) as client:
        yield client


def test_messages_arrive_in_order_and_leaving_the_loop_unsubscribes(
    client: redis.Redis, redis_socket: Path
) -> None:
    with running_example("redis_pubsub.py", f"unix://{redis_socket}") as example:
        example.expect("listening")
        # Each is there before the next is published.
        for number in range(1, 4):
            assert client.publish("news", f"hello {number}") == 1
            example.expect(f"message {number}: hello {number}\n")
        # Many at once.
        words = [*(f"more {number}" for number in range(200)), "stop", "too late"]
        with client.pipeline(transaction=False) as pipeline:
            for word in words:
                pipeline.publish("news", word)
            pipeline.execute()
    expected = ["hello 1", "hello 2", "hello 3", *words[:-1]]
    assert example.stdout.splitlines() == [
        "listening",
        *(f"message {number}: {word}" for number, word in enumerate(expected, 1)),
        "subscribers left: 0",
    ]
    assert client.pubsub_channels() == []
    assert client.keys() == []
    assert len(client.client_list()) == 1  # our own
