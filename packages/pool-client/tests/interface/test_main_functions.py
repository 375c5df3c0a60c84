"""Functions of `__main__`, without a guard, and of modules beside the script."""

import textwrap
from pathlib import Path

import pytest
from support import run_script

GLOBALS = """
    from pool_client import Pool

    FACTOR = 3

    def times(number):
        return FACTOR * number

    def outer(number):
        return times(number) + 1

    {rest}
"""

PLAIN = """
    with Pool(2) as pool:
        print(pool.run(outer, 2), list(pool.map(outer, range(4))), pool.submit(times, 5).result())
"""


def script_with(rest: str) -> str:
    """Return the script whose functions use the globals of their module, with *rest* at its end."""
    return GLOBALS.replace("    {rest}", rest.strip("\n"))


def test_file_without_guard(tmp_path: Path) -> None:
    """A script's functions that use its globals work, and the script runs once."""
    script = script_with(PLAIN) + '    print("once")\n'
    output = run_script(script, as_file=tmp_path / "job.py").stdout
    assert output == "7 [1, 4, 7, 10] 15\nonce\n"


def test_command_string() -> None:
    """The same works for ``python -c``."""
    assert run_script(script_with(PLAIN)).stdout == "7 [1, 4, 7, 10] 15\n"


def test_standard_input(tmp_path: Path) -> None:
    """The same works for a script on standard input."""
    source = tmp_path / "typed.py"
    source.write_text(textwrap.dedent(script_with(PLAIN)))
    script = """
        import subprocess, sys
        done = subprocess.run([sys.executable, "-"], stdin=open(sys.argv[1]), timeout=30)
        sys.exit(done.returncode)
    """
    assert run_script(script, source).stdout == "7 [1, 4, 7, 10] 15\n"


def test_module_run_as_main(tmp_path: Path) -> None:
    """The same works for ``python -m``."""
    (tmp_path / "job_module.py").write_text(textwrap.dedent(script_with(PLAIN)))
    script = """
        import subprocess, sys
        sys.exit(subprocess.run([sys.executable, "-m", "job_module"], timeout=30).returncode)
    """
    assert run_script(script, cwd=tmp_path).stdout == "7 [1, 4, 7, 10] 15\n"


def test_lambda_closure_and_method_of_main() -> None:
    """Lambdas, closures, methods and async functions of `__main__` work."""
    script = """
        import asyncio
        from functools import partial
        from pool_client import Pool

        class Shop:
            tax = 2
            def __init__(self, price):
                self.price = price
            def total(self, count):
                return self.price * count + self.tax

        def adder(base):
            return lambda number: base + number

        async def slowly(number):
            await asyncio.sleep(0.001)
            return Shop(number).total(1)

        with Pool(2) as pool:
            print(pool.run(lambda: 1), pool.run(adder(10), 5), pool.run(Shop(3).total, 4))
            print(pool.run(slowly, 7), pool.run(partial(adder(1), 2)))
    """
    assert run_script(script).stdout == "1 15 14\n9 3\n"


def test_instances_of_main_classes_come_back(tmp_path: Path) -> None:
    """A result that is an instance of a class of `__main__` is one of the client's class."""
    script = """
        from dataclasses import dataclass
        from pool_client import PickleType, Pool

        @dataclass
        class Point:
            x: int

        def make(x):
            return Point(x)

        def read(point):
            return point.x

        with Pool(1, data_pickle=PickleType.cloudpickle) as pool:
            print(pool.run(read, Point(5)), pool.run(make, 4).x)
    """
    assert run_script(script, as_file=tmp_path / "points.py").stdout == "5 4\n"


def test_exception_of_main() -> None:
    """An exception class of `__main__` is caught under its own name."""
    script = """
        from pool_client import Pool

        class Trouble(Exception):
            pass

        def work(number):
            raise Trouble(number)

        with Pool(1) as pool:
            try:
                pool.run(work, 5)
            except Trouble as error:
                print("caught", error.args)
    """
    assert run_script(script).stdout == "caught (5,)\n"


def test_recursion_in_main() -> None:
    """A function of `__main__` that calls itself works."""
    script = """
        from pool_client import Pool

        def factorial(n):
            return n * factorial(n - 1) if n else 1

        with Pool(1) as pool:
            print(pool.run(factorial, 10))
    """
    assert run_script(script).stdout == "3628800\n"


