"""Cells of a notebook, run in a real kernel."""

import queue
import textwrap
import time
from collections.abc import Iterator
from typing import Any


def run_cell(kernel: Any, source: str, timeout: float) -> Iterator[tuple[bool, str]]:
    """Run a cell, and yield after each of its messages whether it has ended, and what it printed.

    What its threads and workers print may come after its end, so this goes on for as long as the
    caller wants. An error in the cell, or ``timeout`` seconds, are an AssertionError.
    """
    # By default an error makes the kernel drop the cells that it was sent meanwhile.
    cell = kernel.execute(textwrap.dedent(source), stop_on_error=False)
    deadline = time.monotonic() + timeout
    printed = ""
    ended = False
    while True:
        try:
            message = kernel.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
        except queue.Empty:
            state = "has ended" if ended else "did not end"
            raise AssertionError(f"the cell {state}: {source}\n{printed}") from None
        if message["parent_header"].get("msg_id") != cell:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            printed += content["text"]
        elif message["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            ended = True
        yield ended, printed
