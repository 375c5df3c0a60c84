"""In a notebook: cells run inside a loop that is running already, in the same thread."""

import tempfile
from collections.abc import Iterator
from typing import Any

import cells
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
    """Yield the client of a real Jupyter kernel, with Unix sockets: ports can be taken."""
    pytest.importorskip("ipykernel")
    manager_module = pytest.importorskip("jupyter_client.manager")
    with tempfile.TemporaryDirectory() as folder:
        manager = manager_module.KernelManager(transport="ipc", ip=f"{folder}/kernel")
        manager.start_kernel()
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            yield client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def printed_by(kernel: Any, source: str, timeout: float = 40) -> str:
    """Run a cell and return what it printed."""
    return next(printed for ended, printed in cells.run_cell(kernel, source, timeout) if ended)


def test_real_kernel(kernel: Any) -> None:
    """The same cells give the same output in a real ipykernel."""
    assert "".join(printed_by(kernel, cell) for cell in CELLS.values()) == OUTPUT


def test_redefined_function_in_a_kernel(kernel: Any) -> None:
    """A function that a cell defines anew is the new one in the workers, too."""
    cells = [
        "from pool_client import Pool\npool = Pool(1)",
        "def f():\n    return 'old'\nprint(pool.run(f))",
        "def f():\n    return 'new'\nprint(pool.run(f))",
        "pool.shutdown()",
    ]
    assert "".join(printed_by(kernel, cell) for cell in cells) == "old\nnew\n"


def test_error_in_a_cell(kernel: Any) -> None:
    """An error in a task is shown in the cell, and the next cell works."""
    printed_by(kernel, "from pool_client import Pool\npool = Pool(1)")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        printed_by(kernel, "pool.run(lambda: 1 / 0)")
    assert printed_by(kernel, "print(pool.run(abs, -1))\npool.shutdown()") == "1\n"
