"""One start of a program by a launcher that a test plays."""

import asyncio
import contextlib
import time

import pytest
from packing_model import Speechless

from pool_client.errors import HostError
from pool_client.hosts import launching
from pool_client.hosts.launching import Launch
from pool_client.launchers import Access, HostSpec, Order

SPEC = HostSpec("play", "box", 2)


class Program:
    """A program that runs until it is told otherwise."""

    def __init__(self):
        self.end = None
        self.said = ""
        self.calls = []

    def ended(self):
        return self.end

    def errors(self):
        return self.said

    def hang_up(self):
        self.calls.append("hang_up")
        self.end = self.end or "it has ended"

    def kill(self):
        self.calls.append("kill")

    def close(self):
        self.calls.append("close")

    def abandon(self):
        self.calls.append("abandon")


class Player:
    """A launcher whose launch does what a test says."""

    local = False

    def __init__(self, play=None):
        self.program = Program()
        self.play = play
        self.cancelled = False

    async def launch(self, spec, order):
        try:
            if self.play is not None:
                await self.play()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.program


def launch(launcher, timeout=20.0):
    """Begin; returns the launch, and a future of why it failed."""
    failure = asyncio.get_running_loop().create_future()

    async def listen_tcp():
        raise AssertionError

    order = Order({}, Access(), listen_tcp)
    return Launch(launcher, SPEC, order, timeout, failure.set_result), failure


def run(main):
    return asyncio.run(asyncio.wait_for(main, 20))


async def forever():
    await asyncio.Event().wait()


def test_a_program_that_connects():
    async def main():
        player = Player()
        made, failure = launch(player)
        assert "starting" in repr(made)
        assert made.tail() == ""
        await asyncio.sleep(0)
        assert "running" in repr(made)
        made.connected = True
        await made._task
        assert "connected" in repr(made)
        assert not failure.done()
        assert player.program.calls == []
        player.program.said = "a warning"
        assert made.tail() == "\na warning"
        made.drop()
        assert player.program.calls == ["kill", "close"]
        made.drop()
        assert player.program.calls == ["kill", "close"]

    run(main())


def test_one_that_ends_first_says_why():
    async def main():
        player = Player()
        _, failure = launch(player)
        player.program.said = "no such module"
        player.program.end = "it exited with code 1"
        error = await failure
        assert isinstance(error, HostError)
        assert str(error) == "box: it exited with code 1\nno such module"
        assert player.program.calls == ["kill", "close"]

    run(main())


def test_one_that_never_connects_is_too_late():
    async def main():
        player = Player()
        player.stage = "port 9000 may be closed"
        player.program.said = "hm"
        _, failure = launch(player, timeout=0.05)
        error = await failure
        assert str(error) == (
            "box: pool-worker did not connect back within 0.05 s: port 9000 may be closed\nhm"
        )

    run(main())


def test_a_launcher_that_takes_too_long_is_cancelled():
    async def main():
        player = Player(forever)
        _, failure = launch(player, timeout=0.05)
        error = await failure
        assert str(error) == "box: pool-worker could not be started within 0.05 s"
        assert player.cancelled

    run(main())


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        (HostError("box", "it is on fire"), "box: it is on fire"),
        (ValueError("a bug"), "box: ValueError: a bug"),
        (TimeoutError("of its own"), "box: TimeoutError: of its own"),
        (Speechless(), "box: Speechless: <str() of it raised ValueError>"),
    ],
)
def test_whatever_a_launcher_raises_names_the_host(trouble, text):
    async def fail():
        raise trouble

    async def main():
        _, failure = launch(Player(fail))
        error = await failure
        assert isinstance(error, HostError)
        assert str(error) == text
        assert error is trouble or error.__cause__ is trouble

    run(main())


def test_a_launcher_that_cancels_itself_has_failed():
    """Nobody asked it to, so this is no end of the pool's: the host would be forgotten."""

    async def fail():
        raise asyncio.CancelledError

    async def main():
        _, failure = launch(Player(fail))
        assert str(await failure) == "box: CancelledError: "

    run(main())


def test_a_launcher_that_wants_to_exit_has_failed():
    """It would end the loop, and with it the pool."""

    async def fail():
        raise SystemExit(3)

    async def main():
        _, failure = launch(Player(fail))
        assert str(await failure) == "box: SystemExit: 3"

    run(main())


class Broken(Program):
    """All that a program of somebody else's can do wrong, but for its end."""

    def fail(self):
        raise ZeroDivisionError("a bug")

    errors = hang_up = kill = close = abandon = fail


class BrokenPlayer(Player):
    """Its stage cannot be told either."""

    def __init__(self):
        super().__init__()
        self.program = Broken()

    @property
    def stage(self):
        raise SystemExit("no stage")


def test_a_broken_program_is_told_of_by_the_name_of_its_host(caplog):
    """What it cannot do is left out; the reason why it is ended comes through."""

    async def main():
        player = BrokenPlayer()
        made, failure = launch(player, timeout=0.05)
        assert str(await failure) == "box: pool-worker did not connect back within 0.05 s"
        made, failure = launch(player)
        await asyncio.sleep(0)
        player.program.end = "it exited with code 1"
        assert str(await failure) == "box: it exited with code 1"
        assert made.tail() == "", "it was let go of"

    run(main())
    told = [record.getMessage() for record in caplog.records]
    assert set(told) == {
        "box: its launcher's stage cannot be told: SystemExit: no stage",
        "box: its launcher's errors() has failed: ZeroDivisionError: a bug",
        "box: its launcher's kill() has failed: ZeroDivisionError: a bug",
        "box: its launcher's close() has failed: ZeroDivisionError: a bug",
    }


