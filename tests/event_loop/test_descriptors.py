"""`add_reader`, `add_writer` and what becomes of descriptors."""

import asyncio
import os
import selectors
import socket
from itertools import pairwise

import pytest


def run_until(loop, condition):
    """Run single turns until the condition holds."""
    for _ in range(10_000):
        if condition():
            return
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    raise AssertionError("it never came true")


@pytest.mark.parametrize("as_what", ["socket", "descriptor"])
def test_readers_and_writers_are_called_while_their_socket_is_ready(loop, pair, as_what):
    ours, theirs = pair
    watched = ours if as_what == "socket" else ours.fileno()
    received, sent = [], []
    loop.add_reader(watched, lambda size: received.append(ours.recv(size)), 1)
    theirs.send(b"abc")
    run_until(loop, lambda: len(received) == 3)
    assert received == [b"a", b"b", b"c"]

    loop.add_writer(watched, sent.append, "writable")
    run_until(loop, lambda: len(sent) >= 3)
    assert loop.remove_writer(watched) is True
    assert loop.remove_reader(watched) is True
    theirs.send(b"d")
    seen = len(sent)
    loop.stop()
    loop.run_forever()
    assert (len(received), len(sent)) == (3, seen)


def test_files_are_watched_too(loop):
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as sink:
        lines = []
        loop.add_reader(source, lambda: lines.append(source.read(100)))
        loop.add_writer(sink, lambda: (sink.write(b"x"), loop.remove_writer(sink)))
        run_until(loop, lambda: lines)
        assert lines == [b"x"]
        assert loop.remove_reader(source) is True


def test_removing_tells_whether_there_was_anything(loop, pair):
    ours, _ = pair
    assert loop.remove_reader(ours) is False
    assert loop.remove_writer(ours) is False
    loop.add_reader(ours, print)
    assert loop.remove_writer(ours) is False
    assert loop.remove_reader(ours) is True
    assert loop.remove_reader(ours) is False
    assert loop.remove_reader(1_000_000) is False


def test_a_reader_can_be_replaced(loop, pair):
    ours, theirs = pair
    calls = []
    loop.add_reader(ours, calls.append, "old")
    loop.add_reader(ours, lambda: calls.append(ours.recv(10)))
    theirs.send(b"x")
    run_until(loop, lambda: calls)
    assert calls == [b"x"]
    loop.remove_reader(ours)


def test_a_reader_may_remove_itself(loop, pair):
    ours, theirs = pair
    calls = []
    loop.add_reader(ours, lambda: calls.append(loop.remove_reader(ours)))
    theirs.send(b"still there")
    run_until(loop, lambda: calls)
    loop.stop()
    loop.run_forever()
    assert calls == [True]


def test_a_reader_removed_by_another_one_of_its_turn_is_not_called(loop):
    pairs = [socket.socketpair() for _ in range(2)]
    called = []

    def read(number):
        called.append(number)
        for ours, _ in pairs:
            loop.remove_reader(ours)

    for number, (ours, theirs) in enumerate(pairs):
        loop.add_reader(ours, read, number)
        theirs.send(b"x")
    run_until(loop, lambda: called)
    loop.stop()
    loop.run_forever()
    assert len(called) == 1
    for both in pairs:
        for each in both:
            each.close()


def test_a_hang_up_is_told_to_reader_and_writer(loop, pair):
    ours, theirs = pair
    told = set()
    loop.add_reader(ours, told.add, "reader")
    loop.add_writer(ours, told.add, "writer")
    theirs.close()
    run_until(loop, lambda: told == {"reader", "writer"})
    loop.remove_reader(ours)
    loop.remove_writer(ours)


def test_a_descriptor_closed_behind_the_loops_back_can_be_reused(loop):
    first, first_peer = socket.socketpair()
    number = first.fileno()
    loop.add_reader(number, lambda: pytest.fail("of a socket that is closed"))
    first.close()
    first_peer.close()

    second, peer = socket.socketpair()
    assert second.fileno() == number  # the lowest free one
    received = []
    loop.add_reader(number, lambda: received.append(second.recv(10)))
    peer.send(b"new")
    run_until(loop, lambda: received)
    assert received == [b"new"]
    assert loop.remove_reader(number) is True
    second.close()
    peer.close()


def test_a_registration_that_survives_its_descriptor_calls_no_other_reader(loop):
    """The kernel goes on telling of a description somebody duplicated, under the number that is closed."""
    first, first_peer = socket.socketpair()
    number = first.fileno()
    duplicate = os.dup(number)
    loop.add_reader(number, lambda: pytest.fail("of a socket that is closed"))
    first.close()
    assert loop.remove_reader(number) is True
    first_peer.send(b"old")

    second, peer = socket.socketpair()
    assert second.fileno() == number
    called = []
    loop.add_reader(second, called.append, "reader")
    for _ in range(3):
        loop.stop()
        loop.run_forever()
    assert called == []
    peer.send(b"new")
    run_until(loop, lambda: called)
    loop.remove_reader(second)
    os.close(duplicate)
    for each in (first_peer, second, peer):
        each.close()


