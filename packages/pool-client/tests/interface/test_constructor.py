"""The arguments of `Pool`, what they mean, and the errors of the wrong ones."""

import os
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import interface_tasks as tasks
import pytest
from support import run_script

from pool_client import LoopType, PickleType
from pool_client import Pool as TypedPool
from pool_client.options import cpu_count

Pool: Any = TypedPool  # wrong arguments are given on purpose


def workers_of(*args: Any, **kwargs: Any) -> int:
    """Return how many workers the pool with these arguments has."""
    with Pool(*args, **kwargs) as pool:
        assert pool.run(abs, -1) == 1
        return int(pool.total_workers())


def test_is_an_executor() -> None:
    """A pool is a `concurrent.futures.Executor`."""
    assert issubclass(Pool, Executor)


@pytest.mark.parametrize("number", [None, 0])
def test_no_number_means_the_cpus(number: int | None) -> None:
    """``None``, and 0 without hosts, stand for the CPUs that this process may use."""
    assert workers_of(number) == cpu_count()


def test_cpu_affinity_counts() -> None:
    """A process that may use one CPU gets one worker."""
    script = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        from pool_client import Pool
        with Pool() as pool:
            pool.run(abs, -1)
            print(pool.total_workers())
    """
    assert run_script(script).stdout.split() == ["1"]


@pytest.mark.parametrize("number", [1, 3])
def test_number_of_workers(number: int) -> None:
    """So many workers are started as were asked for."""
    assert workers_of(number) == number


def test_max_workers_is_another_name() -> None:
    """``max_workers=`` is what `ProcessPoolExecutor` calls ``num_workers``."""
    assert workers_of(max_workers=3) == 3


@pytest.mark.parametrize("name", ["num_workers", "max_workers"])
def test_negative_number(name: str) -> None:
    """A negative number of workers is refused."""
    with pytest.raises(ValueError):
        Pool(**{name: -1})


@pytest.mark.parametrize("qsize", [0, -1])
def test_qsize_below_one(qsize: int) -> None:
    """A worker cannot hold less than the task that it runs."""
    with pytest.raises(ValueError, match="qsize"):
        Pool(1, qsize=qsize)


@pytest.mark.parametrize("qsize", [None, 1, 2, 100])
def test_qsize(qsize: int | None) -> None:
    """Any number of tasks in a worker's hands gives the same results."""
    with Pool(2, qsize=qsize) as pool:
        futures = [pool.submit(tasks.square, number) for number in range(50)]
        assert [future.result(30) for future in futures] == [n * n for n in range(50)]


def test_qsize_counts_the_running_task(tmp_path: Path) -> None:
    """With ``qsize=1`` what waits behind a running task can still be cancelled, all of it."""
    gate = str(tmp_path / "gate")
    with Pool(1, qsize=1) as pool:
        first = pool.submit(tasks.pass_gate, gate, 1, str(tmp_path / "here"))
        others = [pool.submit(abs, -n) for n in range(5)]
        assert all(future.cancel() for future in others)
        Path(gate).touch()
        assert first.result(30) == 1


def test_local_host_string() -> None:
    """``local/n`` is a host like any other, and 0 means no further local workers then."""
    assert workers_of(0, ["local/2"]) == 2


def test_local_host_string_beside_local_workers() -> None:
    """The workers of hosts are added to the local ones."""
    assert workers_of(1, ["local/2"]) == 3


def test_unknown_host_scheme_lists_the_known() -> None:
    """The error for an unknown scheme says which there are."""
    with pytest.raises(ValueError, match="local"), Pool(0, ["gopher://somewhere/2"]) as pool:
        pool.run(abs, -1)


def test_enums_are_numbered_from_zero() -> None:
    """The choices are integers in the documented order."""
    loops = [LoopType.default, LoopType.asyncio, LoopType.uvloop, LoopType.proactor, LoopType.qt]
    assert loops == [0, 1, 2, 3, 4]
    assert len(LoopType) == 5
    assert [PickleType.pickle, PickleType.cloudpickle, PickleType.dill] == [0, 1, 2]
    assert len(PickleType) == 3