def test_module_beside_the_script(tmp_path: Path) -> None:
    """Functions of a module beside the script work, from whatever directory it is started."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "beside.py").write_text("LIMIT = 4\ndef up_to(n):\n    return min(n, LIMIT)\n")
    script = """
        import beside
        from pool_client import Pool
        with Pool(2) as pool:
            print(list(pool.map(beside.up_to, range(7))), pool.run(beside.up_to, 9))
    """
    output = run_script(script, as_file=folder / "job.py", cwd=tmp_path).stdout
    assert output == "[0, 1, 2, 3, 4, 4, 4] 4\n"


def test_the_module_beside_is_imported_not_copied(tmp_path: Path) -> None:
    """Such a function runs in its own module, whose state lasts from task to task."""
    (tmp_path / "counter.py").write_text(
        "count = 0\ndef up():\n    global count\n    count += 1\n    return count\n"
    )
    script = """
        import counter
        from pool_client import Pool
        with Pool(1) as pool:
            print([pool.run(counter.up) for _ in range(3)], counter.count)
    """
    assert run_script(script, as_file=tmp_path / "job.py").stdout == "[1, 2, 3] 0\n"


def test_package_beside_the_script(tmp_path: Path) -> None:
    """Modules of a package beside the script work, relative imports included."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "prices.py").write_text("PRICE = 5\n")
    (package / "sums.py").write_text(
        "from .prices import PRICE\ndef total(n):\n    return n * PRICE\n"
    )
    script = """
        from shop.sums import total
        from pool_client import Pool
        with Pool(1) as pool:
            print(pool.run(total, 3))
    """
    assert run_script(script, as_file=tmp_path / "job.py").stdout == "15\n"


@pytest.mark.parametrize("how", ["await pool", "async with"])
def test_asynchronous_main(tmp_path: Path, how: str) -> None:
    """An asynchronous script without a guard works in both of its forms."""
    script = """
        import asyncio, sys
        from pool_client import Pool

        FACTOR = 3

        def times(number):
            return FACTOR * number

        async def use(pool):
            mapped = [result async for result in pool.map_async(times, [1, 2])]
            print(await pool.run_async(times, 2), mapped)

        async def main():
            if sys.argv[1] == "await pool":
                pool = await Pool(2)
                await use(pool)
                await pool.shutdown_async()
            else:
                async with Pool(2) as pool:
                    await use(pool)

        asyncio.run(main())
    """
    assert run_script(script, how, as_file=tmp_path / "job.py").stdout == "6 [3, 6]\n"


def test_output_of_tasks_reaches_the_terminal() -> None:
    """What a task prints appears on the client's standard output."""
    script = """
        from pool_client import Pool
        with Pool(1) as pool:
            pool.run(print, "from the task", flush=True)
    """
    assert "from the task" in run_script(script).stdout


def test_nothing_is_printed() -> None:
    """A script that does ordinary things gets no output of ours, warnings on included."""
    script = """
        from pool_client import Pool
        with Pool(2) as pool:
            assert list(pool.map(abs, range(100))) == list(range(100))
    """
    done = run_script(script, options=["-W", "default", "-X", "dev"])
    assert (done.stdout, done.stderr) == ("", "")


def test_script_in_a_child_of_multiprocessing(tmp_path: Path) -> None:
    """In a spawned child the script is another module, which no worker can import."""
    script = """
        import multiprocessing
        from dataclasses import dataclass
        from pool_client import Pool

        @dataclass
        class Point:
            x: int

        def remember(number):
            global FACTOR
            FACTOR = number

        def times(point):
            return Point(FACTOR * point.x)

        def child():
            with Pool(1, initializer=remember, initargs=(3,)) as pool:
                print(pool.run(times, Point(2)), list(pool.map(times, [Point(1)])) == [Point(3)])

        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start()
            process.join()
    """
    assert run_script(script, as_file=tmp_path / "job.py").stdout == "Point(x=6) True\n"


def test_functions_and_properties_with_a_cache() -> None:
    """What `functools` caches can be called, used by others, sent and returned."""
    script = """
        import functools
        from pool_client import Pool

        @functools.cache
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)

        class Circle:
            def __init__(self, radius):
                self.radius = radius

            @functools.cached_property
            def twice(self):
                return 2 * self.radius

        def remember(n):
            fib(n)

        def known(n):
            return fib(n), fib.cache_info().currsize

        with Pool(1, initializer=remember, initargs=(9,)) as pool:
            print(list(pool.map(fib, range(8))), pool.run(fib, 30), fib.cache_info().currsize)
            print(pool.run(known, 20), pool.run(known, 2), pool.run(lambda: fib)(7))
            print(pool.run(lambda circle: circle.twice, Circle(4)), pool.run(Circle, 5).twice)
    """
    assert run_script(script).stdout.splitlines() == [
        "[0, 1, 1, 2, 3, 5, 8, 13] 832040 0",
        "(6765, 21) (1, 21) 13",
        "8 10",
    ]
