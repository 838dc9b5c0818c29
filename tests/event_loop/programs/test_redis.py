"""redis.asyncio and a Redis server of the tests."""

import asyncio
import contextlib

import pytest
import redis.asyncio
import redis.exceptions


@pytest.fixture
def with_client(run, redis_socket):
    """Run a coroutine function with a client of an empty server."""

    def with_client(function):
        async def main():
            async with client(redis_socket) as mine:
                await mine.flushall()
                return await function(mine)

        return run(main())

    return with_client


def client(socket, **options):
    return redis.asyncio.Redis(unix_socket_path=str(socket), decode_responses=True, **options)


@contextlib.asynccontextmanager
async def blocked(client, other, count=1):
    """So many of the client's calls wait in the server: another one looks until it is so."""
    while (await other.info("clients"))["blocked_clients"] < count:
        await asyncio.sleep(0.001)
    yield


def test_a_pipeline_is_answered_in_order(with_client):
    async def main(client):
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(10_000):
                pipeline.set(f"key {number}", number).get(f"key {number}")
            answers = await pipeline.execute()
        return answers, await client.dbsize()

    answers, size = with_client(main)
    assert answers[::2] == [True] * 10_000
    assert answers[1::2] == [str(number) for number in range(10_000)]
    assert size == 10_000


def test_a_transaction_is_done_at_once_or_again(with_client, redis_socket):
    async def main(mine):
        await mine.set("count", 0)

        async def add(times):
            async with client(redis_socket) as one:
                for _ in range(times):

                    async def step(pipeline):
                        count = int(await pipeline.get("count"))
                        pipeline.multi()
                        pipeline.set("count", count + 1)

                    await one.transaction(step, "count")

        await asyncio.gather(*(add(20) for _ in range(5)))
        return await mine.get("count")

    assert with_client(main) == "100"


def test_a_large_value_goes_there_and_back(run, redis_socket, noise):
    data = noise(30_000_000)

    async def main():
        async with redis.asyncio.Redis(unix_socket_path=str(redis_socket)) as client:
            await client.set("large", data)
            length, back = await client.strlen("large"), await client.get("large")
            await client.delete("large")
            return length, back == data

    assert run(main()) == (len(data), True)


def test_published_messages_reach_every_subscriber_in_order(with_client, redis_socket):
    words = [str(number) for number in range(500)]

    async def main(mine):
        async def subscribe(ready):
            async with client(redis_socket) as one, one.pubsub() as pubsub:
                await pubsub.subscribe("news")
                await pubsub.psubscribe("other.*")
                heard = []
                async for message in pubsub.listen():
                    if message["type"] in ("subscribe", "psubscribe"):
                        ready.release()
                    elif message["data"] == "stop":
                        return heard
                    else:
                        heard.append((message["channel"], message["data"]))

        ready = asyncio.Semaphore(0)
        subscribers = [asyncio.create_task(subscribe(ready)) for _ in range(10)]
        for _ in range(20):
            await ready.acquire()
        for word in words:
            assert await mine.publish("news", word) == 10
        assert await mine.publish("other.channel", "stop") == 10
        return await asyncio.gather(*subscribers)

    assert with_client(main) == [[("news", word) for word in words]] * 10


def test_a_blocking_pop_waits_for_a_push(with_client, redis_socket):
    async def main(mine):
        async with client(redis_socket) as other:
            popping = [asyncio.create_task(mine.blpop("list", timeout=0)) for _ in range(20)]
            async with blocked(mine, other, 20):
                assert not any(task.done() for task in popping)
            assert await other.rpush("list", *range(20)) == 20
            popped = await asyncio.gather(*popping)
        return sorted(int(word) for _, word in popped), await mine.llen("list")

    assert with_client(main) == (list(range(20)), 0)


def test_a_blocking_pop_gives_up_after_its_timeout(with_client):
    async def main(client):
        assert await client.blpop("nothing", timeout=0.05) is None
        return await client.ping()

    assert with_client(main)


def test_a_cancelled_pop_takes_nothing_and_the_client_is_usable(with_client, redis_socket):
    async def main(mine):
        async with client(redis_socket) as other:
            popping = asyncio.create_task(mine.blpop("list", timeout=0))
            async with blocked(mine, other):
                popping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await popping
            while (await other.info("clients"))["blocked_clients"]:
                await asyncio.sleep(0.001)
            await other.rpush("list", "kept")
            return await mine.lrange("list", 0, -1)

    assert with_client(main) == ["kept"]


def test_many_clients_at_once_are_all_answered_right(with_client, redis_socket):
    async def main(mine):
        async def count(number):
            async with client(redis_socket) as one:
                return [await one.incrby(f"count {number}", number) for _ in range(20)]

        return await asyncio.gather(*map(count, range(50)))

    expected = [[number * times for times in range(1, 21)] for number in range(50)]
    assert with_client(main) == expected


def test_a_connection_that_the_server_ends_is_an_error_and_the_next_call_makes_another(
    with_client, redis_socket
):
    async def main(mine):
        async with client(redis_socket, retry=None) as victim:
            number = await victim.client_id()
            popping = asyncio.create_task(victim.blpop("list", timeout=0))
            async with blocked(victim, mine):
                assert await mine.client_kill_filter(_id=number) == 1
            with pytest.raises(redis.exceptions.ConnectionError):
                await popping
            return await victim.ping(), await victim.client_id() != number

    assert with_client(main) == (True, True)