def test_plain_ints_for_enums() -> None:
    """Plain integers do for the enums."""
    with Pool(1, worker_loop=1, func_pickle=0, data_pickle=1) as pool:
        assert pool.run(tasks.loop_module).startswith("asyncio")


@pytest.mark.parametrize("name", ["worker_loop", "func_pickle", "data_pickle"])
def test_int_out_of_range(name: str) -> None:
    """A number that stands for no choice is refused at once."""
    with pytest.raises(ValueError):
        Pool(1, **{name: 99})


def test_asyncio_loop() -> None:
    """A worker that was asked for asyncio's loop has it, uvloop installed or not."""
    with Pool(1, worker_loop=LoopType.asyncio) as pool:
        assert pool.run(tasks.loop_module).startswith("asyncio")


def test_uvloop() -> None:
    """A worker that was asked for uvloop has it."""
    pytest.importorskip("uvloop")
    with Pool(1, worker_loop=LoopType.uvloop) as pool:
        assert pool.run(tasks.loop_module).startswith("uvloop")


def test_default_loop_is_uvloop_where_installed() -> None:
    """By default a worker uses uvloop where it is installed."""
    pytest.importorskip("uvloop")
    with Pool(1) as pool:
        assert pool.run(tasks.loop_module).startswith("uvloop")


@pytest.mark.skipif(os.name == "nt", reason="there it can be had")
def test_proactor_names_its_platform() -> None:
    """The proactor loop is refused with the name of the platform that has it."""
    with pytest.raises(Exception, match="Windows"), Pool(1, worker_loop=LoopType.proactor) as pool:
        pool.run(abs, -1)


def test_qt_names_its_package() -> None:
    """The Qt loop is refused with the name of the package that it needs."""
    for package in ("qasync", "PySide6", "PyQt6", "PyQt5"):
        try:
            __import__(package)
        except ImportError:
            continue
        pytest.skip(f"{package} is installed")
    with pytest.raises(ImportError, match="pip install qasync"):
        Pool(1, worker_loop=4)


@pytest.mark.parametrize(
    ("package", "argument"),
    [("uvloop", "worker_loop=LoopType.uvloop"), ("dill", "func_pickle=PickleType.dill")],
)
def test_missing_package_is_named(tmp_path: Path, package: str, argument: str) -> None:
    """A loop or pickler whose package is not installed raises soon, naming the package."""
    (tmp_path / f"{package}.py").write_text("raise ImportError('not installed, for a test')\n")
    script = f"""
        import sys
        sys.modules["{package}"] = None
        from pool_client import LoopType, PickleType, Pool
        try:
            with Pool(1, {argument}) as pool:
                print("value", pool.run(abs, -1))
        except Exception as error:
            print("error", type(error).__name__, error)
    """
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    output = run_script(script, env={"PYTHONPATH": path}).stdout
    assert output.startswith("error")
    assert package in output


def test_keyword_only_arguments() -> None:
    """What comes after ``data_pickle`` is given by name."""
    with pytest.raises(TypeError):
        Pool(1, None, None, None, (), "", 0, False, 0, 1, 0, 2)


@pytest.mark.parametrize("name", ["max_tasks_per_child", "retries"])
def test_negative_settings(name: str) -> None:
    """A negative count is refused."""
    with pytest.raises(ValueError):
        Pool(1, **{name: -1})


def test_initializer_must_be_callable() -> None:
    """As with `ProcessPoolExecutor`, an initializer that cannot be called is refused."""
    with pytest.raises(TypeError):
        Pool(1, initializer=5)


def test_unknown_argument() -> None:
    """A misspelt argument is refused."""
    with pytest.raises(TypeError):
        Pool(1, num_worker=2)
