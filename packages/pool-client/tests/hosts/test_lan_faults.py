"""The fault tests of workers once more, with workers on a LAN host in place of local ones."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import support
from faults import test_blame, test_leftovers, test_timeouts, test_worker_death
from faults.test_blame import test_mapped_items, test_single_tasks
from faults.test_leftovers import (
    test_closed_standard_streams,
    test_processes_end_with_the_pool,
    test_processes_end_with_their_worker,
    test_sys_exit,
)
from faults.test_timeouts import test_only_its_own_worker_is_killed, test_past_its_timeout
from faults.test_worker_death import (
    test_exceptions_are_not_retried,
    test_finished_results_survive_the_worker,
    test_killed_at_any_moment,
    test_killed_by_the_task_and_retried,
    test_killed_from_outside_in_a_task,
    test_killed_while_idle,
    test_killed_while_receiving_arguments,
    test_killed_while_sending_a_result,
    test_results_survive_while_the_client_writes,
    test_several_killed_at_once,
    test_supervisor_killed_while_tasks_run,
    test_worker_lost_says_what_happened,
)

from hosts.lan import Spawner

__all__ = [
    "test_closed_standard_streams",
    "test_exceptions_are_not_retried",
    "test_finished_results_survive_the_worker",
    "test_killed_at_any_moment",
    "test_killed_by_the_task_and_retried",
    "test_killed_from_outside_in_a_task",
    "test_killed_while_idle",
    "test_killed_while_receiving_arguments",
    "test_killed_while_sending_a_result",
    "test_mapped_items",
    "test_only_its_own_worker_is_killed",
    "test_past_its_timeout",
    "test_processes_end_with_the_pool",
    "test_processes_end_with_their_worker",
    "test_results_survive_while_the_client_writes",
    "test_several_killed_at_once",
    "test_single_tasks",
    "test_supervisor_killed_while_tasks_run",
    "test_sys_exit",
    "test_worker_lost_says_what_happened",
]

MODULES: tuple[ModuleType, ...] = (test_blame, test_leftovers, test_timeouts, test_worker_death)
TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def shared(credential: Path) -> Iterator[Spawner]:
    """One pool-spawner for all of these tests."""
    with Spawner(credential, "--max-workers", "100") as running:
        yield running


@pytest.fixture(autouse=True)
def on_the_lan(monkeypatch: pytest.MonkeyPatch, shared: Spawner, credential: Path) -> None:
    """Let the pools of those tests have their workers there, with the tests' own modules."""

    def running_pool(workers: int, **options: object) -> object:
        return support.running_pool(
            num_workers=0,
            hosts=[shared.host(workers)],
            credential=credential,
            code_paths=[TESTS],
            **options,
        )

    for module in MODULES:
        monkeypatch.setattr(module, "running_pool", running_pool)
