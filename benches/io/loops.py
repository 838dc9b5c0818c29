"""The event loops that are compared, each as its users make it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Factory = Callable[[], asyncio.AbstractEventLoop]

OURS = "EventLoop"
STANDARD = "standard loop"
UVLOOP = "uvloop"
RLOOP = "rloop"
AIOFASTNET = "aiofastnet, standard"
AIOFASTNET_UVLOOP = "aiofastnet, uvloop"


def ours() -> Factory:
    from asyncio_thread_loop import EventLoop

    return EventLoop


def standard() -> Factory:
    return asyncio.SelectorEventLoop


def uvloop() -> Factory:
    import uvloop

    return uvloop.new_event_loop


def rloop() -> Factory:
    import rloop

    return rloop.new_event_loop


def aiofastnet() -> Factory:
    """The standard loop with other transports."""
    import aiofastnet

    return aiofastnet.loop_factory(asyncio.SelectorEventLoop)


def aiofastnet_uvloop() -> Factory:
    import aiofastnet

    return aiofastnet.loop_factory(uvloop())


#: A function for each, which imports what it needs.
LOOPS: dict[str, Callable[[], Factory]] = {
    OURS: ours,
    STANDARD: standard,
    UVLOOP: uvloop,
    RLOOP: rloop,
    AIOFASTNET: aiofastnet,
    AIOFASTNET_UVLOOP: aiofastnet_uvloop,
}

#: What a program imports to have it.
MODULES = {
    OURS: "asyncio_thread_loop",
    STANDARD: "asyncio",
    UVLOOP: "uvloop",
    RLOOP: "rloop",
    AIOFASTNET: "aiofastnet",
    AIOFASTNET_UVLOOP: "aiofastnet, uvloop",
}