@pytest.mark.parametrize("method", ["hang_up", "drop", "sweep", "abandon", "close", "give_up"])
def test_a_broken_program_is_let_go_of_all_the_same(method, caplog):
    async def main():
        player = BrokenPlayer()
        made, _ = launch(player)
        await asyncio.sleep(0)
        made.connected = True
        await made._task
        player.program.end = "it has ended"
        outcome = getattr(made, method)()
        if outcome is not None:
            await outcome
        assert made.tail() == ""

    run(main())
    assert caplog.records
    assert all(record.getMessage().startswith("box: ") for record in caplog.records)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (ImportError("the launcher x:y cannot be had"), "box: the launcher x:y cannot be had"),
        (None, "box: the launcher of play:// does not say whether it is local: None"),
    ],
)
def test_a_launcher_that_cannot_be_had_names_the_host(problem, text, monkeypatch):
    def find(scheme):
        assert scheme == "play"
        if problem is not None:
            raise problem

    monkeypatch.setattr(launching, "launcher", find)
    with pytest.raises(HostError) as caught:
        launching.make_launcher(SPEC)
    assert str(caught.value) == text


def test_a_start_under_way_can_be_given_up():
    async def main():
        player = Player(forever)
        made, failure = launch(player)
        await asyncio.sleep(0)
        await made.close()
        assert player.cancelled
        assert not failure.done()
        assert player.program.calls == []

    run(main())


def test_closing_lets_it_end_and_say_its_last(capsys):
    async def main():
        player = Player()
        made, failure = launch(player)
        made.connected = True
        await made._task
        player.program.said = "a last word"
        await made.close()
        assert player.program.calls == ["hang_up", "kill", "close"]
        assert not failure.done()

    run(main())
    assert capsys.readouterr().err == "a last word\n"


def test_closing_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(launching, "_PATIENCE", 0.05)

    async def main():
        player = Player()
        player.program.hang_up = lambda: None
        made, _ = launch(player)
        made.connected = True
        await made._task
        await made.close()
        assert player.program.calls == ["kill", "close"]

    run(main())


def test_a_launcher_that_cannot_be_cancelled_is_not_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(launching, "_PATIENCE", 0.05)

    async def main():
        over = asyncio.Event()

        async def stubborn():
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await over.wait()

        made, failure = launch(Player(stubborn))
        await asyncio.sleep(0)
        await made.close()
        assert not failure.done()
        over.set()

    run(main())
    assert "its launcher cannot be cancelled" in caplog.text


@pytest.mark.parametrize(("method", "calls"), [("sweep", ["close"]), ("abandon", ["abandon"])])
def test_without_a_loop(method, calls):
    async def main():
        player = Player()
        made, _ = launch(player)
        getattr(made, method)()
        assert player.program.calls == []
        await asyncio.sleep(0)
        getattr(made, method)()
        assert player.program.calls == calls
        await made.cancel()

    run(main())


def test_who_has_connected_is_not_overdue(monkeypatch):
    """The time may be over before it is looked at again."""
    monkeypatch.setattr(launching, "_LOOK", 3600)

    async def main():
        player = Player()
        made, failure = launch(player, timeout=0.05)
        await asyncio.sleep(0)
        made.connected = True
        await made._task
        assert not failure.done()
        assert player.program.calls == []
        await made.close()

    run(main())


def test_a_start_is_given_up_in_the_moment_in_which_it_succeeds():
    """Nothing is left of what the launcher has begun."""

    async def main():
        player = Player()
        made, failure = launch(player)
        made.drop()
        await asyncio.create_task(made.give_up())
        assert player.program.calls == ["kill", "close"]
        assert not failure.done()

    run(main())


def test_the_end_of_a_program_is_waited_for_but_not_for_ever():
    async def main():
        player = Player()
        made, _ = launch(player)
        assert await made.wait_for_end(3600) is None, "there is none yet"
        await asyncio.sleep(0)
        made.connected = True
        await made._task  # else it might see the end first, and let go of the program
        assert await made.wait_for_end(0.01) is None
        waiting = asyncio.create_task(made.wait_for_end(3600))
        await asyncio.sleep(0)
        player.program.end = "it has ended"
        assert await waiting == "it has ended"
        player.program.ended = lambda: 1 / 0
        assert await made.wait_for_end(3600) == "ZeroDivisionError: division by zero"
        await made.give_up()
        assert await made.wait_for_end(3600) is None

    run(main())


def test_a_program_that_ended_while_our_own_loop_slept_says_why():
    """The time is over when it is looked at again, but its reason is there."""

    async def main():
        player = Player()
        made, _ = launch(player)
        await asyncio.sleep(0)
        made.connected = True
        await made._task  # else it might see the end first, and let go of the program
        waiting = asyncio.create_task(made.wait_for_end(0.05))
        await asyncio.sleep(0)
        time.sleep(0.1)
        player.program.end = "it has ended"
        assert await waiting == "it has ended"
        await made.give_up()

    run(main())
