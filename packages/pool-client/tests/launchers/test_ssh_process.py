"""A running ssh and its pipes: other programs stand in for it here."""

import asyncio
import os
import signal
import sys
import threading

import pytest
import support
import uvloop

from pool_client.launchers.ssh_process import SshProcess


def explain(status, stderr, begun):
    return f"{status} {stderr!r} {begun}"


def python(source, *arguments):
    return [sys.executable, "-c", source, *map(str, arguments)]


@pytest.fixture(params=["asyncio", "uvloop", "uvloop in a thread"])
def run(request):
    """Run a coroutine function on a loop of each kind."""

    def on_loop(function):
        kind = request.param.split()[0]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if kind == "uvloop" else None) as r:
            return r.run(asyncio.wait_for(function(), 30))

    def in_thread(function):
        results = []

        def target():
            try:
                results.append((on_loop(function), None))
            except BaseException as error:
                results.append((None, error))

        thread = threading.Thread(target=target)
        thread.start()
        thread.join(40)
        value, error = results[0]
        if error is not None:
            raise error
        return value

    return in_thread if "thread" in request.param else on_loop


def end(process):
    process.kill()
    process.close()


class TestTheDialogue:
    def test_the_answer_stands_behind_the_mark_whatever_comes_before(self, run):
        async def body():
            noise = "echo welcome; printf 'MARKS and noise'; echo; echo MARK yes 1; cat"
            process = SshProcess(["sh", "-c", noise], "MARK", explain)
            assert await process.answer() == "yes 1"
            end(process)

        run(body)

    def test_an_answer_in_pieces_is_put_together(self, run):
        pieces = (
            "import time\nfor c in 'x MARK yes\\n': print(c, end='', flush=True); time.sleep(0.01)"
        )

        async def body():
            process = SshProcess(python(pieces), "MARK", explain)
            assert await process.answer() == "yes"
            end(process)

        run(body)

    def test_an_output_that_ends_without_an_answer(self, run):
        async def body():
            process = SshProcess(["sh", "-c", "echo MARK; echo no >&2; exit 3"], "MARK", explain)
            assert await process.answer() is None
            assert await process.finish() == r"3 'no\nMARK' False"
            process.close()

        run(body)

    def test_endless_noise_is_bounded(self, run):
        noise = "import sys\nwhile True: sys.stdout.write('noise ' * 10000)"

        async def body():
            process = SshProcess(python(noise), "MARK", explain)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.answer(), 0.5)
            assert len(process._output) <= 1 << 16
            end(process)

        run(body)

    def test_more_than_a_pipe_holds_is_written_while_the_loop_goes_on(self, run, tmp_path):
        """What takes it does not begin before the loop has gone round a few times."""
        gate = tmp_path / "gate"
        take = (
            "import os, sys, time\n"
            "while not os.path.exists(sys.argv[1]): time.sleep(0.001)\n"
            "print('MARK', len(sys.stdin.buffer.read()))"
        )

        async def body():
            process = SshProcess(python(take, gate), "MARK", explain)
            writing = asyncio.create_task(process.write(b"x" * 1_000_000))
            for _ in range(10):
                await asyncio.sleep(0.001)
                assert not writing.done()
            gate.touch()
            await writing
            process.hang_up()
            assert await process.answer() == "1000000"
            await process.finish()
            process.close()

        run(body)

    def test_once_all_is_written_the_loop_rests(self, run):
        async def body():
            process = SshProcess(["cat"], "MARK", explain)
            await process.write(b"x" * 1_000_000)
            watched = asyncio.get_running_loop().remove_writer(process._stdin.fileno())
            assert not watched
            end(process)

        run(body)

    def test_a_program_that_ends_before_it_has_read_all_is_no_error_here(self, run):
        async def body():
            process = SshProcess(["sh", "-c", "echo refused >&2; exit 255"], "MARK", explain)
            await process.write(b"x" * 1_000_000)
            assert await process.finish() == "255 'refused' False"
            process.close()

        run(body)

    def test_a_program_that_says_no_more_but_stays_is_ended(self, run, monkeypatch):
        monkeypatch.setattr("pool_client.launchers.ssh_process._PATIENCE", 0.2)

        async def body():
            process = SshProcess(["sh", "-c", "exec >&-; sleep 1000"], "MARK", explain)
            assert await process.answer() is None
            assert (await process.finish()).startswith("-9")
            process.close()

        run(body)

    def test_cancelled_anywhere_it_leaves_nothing(self, run):
        async def body():
            process = SshProcess(["sleep", "1000"], "MARK", explain)
            writing = asyncio.create_task(process.write(b"x" * 1_000_000))
            reading = asyncio.create_task(process.answer())
            await asyncio.sleep(0.05)
            for task in (writing, reading):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            end(process)

        run(body)


