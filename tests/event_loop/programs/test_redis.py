"""redis.asyncio and Redis servers of the tests, one with a Unix socket and one over TLS."""

import asyncio
import contextlib

import pytest
import redis.asyncio
import redis.exceptions
from redis_server import redis_server, redis_tls_server


@pytest.fixture(params=["Unix", "TLS"], scope="module")
def address(request):
    """How to connect. Only the servers that are asked for are started: not every Redis is built with TLS."""
    if request.param == "Unix":
        return {"unix_socket_path": str(request.getfixturevalue("redis_socket"))}
    port = request.getfixturevalue("redis_tls_port")
    return over_tls(port, request.getfixturevalue("certificate"))


def over_tls(port, certificate):
    return {"host": "127.0.0.1", "port": port, "ssl": True, "ssl_ca_certs": str(certificate)}


@pytest.fixture
def with_client(run, address):
    """Run a coroutine function with a client of an empty server."""

    def with_client(function):
        async def main():
            async with client(address) as mine:
                await mine.flushall()
                return await function(mine)

        return run(main())

    return with_client


def client(address, **options):
    return redis.asyncio.Redis(decode_responses=True, **address, **options)


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


def test_a_transaction_is_done_at_once_or_again(with_client, address):
    async def main(mine):
        await mine.set("count", 0)

        async def add(times):
            async with client(address) as one:
                for _ in range(times):

                    async def step(pipeline):
                        count = int(await pipeline.get("count"))
                        pipeline.multi()
                        pipeline.set("count", count + 1)

                    await one.transaction(step, "count")

        await asyncio.gather(*(add(20) for _ in range(5)))
        return await mine.get("count")

    assert with_client(main) == "100"


def test_a_large_value_goes_there_and_back(run, address, noise):
    data = noise(30_000_000)

    async def main():
        async with redis.asyncio.Redis(**address) as client:
            await client.set("large", data)
            length, back = await client.strlen("large"), await client.get("large")
            await client.delete("large")
            return length, back == data

    assert run(main()) == (len(data), True)


def test_published_messages_reach_every_subscriber_in_order(with_client, address):
    words = [str(number) for number in range(500)]

    async def main(mine):
        async def subscribe(ready):
            async with client(address) as one, one.pubsub() as pubsub:
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


def test_a_blocking_pop_waits_for_a_push(with_client, address):
    async def main(mine):
        async with client(address) as other:
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


def test_a_cancelled_pop_takes_nothing_and_the_client_is_usable(with_client, address):
    async def main(mine):
        async with client(address) as other:
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


def test_many_clients_at_once_are_all_answered_right(with_client, address):
    async def main(mine):
        async def count(number):
            async with client(address) as one:
                return [await one.incrby(f"count {number}", number) for _ in range(20)]

        return await asyncio.gather(*map(count, range(50)))

    expected = [[number * times for times in range(1, 21)] for number in range(50)]
    assert with_client(main) == expected


def test_a_connection_that_the_server_ends_is_an_error_and_the_next_call_makes_another(with_client, address):
    async def main(mine):
        async with client(address, retry=None) as victim:
            number = await victim.client_id()
            popping = asyncio.create_task(victim.blpop("list", timeout=0))
            async with blocked(victim, mine):
                assert await mine.client_kill_filter(_id=number) == 1
            with pytest.raises(redis.exceptions.ConnectionError):
                await popping
            return await victim.ping(), await victim.client_id() != number

    assert with_client(main) == (True, True)


def test_large_values_at_once_are_whole_though_one_is_cancelled_half_way(with_client, address, noise):
    text = noise(5_000_000).hex()

    async def main(mine):
        async def get():
            async with client(address) as one:
                return await one.get("large") == text

        await mine.set("large", text)
        async with client(address, single_connection_client=True) as leaving:
            await leaving.ping()
            received = leaving.connection._reader._buffer
            asking = asyncio.create_task(leaving.get("large"))
            others = [asyncio.create_task(get()) for _ in range(8)]
            while not received:
                await asyncio.sleep(0)
            assert 0 < len(received) < len(text)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            return await asyncio.gather(*others), await leaving.strlen("large")

    assert with_client(main) == ([True] * 8, len(text))


@pytest.mark.parametrize("kind", ["Unix", "TLS"])
def test_a_server_that_ends_is_an_error_for_everybody(run, certificate, kind):
    async def main(address):
        async with client(address, retry=None) as waiting, client(address, retry=None) as other:
            popping = asyncio.create_task(waiting.blpop("list", timeout=0))
            async with blocked(waiting, other):
                await other.shutdown(nosave=True)
            with pytest.raises(redis.exceptions.ConnectionError):
                await popping
            with pytest.raises(redis.exceptions.ConnectionError):
                await other.ping()

    if kind == "Unix":
        with redis_server() as socket:
            run(main({"unix_socket_path": str(socket)}))
    else:
        with redis_tls_server(certificate) as port:
            run(main(over_tls(port, certificate)))


def test_over_tls_the_client_is_sure_of_the_server(run, redis_tls_port, certificate):
    address = over_tls(redis_tls_port, certificate)

    async def main():
        async with client(address, single_connection_client=True) as mine:
            assert await mine.ping()
            transport = mine.connection._writer.transport
            assert type(transport).__module__ == "asyncio_thread_loop._tls"
            assert ("IP Address", "127.0.0.1") in transport.get_extra_info("peercert")["subjectAltName"]
        async with client({**address, "ssl_ca_certs": None}, retry=None) as doubting:
            with pytest.raises(redis.exceptions.ConnectionError, match="certificate verify failed"):
                await doubting.ping()
        async with client({"host": address["host"], "port": address["port"]}, retry=None) as plain:
            with pytest.raises(redis.exceptions.ConnectionError):
                await plain.ping()

    run(main())
