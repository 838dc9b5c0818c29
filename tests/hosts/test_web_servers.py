"""WSGI servers that call views in threads: many at once on one loop."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from .program import HERE, get


@pytest.fixture
def serve(program):
    def start(server):
        running = program(HERE / "web_apps.py", server)
        return running, running.expect(r"on (http://127\.0\.0\.1:\d+)")

    return start


def ask_from_many_threads(address, view):
    """Asks 80 times, 8 at a time; every answer must be right. Returns the threads that answered."""

    def ask(number):
        status, answer = get(f"{address}/{view}/{number}")
        assert (status, answer["result"]) == (200, 2 * number), answer
        return answer["thread"]

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(ask, range(80)))


@pytest.mark.parametrize("server", ["waitress", "flask"])
def test_threads_of_a_wsgi_server_share_a_loop_that_outlives_them(serve, server):
    running, address = serve(server)
    assert len(ask_from_many_threads(address, "double")) > 1
    assert get(f"{address}/many/20") == (200, {"result": [2 * number for number in range(20)]})
    running.assert_ended_well(signal.SIGTERM)
    assert "cleaned" in running.lines