class TestWhileItRuns:
    def test_what_it_said_on_the_way_is_left_out_once_our_program_runs(self, run):
        async def body():
            says = "echo banner >&2; read x; echo MARK >&2; echo MARK ok; echo late >&2; exit 1"
            process = SshProcess(["sh", "-c", says], "MARK", explain)
            while process.errors() != "banner":
                await asyncio.sleep(0.001)
            await process.write(b"go\n")
            assert await process.answer() == "ok"
            while process.ended() is None:
                await asyncio.sleep(0.001)
            assert process.ended() == "1 'late' True"
            assert process.heard() == "banner\nMARK\nlate"
            process.close()

        run(body)

    @pytest.mark.parametrize("stream", [1, 2])
    def test_a_chatty_program_is_never_blocked(self, run, stream):
        """ssh would stop with everything that it forwards."""
        flood = f"for _ in range(99): os.write({stream}, b'x' * 9999)"
        source = f"import os\nos.write(1, b'MARK ok\\n')\n{flood}"

        async def body():
            process = SshProcess(python(source), "MARK", explain)
            await process.answer()
            while process.ended() is None:
                await asyncio.sleep(0.01)
            assert process.ended().startswith("0 ")
            assert len(process.errors()) <= 8192
            process.close()

        run(body)

    def test_hanging_up_closes_its_standard_input(self, run):
        async def body():
            process = SshProcess(["sh", "-c", "cat; exit 5"], "MARK", explain)
            assert process.ended() is None
            process.hang_up()
            process.hang_up()
            while process.ended() is None:
                await asyncio.sleep(0.001)
            assert process.ended().startswith("5 ")
            process.close()
            assert process.ended().startswith("5 ")

        run(body)

    def test_a_signal_is_told_from_a_status(self, run):
        async def body():
            process = SshProcess(["sleep", "1000"], "MARK", explain)
            os.kill(process._process.pid, signal.SIGTERM)
            while process.ended() is None:
                await asyncio.sleep(0.001)
            assert process.ended().startswith("-15 ")
            process.close()

        run(body)

    def test_it_leads_a_session_of_its_own(self, run):
        async def body():
            process = SshProcess(["sleep", "1000"], "MARK", explain)
            pid = process._process.pid
            assert os.getsid(pid) == pid != os.getsid(0)
            end(process)

        run(body)


class TestTheEnd:
    def test_what_it_started_ends_with_it(self, run):
        """A jump host needs another ssh, which runs beside the first."""

        async def body():
            process = SshProcess(["sh", "-c", "sleep 1000 & echo MARK $!; wait"], "MARK", explain)
            helper = int(await process.answer())
            assert support.is_alive(helper)
            end(process)
            while support.is_alive(helper):
                await asyncio.sleep(0.001)

        run(body)

    def test_what_it_left_behind_ends_when_it_is_closed(self, run):
        async def body():
            process = SshProcess(["sh", "-c", "sleep 1000 & echo MARK $!"], "MARK", explain)
            helper = int(await process.answer())
            while process.ended() is None:
                await asyncio.sleep(0.001)
            process.close()
            while support.is_alive(helper):
                await asyncio.sleep(0.001)

        run(body)

    def test_a_program_that_does_not_end_is_killed(self, run, monkeypatch):
        monkeypatch.setattr("pool_client.launchers.ssh_process._PATIENCE", 0.1)

        async def body():
            process = SshProcess(["sleep", "1000"], "MARK", explain)
            process.close()
            assert not support.is_alive(process._process.pid)

        run(body)

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
    def test_it_can_be_ended_when_the_loop_is_gone(self, new_loop):
        loop = new_loop()

        async def body():
            return SshProcess(["sh", "-c", "cat; exit 5"], "MARK", explain)

        process = loop.run_until_complete(body())
        loop.close()
        process.close()
        assert process.ended().startswith("5 ")

    def test_somebody_else_may_have_reaped_it(self, run):
        async def body():
            process = SshProcess(["true"], "MARK", explain)
            os.waitpid(process._process.pid, 0)
            assert process.ended() is not None
            end(process)

        run(body)

    def test_a_forked_child_lets_go_and_the_parent_keeps_it(self):
        async def body():
            process = SshProcess(["sh", "-c", "echo MARK one; read x; exit 4"], "MARK", explain)
            assert await process.answer() == "one"
            pipes = [process._stdin, process._stdout, process._stderr]
            ours = {(p.fileno(), os.readlink(f"/proc/self/fd/{p.fileno()}")) for p in pipes}
            pid = os.fork()
            if not pid:
                try:
                    process.abandon()
                    os._exit(bool(ours & support.open_descriptors()))
                finally:
                    os._exit(9)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            await process.write(b"go\n")
            while process.ended() is None:
                await asyncio.sleep(0.001)
            assert process.ended().startswith("4 ")
            end(process)

        asyncio.run(asyncio.wait_for(body(), 30))


def test_a_program_that_is_not_there():
    async def body():
        SshProcess(["/no/such/ssh"], "MARK", explain)

    with pytest.raises(FileNotFoundError):
        asyncio.run(body())


def test_its_representation_says_nothing_secret(run):
    async def body():
        process = SshProcess(["sleep", "1000"], "MARK", explain)
        await process.write(b"secret")
        assert "secret" not in repr(process)
        end(process)

    run(body)
