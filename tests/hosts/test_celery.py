"""Celery's prefork workers, with a real Redis: tasks wait on loops that the main process has opened and used."""

import signal

import pytest
from celery import Celery
from contract.harness import WAIT
from redis_server import redis_server

from .program import EXAMPLES, HERE


@pytest.fixture(scope="module")
def redis_url():
    with redis_server() as socket:
        yield f"redis+socket://{socket}"


@pytest.fixture(scope="module")
def client(redis_url):
    """Sends tasks by their names, as another program would."""
    with Celery("client", broker=redis_url, backend=redis_url) as client:
        yield client


# A process that ends waits up to 30 seconds for its parent to take note of its last results, which a parent that shuts
# down just then doesn't: hence the patience.
@pytest.fixture
def worker(program, redis_url):
    def start(*options, app="celery_tasks", folder=HERE):
        command = [
            "-m",
            "celery",
            "--workdir",
            folder,
            "--app",
            app,
            "worker",
            "--concurrency",
            "2",
            "-l",
            "INFO",
        ]
        running = program(*command, *options, env={"CELERY_BROKER_URL": redis_url}, patience=60)
        running.expect("ready[.]$")
        return running

    return start


def send(client, name, *args):
    return client.send_task(f"celery_tasks.{name}", args)


def test_many_tasks_in_two_processes_all_return_their_own_results(worker, client):
    running = worker()
    results = {number: send(client, "double_it", number) for number in range(60)}
    processes = set()
    for number, result in results.items():
        process, *doubles = result.get(timeout=WAIT)
        assert doubles == [2 * number] * 3
        processes.add(process)
    assert len(processes) == 2 and running.pid not in processes
    assert send(client, "ask_inherited").get(timeout=WAIT) == "ForkedError"

    with pytest.raises(ZeroDivisionError):
        send(client, "divide", 1).get(timeout=WAIT)

    # A warm shutdown: every process ends what it holds, the main one included.
    holders = {str(running.pid)}
    while len(holders) < 3:
        held = [send(client, "hold_in_the_background") for _ in range(2)]
        holders.update(str(result.get(timeout=WAIT)) for result in held)
    assert running.end(signal.SIGTERM) == 0, running
    assert set(running.found(r"^cleaned \w+ (\d+)$")) == holders, running
    assert len(running.found("^cleaned")) == len(running.found("^holding")), running


def test_a_task_past_its_soft_limit_or_revoked_cleans_up_and_the_worker_goes_on(worker, client):
    running = worker()
    process, answer = send(client, "take_too_long").get(timeout=WAIT)
    assert answer == 42
    assert running.expect(r"^cleaned too long (\d+)$") == str(process)

    waiting = send(client, "wait_for_ever")
    holder = running.expect(r"^holding revoked (\d+)$")
    waiting.revoke(terminate=True, signal="SIGTERM")
    assert running.expect(r"^cleaned revoked (\d+)$") == holder
    assert send(client, "double_it", 4).get(timeout=WAIT)[1:] == [8] * 3


def test_recycled_processes_clean_up_and_new_ones_answer(worker, client):
    running = worker("--max-tasks-per-child", "4")
    held = send(client, "hold_in_the_background").get(timeout=WAIT)
    results = {number: send(client, "double_it", number) for number in range(12)}
    processes = {held}
    for number, result in results.items():
        process, *doubles = result.get(timeout=WAIT)
        assert doubles == [2 * number] * 3
        processes.add(process)
    assert len(processes) >= 4
    running.expect(f"^cleaned background {held}$")
    assert running.end(signal.SIGTERM) == 0, running


def test_the_example_opens_its_loop_in_each_process_and_closes_it(worker, program, redis_url):
    running = worker(app="celery_app", folder=EXAMPLES)
    asking = program(EXAMPLES / "celery_app.py", "3", "1", "2", env={"CELERY_BROKER_URL": redis_url})
    asking.assert_ended_well()
    assert asking.lines == ["[6, 2, 4]"]
    running.assert_ended_well(signal.SIGTERM)
