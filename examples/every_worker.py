"""Prepare each worker once, with an initializer, and ask all of them with `run_on_all`."""

import os
import sqlite3

from pool_client import Pool

database: sqlite3.Connection


def connect(words: list[str]) -> None:
    """Make what is expensive to make and cannot be sent: here, a database in memory."""
    global database
    database = sqlite3.connect(":memory:")
    database.execute("create table words (word text)")
    database.executemany("insert into words values (?)", [(word,) for word in words])


def count(pattern: str) -> int:
    """Use it."""
    number: int
    (number,) = database.execute(
        "select count(*) from words where word like ?", [pattern]
    ).fetchone()
    return number


with Pool(2, initializer=connect, initargs=(["spam", "ham", "eggs"],)) as pool:
    print("words with an a:", pool.run(count, "%a%"))
    print("on every worker:", pool.run_on_all(count, "%"))
    print("processes:", len(set(pool.run_on_all(os.getpid))))