def test_a_file_that_comes_back_to_its_number_is_watched_again(loop):
    """The kernel still watches the description under that number, though the loop couldn't tell it to stop."""
    ours, theirs = socket.socketpair()
    number = ours.detach()
    duplicate = os.dup(number)
    loop.add_reader(number, lambda: pytest.fail("of a reader that was removed"))
    os.close(number)
    assert loop.remove_reader(number) is True
    os.dup2(duplicate, number)
    received = []
    loop.add_reader(number, lambda: received.append(os.read(number, 10)))
    theirs.send(b"hello")
    run_until(loop, lambda: received)
    assert received == [b"hello"]
    assert loop.remove_reader(number) is True
    for each in (number, duplicate):
        os.close(each)
    theirs.close()


def test_removing_a_descriptor_that_is_closed_is_no_error(loop):
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    loop.add_reader(number, print)
    loop.add_writer(number, print)
    ours.close()
    theirs.close()
    assert loop.remove_reader(number) is True
    assert loop.remove_writer(number) is True
    loop.stop()
    loop.run_forever()


def test_a_regular_file_cannot_be_watched(loop, tmp_path):
    with open(tmp_path / "file", "wb") as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, print)
        with pytest.raises(PermissionError):
            loop.add_writer(file.fileno(), print)
        assert loop.remove_reader(file) is False


def test_what_is_no_descriptor_is_refused(loop):
    closed = socket.socket()
    closed.close()
    for nonsense in (-1, closed, object(), "1"):
        with pytest.raises(ValueError, match="Invalid file"):
            loop.add_reader(nonsense, print)
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(reading, print)


def test_the_selector_tells_what_is_watched(loop, pair):
    ours, _ = pair
    with pytest.raises(KeyError):
        loop._selector.get_key(ours)
    loop.add_reader(ours, print)
    assert loop._selector.get_key(ours) == (ours, ours.fileno(), selectors.EVENT_READ, None)
    loop.add_writer(ours, print)
    assert loop._selector.get_key(ours.fileno()).events == selectors.EVENT_READ | selectors.EVENT_WRITE
    loop.remove_reader(ours)
    assert loop._selector.get_key(ours).events == selectors.EVENT_WRITE
    loop.remove_writer(ours)
    with pytest.raises(KeyError):
        loop._selector.get_key(ours)


def test_a_transports_descriptor_is_not_for_others(run, pair):
    async def main():
        running = asyncio.get_running_loop()
        transport, _ = await running.create_connection(asyncio.Protocol, sock=pair[0])
        with pytest.raises(RuntimeError, match="is used by transport"):
            running.add_reader(transport.get_extra_info("socket").fileno(), print)
        transport.close()

    run(main())


def test_hundreds_of_descriptors_are_served(loop):
    pairs = [socket.socketpair() for _ in range(200)]
    received = []
    for number, (ours, _) in enumerate(pairs):
        loop.add_reader(ours, lambda ours=ours, number=number: received.append((number, ours.recv(1))))
    for _ in range(5):
        received.clear()
        for _, theirs in pairs:
            theirs.send(b"x")
        run_until(loop, lambda: len(received) == len(pairs))
        assert sorted(number for number, _ in received) == list(range(len(pairs)))
    for ours, theirs in pairs:
        assert loop.remove_reader(ours) is True
        ours.close()
        theirs.close()


def test_callbacks_that_never_end_leave_descriptors_their_turn(loop, pair):
    """At least every second turn looks at them."""
    ours, theirs = pair
    turns, waits = 0, []

    def turn():
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    def read():
        waits.append(turns)
        ours.recv(1)
        if len(waits) == 10:
            loop.stop()
        theirs.send(b"x")

    loop.add_reader(ours, read)
    theirs.send(b"x")
    turn()
    loop.run_forever()
    assert all(later - earlier <= 2 for earlier, later in pairwise(waits))


def test_what_a_descriptor_made_due_runs_before_the_next_look_at_them(loop, pair):
    ours, theirs = pair
    happened = []

    def read():
        happened.append("read")
        if ours.recv(1) == b"1":
            loop.call_soon(due)
        else:
            loop.stop()

    def due():
        happened.append("due")
        loop.call_soon(happened.append, "due after that")

    loop.add_reader(ours, read)
    theirs.send(b"12")
    loop.run_forever()
    assert happened == ["read", "due", "due after that", "read"]
