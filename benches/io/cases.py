"""What is measured, and what is required of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

KIB = 1024


@dataclass(frozen=True)
class Case:
    #: What it is asked for by, and what it is in its group: its size, or how it is done.
    name: str
    label: str
    #: The server, or the operation.
    of: str
    #: How the load connects, and the bytes of a message; none for an operation.
    load: str | None = None
    size: int = 0
    #: At least so many times better than uvloop.
    times: float = 1
    #: Also no worse than aiofastnet on uvloop.
    as_aiofastnet: bool = False

    @property
    def row(self) -> str:
        return " ".join(filter(None, (TITLES[self.name], self.label)))


def echoes(
    name: str, of: str, load: str, sizes: tuple[int, ...] = (1, 10, 100), times: float = 1, **options: bool
) -> list[Case]:
    return [Case(name, f"{size} KiB", of, load, size * KIB, times, **options) for size in sizes]


#: The groups, and how tables and pictures name them.
TITLES = {
    "protocol": "protocol",
    "buffered": "buffered protocol",
    "streams": "streams",
    "sock": "sock_*",
    "unix": "Unix socket",
    "udp": "UDP",
    "tls": "TLS",
    "connections": "connections,",
    "call_soon": "call_soon",
    "call_later": "call_later",
    "cancel": "call_later, cancel",
    "create_task": "create_task",
    "gather": "gather",
    "sleep": "sleep(0)",
    "threadsafe": "call_soon_threadsafe,",
    "executor": "run_in_executor,",
    "spawn": "subprocess",
    "startup": "start-up:",
}

BETTER = 1.2

CASES = [
    *echoes("protocol", "protocol", "tcp"),
    *echoes("buffered", "buffered", "tcp"),
    *echoes("streams", "streams", "tcp"),
    *echoes("sock", "sock", "tcp", times=BETTER),
    *echoes("unix", "unix", "unix", times=BETTER),
    *echoes("udp", "udp", "udp", (1, 10), times=BETTER),
    *echoes("tls", "tls", "tls", as_aiofastnet=True),
    Case("connections", "protocol", "once", "once", 64),
    Case("connections", "streams", "once_by_streams", "once", 64),
    Case("call_soon", "", "call_soon", times=BETTER),
    Case("call_later", "", "call_later", times=BETTER),
    Case("cancel", "", "cancel", times=BETTER),
    Case("create_task", "", "create_task"),
    Case("gather", "", "gather"),
    Case("sleep", "", "sleep"),
    Case("threadsafe", "many", "threadsafe", times=BETTER),
    Case("threadsafe", "one by one", "threadsafe_answered", times=BETTER),
    Case("executor", "one by one", "executor"),
    Case("executor", "100 at once", "executor_at_once"),
    Case("spawn", "", "spawn"),
    Case("startup", "make, run, close", "start_up"),
    Case("startup", "import", "import_it"),
]


def groups(names: list[str]) -> list[tuple[str, list[Case]]]:
    """Cases that share a table."""
    chosen = (case for case in CASES if case.name in names)
    return [(name, list(cases)) for name, cases in groupby(chosen, key=lambda case: case.name)]
