"""A server and clients of grpc.aio, whose own thread wakes the loop through a descriptor that it watches."""

import asyncio
import contextlib

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BytesValue, Int64Value, StringValue

SERVICE = "programs.Programs"

#: How each method is called, what it takes and what it gives.
METHODS = {
    "Double": ("unary_unary", Int64Value, Int64Value),
    "Count": ("unary_stream", Int64Value, Int64Value),
    "Sum": ("stream_unary", Int64Value, Struct),
    "Echo": ("stream_stream", BytesValue, BytesValue),
    "Fail": ("unary_unary", StringValue, StringValue),
    "Hold": ("unary_stream", Int64Value, Int64Value),
}


class Programs:
    """The service."""

    def __init__(self):
        self.holding = asyncio.Event()
        self.let_go = asyncio.Event()

    async def Double(self, request, context):
        await asyncio.sleep(0)
        return Int64Value(value=2 * request.value)

    async def Count(self, request, context):
        for number in range(request.value):
            yield Int64Value(value=number)

    async def Sum(self, requests, context):
        numbers = [request.value async for request in requests]
        answer = Struct()
        answer.update({"count": len(numbers), "sum": sum(numbers)})
        return answer

    async def Echo(self, requests, context):
        async for request in requests:
            yield request

    async def Fail(self, request, context):
        if request.value == "abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "nothing there")
        raise ZeroDivisionError("on purpose")

    async def Hold(self, request, context):
        """Gives the first number, and then none."""
        yield request
        self.holding.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.let_go.set()

    def handlers(self):
        def handler(name, how, takes, gives):
            make = getattr(grpc, f"{how}_rpc_method_handler")
            return make(getattr(self, name), takes.FromString, gives.SerializeToString)

        return {name: handler(name, *method) for name, method in METHODS.items()}


class Client:
    """The stub of it."""

    def __init__(self, channel):
        for name, (how, takes, gives) in METHODS.items():
            make = getattr(channel, how)
            setattr(self, name, make(f"/{SERVICE}/{name}", takes.SerializeToString, gives.FromString))


OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@contextlib.asynccontextmanager
async def connected(grace=None):
    """The service and a client of it."""
    server = grpc.aio.server(options=OPTIONS)
    service = Programs()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, service.handlers()),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            yield service, Client(channel)
    finally:
        await server.stop(grace)


def numbers(count):
    return [Int64Value(value=number) for number in range(count)]


def test_calls_at_once_are_all_answered_right(run):
    async def main():
        async with connected() as (_, client):
            answers = await asyncio.gather(*map(client.Double, numbers(500)))
        return [answer.value for answer in answers]

    assert run(main()) == [2 * number for number in range(500)]


def test_a_stream_from_the_server_comes_whole_and_in_order(run):
    async def main():
        async with connected() as (_, client):
            return [answer.value async for answer in client.Count(Int64Value(value=3000))]

    assert run(main()) == list(range(3000))


def test_a_stream_to_the_server_comes_whole(run):
    async def main():
        async def requests():
            for number in numbers(3000):
                yield number

        async with connected() as (_, client):
            return dict(await client.Sum(requests()))

    assert run(main()) == {"count": 3000, "sum": sum(range(3000))}


def test_streams_both_ways_carry_large_messages_step_by_step(run, noise):
    messages = [noise(size, size) for size in (1, 1000, 1_000_000, 20_000_000)]

    async def main():
        async with connected() as (_, client):
            call = client.Echo()
            for message in messages:
                await call.write(BytesValue(value=message))
                assert (await call.read()).value == message
            await call.done_writing()
            return await call.read() is grpc.aio.EOF, await call.code()

    assert run(main()) == (True, grpc.StatusCode.OK)


def test_a_deadline_ends_the_call_on_both_sides(run):
    async def main():
        async with connected() as (service, client):
            call = client.Hold(Int64Value(value=7), timeout=0.3)
            assert (await call.read()).value == 7
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
            await service.let_go.wait()
            answer = await client.Double(Int64Value(value=4))
            return raised.value.code(), answer.value

    assert run(main()) == (grpc.StatusCode.DEADLINE_EXCEEDED, 8)


def test_a_cancelled_call_is_cancelled_on_the_server(run):
    async def main():
        async with connected() as (service, client):
            call = client.Hold(Int64Value(value=7))
            assert (await call.read()).value == 7
            await service.holding.wait()
            reading = asyncio.create_task(call.read())
            await asyncio.sleep(0)
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await service.let_go.wait()
            return await call.code()

    assert run(main()) == grpc.StatusCode.CANCELLED


def test_errors_of_the_service_reach_the_client(run, caplog):
    # Its log would keep the traceback, and that the thread of the server.
    caplog.set_level("CRITICAL", logger="grpc._cython.cygrpc")

    async def main():
        async with connected() as (_, client):
            errors = []
            for word in ("abort", "fail"):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await client.Fail(StringValue(value=word))
                errors.append((raised.value.code(), raised.value.details()))
            return errors

    (not_found, details), (unknown, cause) = run(main())
    assert (not_found, details) == (grpc.StatusCode.NOT_FOUND, "nothing there")
    assert unknown == grpc.StatusCode.UNKNOWN
    assert "on purpose" in cause


def test_a_server_that_stops_ends_what_still_runs(run):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            service, client = await stack.enter_async_context(connected(grace=0.1))
            call = client.Hold(Int64Value(value=7))
            assert (await call.read()).value == 7
            await service.holding.wait()
            reading = asyncio.create_task(call.read())
            await stack.aclose()
            await service.let_go.wait()
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                await reading

    run(main())
