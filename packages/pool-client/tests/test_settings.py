"""What supervisors and workers are told at their start."""

import os
import pickle
import sys
import threading
from dataclasses import replace

import pytest
import support

from pool_client import Pool
from pool_client.errors import FrameTooLarge
from pool_client.hosts.settings import make_settings, make_setup, owns_descriptors
from pool_client.launchers import HostSpec


def options(**given):
    pool = Pool(1, lazy_create=True)
    pool.shutdown()
    return replace(pool._core.options, **given)


def test_setup_without_initializer() -> None:
    """Without an initializer nothing is packed, and the settings are passed on."""
    setup = make_setup(options(max_message=4096))
    assert bytes(setup.blob) == b""
    assert setup.max_message == 4096


def test_setup_with_initializer() -> None:
    """The initializer and its arguments are packed together."""
    setup = make_setup(options(initializer=divmod, initargs=(7, 2)))
    func, args = pickle.loads(setup.blob)
    assert func(*args) == (3, 1)


def test_setup_with_large_initializer() -> None:
    """An initializer that is larger than a message may be is refused; a smaller one is not."""
    given = options(initializer=print, initargs=("x" * 5000,))
    with pytest.raises(FrameTooLarge):
        make_setup(replace(given, max_message=4096))
    assert len(make_setup(replace(given, max_message=8192)).blob) > 5000


def test_setup_with_an_initializer_that_cannot_be_sent() -> None:
    """What cannot be pickled is named, and why."""
    given = options(initializer=print, initargs=(threading.Lock(),))
    with pytest.raises(pickle.PicklingError, match=r"the initializer, or what .*initargs.*lock"):
        make_setup(given)


def test_this_machine_shares_its_surroundings(monkeypatch) -> None:
    """A local worker works in the client's folder and finds what the client finds."""
    monkeypatch.setattr(sys, "path", ["", "/somewhere", "relative"])
    made = make_settings(HostSpec("local", "local", 3), True, 4096)
    assert made["cwd"] == os.getcwd()
    assert made["sys_path"] == [os.getcwd(), "/somewhere", "relative"]
    assert (made["host"], made["share"], made["max_message"]) == ("local", 3, 4096)
    assert not made["modules"]


def test_another_machine_keeps_its_own() -> None:
    """A remote worker has its own folder and path, asks for modules, and sends its output."""
    made = make_settings(HostSpec("ssh", "box", 2, "me"), False, None)
    assert (made["cwd"], made["sys_path"], made["stderr"], made["client_pid"]) == (None,) * 4
    assert (made["host"], made["modules"], made["output"]) == ("me@box", True, True)


def test_one_worker_for_each_cpu_gets_one_thread() -> None:
    """Where the number of workers is not known yet, it is the number of CPUs."""
    made = make_settings(HostSpec("ssh", "box", 0), False, None)
    assert made["share"] >= 4096


def test_a_folder_that_is_gone(monkeypatch) -> None:
    """A client whose working directory was removed still starts workers."""

    def gone():
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    made = make_settings(HostSpec("local", "local", 1), True, None)
    assert (made["cwd"], made["sys_path"]) == (None, ["/somewhere"])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_forwarded_where_the_streams_are_not_the_descriptors(monkeypatch, stream) -> None:
    """In a notebook or under a test runner, workers cannot just write to the descriptors."""

    class Elsewhere:
        def fileno(self):
            raise OSError("no descriptor")

    class Descriptor:
        def __init__(self, number):
            self.number = number

        def fileno(self):
            return self.number

    monkeypatch.setattr(sys, "stdout", Descriptor(1))
    monkeypatch.setattr(sys, "stderr", Descriptor(2))
    assert owns_descriptors()
    assert not make_settings(HostSpec("local", "local", 1), True, None)["output"]
    for other in (Elsewhere(), Descriptor(7), object()):
        monkeypatch.setattr(sys, stream, other)
        assert not owns_descriptors()
    assert make_settings(HostSpec("local", "local", 1), True, None)["output"]
    monkeypatch.setattr(sys, stream, None)
    assert owns_descriptors(), "nobody wants to see anything"


def test_in_a_plain_program_the_descriptors_are_the_streams() -> None:
    """A script's workers write where the script writes."""
    script = "from pool_client.hosts.settings import owns_descriptors\nprint(owns_descriptors())"
    assert support.run_script(script).stdout == "True\n"
