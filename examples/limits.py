"""Tasks that hang or crash: a time limit, retries, and errors that say what happened."""

import os
import signal
import time

from pool_client import Pool, TaskTimeout, WorkerLost


def hang() -> None:
    """Never return."""
    while True:
        time.sleep(1)


def crash() -> None:
    """Take the worker down."""
    os.kill(os.getpid(), signal.SIGKILL)


with Pool(2) as pool:
    good = [pool.submit(pow, 2, n) for n in range(1000)]

    try:
        pool.options(timeout=0.2).run(hang)
    except TaskTimeout as error:
        print("hang:", error)

    try:
        pool.options(retries=1).run(crash)
    except WorkerLost as error:
        print("crash:", error)

    # The other tasks are unharmed, and so is the pool.
    print("good:", sum(future.result() for future in good) == 2**1000 - 1)
    print("afterwards:", pool.run(pow, 2, 10))
