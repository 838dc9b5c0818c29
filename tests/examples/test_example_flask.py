"""The Flask app with an async HTTP client, served by threads and called by many at once."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from running_examples import Answer, http, serve_example, serve_with_flask

THREADS = 32


def description(name: str) -> dict[str, object]:
    """What the app says about a file of `upstream.py`, which holds its own name."""
    return {
        "name": name,
        "size": len(name),
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
    }


@pytest.fixture(scope="module")
def app(upstream: str) -> Iterator[str]:
    with serve_example("flask_app.py", "--port", "0", FLASK_UPSTREAM=upstream) as url:
        yield url


@pytest.fixture(scope="module")
def impatient_app(upstream: str) -> Iterator[str]:
    with serve_example("flask_app.py", "--port", "0", FLASK_UPSTREAM=upstream, FLASK_TIMEOUT="2") as url:
        yield url


def test_a_view_answers_with_what_the_async_client_fetched(app: str) -> None:
    assert http(f"{app}/files/report") == (200, description("report"))


def test_one_view_fetches_many_files_and_keeps_their_order(app: str) -> None:
    names = [f"file-{number}" for number in range(50)]
    answer = http(f"{app}/files?" + "&".join(f"name={name}" for name in names))
    assert answer == (200, [description(name) for name in names])


def test_thirty_two_threads_each_get_their_own_answer(app: str) -> None:
    barrier = Barrier(THREADS)

    def ask(thread: int) -> list[tuple[Answer, Answer]]:
        barrier.wait()
        names = [f"thread-{thread}-file-{number}" for number in range(10)]
        return [(http(f"{app}/files/{name}"), (200, description(name))) for name in names]

    with ThreadPoolExecutor(THREADS) as pool:
        answers = [pair for pairs in pool.map(ask, range(THREADS)) for pair in pairs]
    assert len(answers) == THREADS * 10
    for answer, expected in answers:
        assert answer == expected


def test_failing_and_good_requests_at_the_same_time_do_not_mix(impatient_app: str) -> None:
    expected = {"broken": 502, "hangup": 502, "short": 502, "missing": 404, "never": 504}
    names = ["fine", *expected] * 6
    barrier = Barrier(len(names))

    def ask(name: str) -> Answer:
        barrier.wait()
        return http(f"{impatient_app}/files/{name}")

    with ThreadPoolExecutor(len(names)) as pool:
        for name, (status, body) in zip(names, pool.map(ask, names), strict=True):
            assert status == expected.get(name, 200), (name, body)
            assert isinstance(body, dict)
            assert ("error" in body) == (name in expected), (name, body)


def test_one_slow_file_among_many_times_the_view_out(impatient_app: str) -> None:
    assert http(f"{impatient_app}/files?name=a&name=never&name=b") == (
        504,
        {"error": "upstream took longer than 2 s"},
    )
    assert http(f"{impatient_app}/files/afterwards") == (200, description("afterwards"))


def test_coroutines_see_the_request_of_the_view_that_started_them(app: str, upstream: str) -> None:
    ids = [f"request-{number}" for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        statuses = pool.map(lambda id: http(f"{app}/files/x", {"X-Request-ID": id})[0], ids)
        assert list(statuses) == [200] * THREADS
    seen = http(f"{upstream}/seen")[1]
    assert sorted(id for id in seen if id.startswith("request-")) == sorted(ids)


def test_an_upstream_that_is_not_there_is_a_bad_gateway(port_nobody_listens_on: int) -> None:
    nowhere = f"http://127.0.0.1:{port_nobody_listens_on}"
    with serve_example("flask_app.py", "--port", "0", FLASK_UPSTREAM=nowhere) as app:
        assert http(f"{app}/files/report")[0] == 502


def test_the_app_runs_under_flask_run_and_ends_in_good_order(upstream: str) -> None:
    with serve_with_flask("flask_app.py", FLASK_UPSTREAM=upstream) as app:
        assert http(f"{app}/files/report") == (200, description("report"))
