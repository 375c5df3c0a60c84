"""In a notebook: cells run inside a loop that is running already, in the same thread."""

import queue
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support import run_script

CELLS = {
    "import": """
        from pool_client import Pool
        FACTOR = 3
        def times(number):
            return FACTOR * number
    """,
    "make": "pool = Pool(2)",
    "run": "print(pool.run(times, 2))",
    "map": "print(list(pool.map(times, range(4))))",
    "run on all": "print(len(pool.run_on_all(times, 1)))",
    "submit": "print(pool.submit(times, 5).result())",
    "await": "print(await pool.run_async(times, 7))",
    "map async": "print([x async for x in pool.map_async(times, range(3))])",
    "end": "pool.shutdown()",
    "with": """
        with Pool(1) as other:
            print(other.run(times, 10))
    """,
    "await pool": """
        third = await Pool(1)
        print(third.run(times, 11), await third.run_async(times, 12))
        await third.shutdown_async()
    """,
    "async with": """
        async with Pool(1) as fourth:
            print(await fourth.run_async(times, 13))
    """,
}
OUTPUT = "6\n[0, 3, 6, 9]\n2\n15\n21\n[0, 3, 6]\n30\n33 36\n39\n"


def test_cells_in_a_running_loop() -> None:
    """Cells compiled with top-level await, in one running loop, behave as they do in a script."""
    script = f"""
        import ast, asyncio, inspect, textwrap

        CELLS = {list(CELLS.values())!r}

        async def notebook():
            for cell in CELLS:
                source = textwrap.dedent(cell)
                code = compile(source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                made = eval(code, globals())
                if inspect.iscoroutine(made):
                    await made
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(notebook(), 40))
    """
    assert run_script(script).stdout == OUTPUT


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    """Yield the client of a real Jupyter kernel."""
    pytest.importorskip("ipykernel")
    manager_module = pytest.importorskip("jupyter_client.manager")
    manager, client = manager_module.start_new_kernel(startup_timeout=40)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run_cell(kernel: Any, source: str, timeout: float = 40) -> str:
    """Run a cell and return what it printed."""
    # By default an error makes the kernel drop the cells that it was sent meanwhile.
    cell = kernel.execute(textwrap.dedent(source), stop_on_error=False)
    deadline = time.monotonic() + timeout
    printed = ""
    while True:
        try:
            message = kernel.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"the cell did not end: {source}\n{printed}") from None
        if message["parent_header"].get("msg_id") != cell:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            printed += content["text"]
        elif message["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return printed


def test_real_kernel(kernel: Any) -> None:
    """The same cells give the same output in a real ipykernel."""
    assert "".join(run_cell(kernel, cell) for cell in CELLS.values()) == OUTPUT


def test_redefined_function_in_a_kernel(kernel: Any) -> None:
    """A function that a cell defines anew is the new one in the workers, too."""
    cells = [
        "from pool_client import Pool\npool = Pool(1)",
        "def f():\n    return 'old'\nprint(pool.run(f))",
        "def f():\n    return 'new'\nprint(pool.run(f))",
        "pool.shutdown()",
    ]
    assert "".join(run_cell(kernel, cell) for cell in cells) == "old\nnew\n"


def test_error_in_a_cell(kernel: Any) -> None:
    """An error in a task is shown in the cell, and the next cell works."""
    run_cell(kernel, "from pool_client import Pool\npool = Pool(1)")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_cell(kernel, "pool.run(lambda: 1 / 0)")
    assert run_cell(kernel, "print(pool.run(abs, -1))\npool.shutdown()") == "1\n"
