"""Stands in for ssh where there is no sshd: runs the command here, and makes the tunnel itself.

    Pool(hosts="ssh://anywhere/2", ssh_command=fake_ssh.command(delay=0.02))

It takes ssh's words, looks at ``-R`` and at the last one alone, and passes the tunnel's connections
on, each way so many seconds later.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence

if __package__:
    from hosts.slow_line import Joins
else:  # run as a program
    from slow_line import Joins


def command(delay: float = 0.0) -> list[str]:
    """The value for ``ssh_command=``."""
    return [sys.executable, __file__, str(delay)]


async def run(delay: float, words: Sequence[str]) -> None:
    """Make the tunnel, run the command to its end, and end with its status."""
    there, _, here = words[words.index("-R") + 1].partition(":")
    joins = Joins(here, delay)
    await asyncio.start_unix_server(joins, there, limit=1 << 18)
    child = subprocess.Popen(["sh", "-c", words[-1]])
    # No asyncio subprocess: there is one thing to wait for.
    status = await asyncio.to_thread(child.wait)
    await joins.ended()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(there)
    os._exit(status)


if __name__ == "__main__":
    asyncio.run(run(float(sys.argv[1]), sys.argv[2:]))
