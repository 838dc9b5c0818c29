from typing import Any, assert_type

from faces.redis_asyncio_sync import Pipeline, PubSub, Redis


def used_well() -> None:
    with Redis(host="localhost", decode_responses=True) as client:
        assert_type(client, Redis)
        assert_type(client.get("key"), bytes | str | None)
        assert_type(client.ping(), bool)
        client.aclose()
        pubsub = client.pubsub()
        assert_type(pubsub, PubSub)
        for message in pubsub.listen():
            print(message)
        for key in client.scan_iter(match="*"):
            print(key)
        with client.pipeline(transaction=True) as pipeline:
            assert_type(pipeline, Pipeline)
            results = pipeline.execute()
            assert_type(results, list[Any])
        with client.lock("name", timeout=3):
            pass
        assert_type(Redis.from_url("redis://localhost").ping(), bool)


def used_wrongly(client: Redis) -> None:
    client.get()  # wrong: call-arg, reportCallIssue
    client.gett("key")  # wrong: attr-defined, reportAttributeAccessIssue
    number: int = client.get("key")  # wrong: assignment, reportAssignmentType
    print(number)


async def awaited(client: Redis) -> None:
    await client.ping()  # wrong: misc, reportGeneralTypeIssues
