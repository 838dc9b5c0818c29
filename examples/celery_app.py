"""Celery tasks that await async code, with one loop for each of the worker's processes.

    pip install asyncio-thread-loop 'celery[redis]'
    cd examples
    celery --app celery_app worker --concurrency 2 &
    python celery_app.py 3 1 2

CELERY_BROKER_URL says where Redis is.
"""

import asyncio
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from asyncio_thread_loop import AsyncioThreadLoop

REDIS = os.environ.get("CELERY_BROKER_URL", "redis://localhost")

app = Celery("celery_app", broker=REDIS, backend=REDIS)
loop = AsyncioThreadLoop(exit_timeout=5)


@worker_process_init.connect
def open_loop(**_: Any) -> None:
    loop.start()


# Celery leaves its processes with os._exit(), so nothing that Python does at exit would close the loop.
@worker_process_shutdown.connect
def close_loop(**_: Any) -> None:
    loop.close()


async def double(number: int) -> int:
    await asyncio.sleep(0.01)  # a client of some service
    return 2 * number


# Past its soft time limit Celery raises SoftTimeLimitExceeded in the task. The coroutines are cancelled and their
# cleanup is awaited before the task sees it.
@app.task(soft_time_limit=60)
def double_all(numbers: list[int]) -> list[int]:
    return loop.evaluate_many((double(number) for number in numbers), limit=10)


if __name__ == "__main__":
    print(double_all.delay([int(number) for number in sys.argv[1:]]).get(timeout=10))
