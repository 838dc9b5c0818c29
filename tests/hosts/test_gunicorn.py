"""gunicorn forks its workers from a master that has opened the loop, and used it."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract.harness import Caller

from .program import EXAMPLES, HERE, get


@pytest.fixture
def gunicorn(program):
    """Serve an app with `gunicorn --preload`; returns the program and its address."""

    def start(*options, app="gunicorn_app:app", folder=HERE, **env):
        command = ["-m", "gunicorn", "--preload", "--bind", "127.0.0.1:0", "--chdir", folder, *options, app]
        running = program(*command, env={"ON_FORK": "restart", **env})
        address = running.expect(r"Listening at: (http://\S+)")
        # A worker that gunicorn starts while it is told to end isn't told, and keeps it for half a minute.
        running.expect("Booting worker", times=int(options[options.index("--workers") + 1]))
        return running, address

    return start


def ask_until_all_answered(address, workers, right):
    """Ask from many threads until that many workers have answered; every answer must be right."""
    seen = set()

    def ask(thread):
        for number in range(thread, 10_000, 8):
            status, answer = get(f"{address}/double/{number}")
            right(number, status, answer)
            seen.add(answer.get("pid"))
            if len(seen) >= workers and number > 100:
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert len(seen) >= workers, seen
    return seen


def is_double(number, status, answer):
    assert (status, answer.get("result")) == (200, 2 * number), answer


# Of several, one may still begin when the first has answered: gunicorn's workers don't hear yet that they are to end.
ONE = ["--workers", "1"]

WORKERS = {
    "sync": ["--workers", "3"],
    "gthread": ["--workers", "2", "--worker-class", "gthread", "--threads", "4"],
}


@pytest.mark.parametrize("options", WORKERS.values(), ids=WORKERS.keys())
def test_the_loop_opened_in_the_master_works_in_every_worker(gunicorn, options):
    running, address = gunicorn(*options)
    master = running.expect(r"master (\d+) 42")
    workers = ask_until_all_answered(address, int(options[1]), is_double)
    assert master not in map(str, workers)
    # The master's own work is untouched by all that, and every process cleans up what it held.
    holders = {master}
    while len(holders) < 1 + len(workers):
        holders.add(str(get(f"{address}/hold")[1]["pid"]))
    running.assert_ended_well(signal.SIGTERM)
    assert set(running.found(r"^cleaned background (\d+)$")) == holders, running
    assert len(running.found("^cleaned")) == len(running.found("^holding")), running


@pytest.mark.parametrize("on_fork", ["restart", "raise"])
def test_a_future_of_the_master_raises_in_a_worker(gunicorn, on_fork):
    running, address = gunicorn(*ONE, ON_FORK=on_fork)
    assert get(f"{address}/inherited") == (500, {"error": "ForkedError", "finished": 42})
    running.assert_ended_well(signal.SIGTERM)


def test_workers_are_told_when_the_loop_may_not_restart(gunicorn):
    def is_refused(number, status, answer):
        assert (status, answer) == (500, {"error": "ForkedError", "finished": 42})

    running, address = gunicorn(*ONE, ON_FORK="raise")
    ask_until_all_answered(address, 1, is_refused)
    running.assert_ended_well(signal.SIGTERM)
    assert len(running.found("^cleaned background")) == 1, running  # the master's


def test_a_request_in_flight_is_answered_before_a_worker_ends(gunicorn):
    running, address = gunicorn(*ONE)
    asking = Caller(get, f"{address}/slow")
    running.expect("^slow$")
    running.assert_ended_well(signal.SIGTERM)
    assert asking.outcome() == (200, {"result": "answered"})


def test_workers_are_recycled_and_every_request_is_right(gunicorn):
    running, address = gunicorn("--workers", "2", "--max-requests", "10", "--max-requests-jitter", "3")
    get(f"{address}/hold")
    workers = ask_until_all_answered(address, 6, is_double)
    assert len(workers) >= 6
    running.assert_ended_well(signal.SIGTERM)
    assert len(running.found("^cleaned")) == len(running.found("^holding")) == 2, running


def test_a_request_that_takes_too_long_is_cleaned_up_when_gunicorn_ends_its_worker(gunicorn):
    # gunicorn sends SIGABRT to a worker that is silent, whose handler raises SystemExit in the waiting main thread.
    running, address = gunicorn("--workers", "1", "--timeout", "1")
    asking = Caller(get, f"{address}/wait", ask_again=False)
    running.expect(r"^cleaned request \d+$")
    asking.error()  # whatever gunicorn answers, it does not keep the client waiting
    is_double(3, *get(f"{address}/double/3"))
    assert running.end() == 0, running


def test_the_example_has_a_session_in_the_master_and_in_every_worker(gunicorn, program):
    upstream = program(EXAMPLES / "server.py")
    files = upstream.expect(r"^(http://\S+)$")
    running, address = gunicorn("--workers", "2", folder=EXAMPLES, UPSTREAM=files)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: get(f"{address}/files/file-{number % 4}"), range(40)))
    for number, (status, answer) in enumerate(answers):
        assert (status, answer["name"]) == (200, f"file-{number % 4}")
        assert answer["size"] == answers[number % 4][1]["size"] >= 1024
    running.assert_ended_well(signal.SIGTERM)
    assert "Unclosed" not in running.output, running
    upstream.assert_ended_well(signal.SIGTERM)
