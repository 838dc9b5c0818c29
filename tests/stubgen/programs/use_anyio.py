from typing import assert_type

from anyio.streams.memory import MemoryObjectReceiveStream as Original
from faces.anyio_streams_memory_sync import MemoryObjectReceiveStream, MemoryObjectSendStream


def used_well(send: MemoryObjectSendStream[str], receive: MemoryObjectReceiveStream[int]) -> None:
    with send.clone() as sending:
        assert_type(sending, MemoryObjectSendStream[str])
        sending.send("item")
    with receive:
        assert_type(receive.receive(), int)
        for number in receive:
            assert_type(number, int)
    assert_type(receive.statistics().open_receive_streams, int)
    assert_type(receive.aio, Original[int])


def used_wrongly(send: MemoryObjectSendStream[str], receive: MemoryObjectReceiveStream[int]) -> None:
    send.send(3)  # wrong: arg-type, reportArgumentType
    for number in receive:
        number.upper()  # wrong: attr-defined, reportAttributeAccessIssue


async def awaited(receive: MemoryObjectReceiveStream[int]) -> None:
    await receive.receive()  # wrong: misc, reportGeneralTypeIssues
