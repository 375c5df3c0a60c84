"""The test's end of `integration/remote/agent.py`: the program that is the pool's client."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

MARK = "\x1e"
TAIL = 4000

_SECONDS = 120.0
"""For which the client is waited for where nothing else is said."""


class RemoteError(Exception):
    """An error on the client's side.

    Attributes:
        names: The names of its class and of those above it.
    """

    def __init__(self, names: Sequence[str], text: str) -> None:
        super().__init__(f"{names[0]}: {text}")
        self.names = tuple(names)
        self.text = text


def value_of(answer: dict[str, Any]) -> Any:
    """Return what an answer carries, or raise its error."""
    if "error" in answer:
        raise RemoteError(answer["error"], answer["text"])
    return answer.get("value")


class Task:
    """A task that the client submitted."""

    def __init__(self, agent: "Agent", number: int) -> None:
        self._agent = agent
        self._number = number

    def done(self) -> bool:
        """Tell whether it has reported."""
        return self._agent.answered("task", self._number)

    def result(self, timeout: float = _SECONDS) -> Any:
        """Wait for its result.

        Raises:
            RemoteError: What the future got.
        """
        return value_of(self._agent.wait("task", self._number, timeout))

    def error(self, timeout: float = _SECONDS) -> RemoteError:
        """Wait for its error, and return it."""
        try:
            value = self.result(timeout)
        except RemoteError as error:
            return error
        raise AssertionError(f"it succeeded with {value!r}")


class Agent:
    """A running client.

    Args:
        command: Starts it, connected to our pipes.
        kill: Ends the process of that number, where it runs, with SIGKILL.
    """

    def __init__(self, command: Sequence[str], kill: Callable[[int], None]) -> None:
        self.lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._kill = kill
        self._answers: dict[tuple[str, Any], dict[str, Any]] = {}
        self._news = threading.Condition()
        self._open = 2
        self._next = 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        for name in self.lines:
            threading.Thread(target=self._read, args=(name,), daemon=True).start()
        try:
            self.pid = int(self.wait("pid", None, _SECONDS)["pid"])
        except BaseException:
            self._process.kill()
            self.close()
            raise

    def __enter__(self) -> Self:
        """Use it in a block, which closes it."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _read(self, name: str) -> None:
        """Sort what comes on one stream, in a thread of its own."""
        stream = getattr(self._process, name)
        for line in stream:
            with self._news:
                if line.startswith(MARK):
                    if line.endswith("\n"):  # else it was cut off, as the client was killed
                        self._take(json.loads(line[1:]))
                elif line != "\n":
                    self.lines[name].append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def _take(self, answer: dict[str, Any]) -> None:
        kind = next(name for name in ("number", "task", "pid", "over") if name in answer)
        key = answer[kind] if kind in ("number", "task") else None
        if (kind, key) in self._answers:
            answer = {"error": ["AnsweredTwice"], "text": f"{kind} {key}"}
        self._answers[kind, key] = answer

    def answered(self, kind: str, key: int | None) -> bool:
        """Tell whether an answer is there."""
        return (kind, key) in self._answers

    def wait(self, kind: str, key: int | None, timeout: float) -> dict[str, Any]:
        """Wait for an answer."""
        with self._news:
            self._news.wait_for(lambda: self.answered(kind, key) or not self._open, timeout)
            if not self.answered(kind, key):
                state = "goes on" if self._open else "has ended"
                raise AssertionError(
                    f"no answer ({kind} {key}) within {timeout:g} s; the client {state}:\n"
                    + self.tail()
                )
            return self._answers[kind, key]

    def tail(self) -> str:
        """Return the last that it wrote on both streams."""
        return "\n".join("\n".join(lines)[-TAIL:] for lines in self.lines.values())

    def ask(self, do: str, timeout: float = 250.0, **fields: Any) -> Any:
        """Have something done, and wait for the answer.

        Raises:
            RemoteError: What was raised there.
        """
        self._next += 1
        number = self._next
        assert self._process.stdin is not None
        request = {**fields, "number": number, "do": do}
        with contextlib.suppress(BrokenPipeError):  # that it ended is said below
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return value_of(self.wait("number", number, timeout))

    def submit(self, function: str, *arguments: Any, **options: Any) -> Task:
        """Submit a function of `integration/remote/work.py`, or an expression."""
        task = self._next
        fields: dict[str, Any] = {"function": function, "arguments": arguments}
        self.ask("submit", task=task, options=options, **fields)
        return Task(self, task)

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of its pool."""
        return self.ask("call", name=name, arguments=arguments, **options)

    def kill(self) -> None:
        """End it with SIGKILL, where it runs."""
        self._kill(self.pid)
        self._process.wait(_SECONDS)

    def close(self) -> None:
        """Shut its pool down and end it; `lines` has all that it wrote then."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill(self.pid)
            self._process.kill()
            self._process.wait(_SECONDS)
            raise AssertionError(f"the client did not end:\n{self.tail()}") from None
        finally:
            with self._news:
                ended = self._news.wait_for(lambda: not self._open, _SECONDS)
            assert ended, f"something of the client holds its output open:\n{self.tail()}"
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()
