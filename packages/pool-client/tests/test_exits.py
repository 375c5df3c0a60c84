"""Open pools at the end of the interpreter, and in a forked child."""

import gc
import os
import sys

import support

from pool_client import exits


class Core:
    """Takes note of what it is told."""

    def __init__(self):
        self.told = []

    def at_exit(self, interrupted):
        self.told.append("interrupt" if interrupted else "exit")

    def after_fork(self):
        self.told.append("fork")


def test_open_pools_are_told_of_the_end():
    core, closed = Core(), Core()
    exits.register(core)
    exits.register(closed)
    exits.forget(closed)
    exits.forget(closed)
    try:
        exits._at_exit()
    finally:
        exits.forget(core)
    assert core.told == ["exit"]
    assert closed.told == []


def test_at_a_prompt_the_last_error_does_not_count(monkeypatch):
    monkeypatch.setattr(exits, "_open", type(exits._open)())
    core = Core()
    exits.register(core)
    monkeypatch.setattr(sys, "last_type", KeyboardInterrupt, raising=False)
    exits._at_exit()
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    exits._at_exit()
    assert core.told == ["interrupt", "exit"]


def test_a_pool_that_was_dropped_is_not_kept():
    core = Core()
    told = core.told
    exits.register(core)
    del core
    gc.collect()
    exits._at_exit()
    assert told == []


def test_the_copy_in_a_forked_child_is_told_once_and_not_waited_for():
    core = Core()
    exits.register(core)
    try:
        forked = os.fork()
        if not forked:
            exits._at_exit()
            os._exit(0 if core.told == ["fork"] else 1)
        assert os.waitpid(forked, 0)[1] == 0
        assert core.told == []
    finally:
        exits.forget(core)


def test_after_a_fork_nothing_is_open(monkeypatch):
    monkeypatch.setattr(exits, "_open", type(exits._open)())
    core = Core()
    exits.register(core)
    exits._after_fork()
    exits._at_exit()
    assert core.told == ["fork"]


def test_pools_are_told_while_their_threads_still_run():
    done = support.run_script(
        """
        import threading
        from pool_client import exits

        asked = threading.Event()

        def serve():
            asked.wait()
            print("told")

        class Core:
            def at_exit(self, interrupted):
                asked.set()
                thread.join()
            def after_fork(self):
                pass

        core = Core()
        exits.register(core)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        """
    )
    assert done.stdout == "told\n"
    assert not done.stderr


class Failing(Core):
    """What it is told, it cannot do."""

    def at_exit(self, interrupted):
        super().at_exit(interrupted)
        raise OSError("the disk is gone")

    def after_fork(self):
        super().after_fork()
        raise OSError("no descriptor")


def test_a_pool_that_does_not_end_well_leaves_the_others_their_end(monkeypatch, caplog):
    """Else their tasks would be lost; and a forked child would wait for ever at its own exit."""
    monkeypatch.setattr(exits, "_open", set())
    cores = [Failing(), Failing()]
    for core in cores:
        exits.register(core)
    exits._at_exit()
    exits._after_fork()
    exits._at_exit()
    assert [core.told for core in cores] == [["exit", "fork"]] * 2
    texts = [(record.getMessage(), str(record.exc_info[1])) for record in caplog.records]
    assert texts == [
        *[("a pool could not be ended at the interpreter's exit", "the disk is gone")] * 2,
        *[("the copy of a pool in a forked child could not be let go", "no descriptor")] * 2,
    ]
