"""pool_worker.lines: lines, budget, dropping, counting."""

import random
from itertools import pairwise

import pytest

from pool_protocol.messages import Output
from pool_worker.lines import LONGEST, WINDOW, Backlog, Lines, Stream

# -- lines


def test_whole_lines() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == b"one\n"
    assert lines.feed(b"o") == b""
    assert lines.feed(b"\nthree\n\n") == b"two\nthree\n\n"
    assert lines.finish() == b""
    assert lines.feed(b"four") == b""
    assert lines.finish() == b"four\n"
    assert lines.finish() == b""


@pytest.mark.parametrize("size", [1, LONGEST - 1, LONGEST, LONGEST + 1, 3 * LONGEST + 7])
def test_long_lines_are_cut(size: int) -> None:
    lines = Lines()
    data = b"before\n" + b"x" * (size - 1) + b"\nafter\n"
    got = b"".join(lines.feed(data[i : i + LONGEST]) for i in range(0, len(data), LONGEST))
    got += lines.finish()
    first, *pieces, last = got.splitlines(keepends=True)
    assert (first, last) == (b"before\n", b"after\n")
    assert max(map(len, pieces)) <= LONGEST
    assert b"".join(piece[:-1] for piece in pieces) == b"x" * (size - 1)
    assert len(pieces) == (1 if size <= LONGEST else -(-size // LONGEST))


def test_a_long_line_in_small_parts_does_not_grow() -> None:
    lines = Lines()
    got = b"".join(lines.feed(b"y" * 1000) for _ in range(1000))
    assert len(got) > 1_000_000 - LONGEST
    assert len(lines.finish()) <= LONGEST


def test_characters_are_not_cut() -> None:
    for shift in range(4):
        lines = Lines()
        text = "x" * shift + "\N{SNOWMAN}" * LONGEST
        data = text.encode()
        got = b"".join(lines.feed(data[i : i + LONGEST]) for i in range(0, len(data), LONGEST))
        got += lines.finish()
        assert "".join(line.decode() for line in got.splitlines()) == text
    lines = Lines()
    got = b"".join(lines.feed(b"\x80" * LONGEST) for _ in range(2)) + lines.finish()
    assert got.replace(b"\n", b"") == b"\x80" * 2 * LONGEST


# -- the backlog


def taken(backlog: Backlog) -> list[Output]:
    got = []
    while (output := backlog.take()) is not None:
        got.append(output)
    return got


def test_lines_go_out_as_they_come() -> None:
    backlog, stream = Backlog(), Stream(7, 2)
    assert backlog.take() is None and backlog.empty
    backlog.add(stream, b"")
    assert backlog.take() is None
    backlog.add(stream, b"one\n")
    backlog.add(stream, b"two\nthree\n")
    assert not backlog.empty
    assert backlog.take() == Output(7, 2, 0, b"one\ntwo\nthree\n")
    assert backlog.take() is None
    assert not backlog.empty
    backlog.taken(14)
    assert backlog.empty
    assert "0 bytes" in repr(backlog) and "0 lost" in repr(stream)


def test_no_more_than_the_window_is_under_way() -> None:
    backlog, stream = Backlog(), Stream(1, 1)
    block = b"x" * 999 + b"\n"
    for _ in range(WINDOW // len(block)):
        backlog.add(stream, block)
    sent = sum(len(output.blob) for output in taken(backlog))
    assert WINDOW - LONGEST < sent <= WINDOW
    for _ in range(100):
        backlog.add(stream, block)
    rest = sum(len(output.blob) for output in taken(backlog))
    assert sent + rest <= WINDOW
    backlog.taken(sent)
    more = taken(backlog)
    assert more and {output.dropped for output in more} == {0}


def test_what_is_too_much_is_dropped_and_counted() -> None:
    backlog, stream = Backlog(), Stream(1, 1)
    count = 3 * WINDOW // 10
    for number in range(count):
        backlog.add(stream, b"%09d\n" % number)
    first = taken(backlog)
    # Nothing follows, and still it is told.
    note = first.pop()
    assert {output.dropped for output in first} == {0}
    kept = b"".join(output.blob for output in first)
    assert WINDOW - 10 < len(kept) <= WINDOW
    numbers = [int(line) for line in kept.split()]
    assert numbers == list(range(len(numbers)))
    assert note == Output(1, 1, count - len(numbers), b"")
    backlog.taken(len(kept))
    backlog.add(stream, b"again\n")
    assert taken(backlog) == [Output(1, 1, 0, b"again\n")]
    backlog.taken(6)
    assert backlog.empty


def test_the_count_stands_before_the_lines_that_follow() -> None:
    backlog, stream = Backlog(), Stream(1, 1)
    lines = b"%063d\n" % 0
    for _ in range(WINDOW // 64 + 5):
        backlog.add(stream, lines)
    backlog.take()
    backlog.add(stream, b"after\n")
    got = taken(backlog)
    backlog.taken(WINDOW)
    got += taken(backlog)
    assert got[-1] == Output(1, 1, 5, b"after\n")
    assert sum(each.dropped for each in got) == 5


def test_a_block_is_kept_as_far_as_it_fits() -> None:
    backlog, stream = Backlog(), Stream(1, 1)
    block = b"%063d\n" % 0 * 1000
    for _ in range(5):
        backlog.add(stream, block)
    got = taken(backlog)
    assert sum(len(each.blob) for each in got) == WINDOW
    backlog.taken(WINDOW)
    assert taken(backlog) == [Output(1, 1, 5000 - WINDOW // 64, b"")]


def test_a_flood_does_not_drown_the_others() -> None:
    backlog = Backlog()
    flood, drop = Stream(1, 1), Stream(2, 1)
    for _ in range(2 * WINDOW // 64):
        backlog.add(flood, b"%063d\n" % 0)
    backlog.add(drop, b"a word\n")
    lost = WINDOW // 64
    got = taken(backlog)
    assert [each.blob for each in got if each.worker == 2] == [b"a word\n"]
    assert got.index(Output(2, 1, 0, b"a word\n")) == 1  # each in its turn
    backlog.taken(WINDOW)
    got += taken(backlog)
    lines = sum(each.blob.count(b"\n") for each in got if each.worker == 1)
    dropped = sum(each.dropped for each in got if each.worker == 1)
    assert lines + dropped == 2 * lost and dropped > lost


def test_two_floods_share() -> None:
    backlog = Backlog()
    streams = Stream(1, 1), Stream(2, 2)
    for _ in range(10 * WINDOW // 1000):
        for stream in streams:
            backlog.add(stream, b"x" * 499 + b"\n")
    sizes = sorted(stream.size for stream in streams)
    assert sizes[0] > WINDOW // 4


def test_who_takes_from_another_does_not_end_up_with_more() -> None:
    backlog = Backlog()
    large, middle, small = (Stream(n, 1) for n in range(3))
    line = b"x" * 1023 + b"\n"
    for stream, count in ((large, 128), (middle, 74), (small, 54)):
        for _ in range(count):
            backlog.add(stream, line)
    backlog.add(small, line * 80)
    assert [stream.size // 1024 for stream in (large, middle, small)] == [128, 74, 54]


def test_a_client_that_takes_more_than_it_was_given() -> None:
    backlog, stream = Backlog(), Stream(1, 1)
    backlog.taken(10 * WINDOW)
    sent = 0
    for _ in range(3 * WINDOW // 1000):
        backlog.add(stream, b"x" * 999 + b"\n")
        sent += sum(len(output.blob) for output in taken(backlog))
    assert sent <= WINDOW


def test_the_end_opens_the_window() -> None:
    backlog, stream = Backlog(), Stream(1, 1)
    block = b"x" * 999 + b"\n"
    for _ in range(250):
        backlog.add(stream, block)
    first = taken(backlog)
    for _ in range(250):
        backlog.add(stream, block)
    backlog.open()
    got = first + taken(backlog)
    assert sum(len(each.blob) for each in got) == 500 * 1000


def test_nothing_is_told_while_nothing_may_go_out() -> None:
    backlog = Backlog()
    streams = [Stream(n, 1) for n in range(3)]
    line = b"x" * 1023 + b"\n"
    for _ in range(WINDOW // len(line)):
        backlog.add(streams[0], line)
    taken(backlog)
    for _ in range(10 * WINDOW // len(line)):
        for stream in streams:
            backlog.add(stream, line)
            assert backlog.take() is None


@pytest.mark.parametrize("seed", range(5))
def test_every_line_arrives_in_order_or_is_counted(seed: int) -> None:
    chance = random.Random(seed)
    backlog = Backlog()
    streams = {(n, k): Stream(n, k) for n in range(5) for k in (1, 2)}
    printed = dict.fromkeys(streams, 0)
    seen: dict[tuple[int, int], list[int]] = {key: [] for key in streams}
    passed = dict.fromkeys(streams, 0)
    under_way: list[int] = []

    def receive() -> None:
        while (output := backlog.take()) is not None:
            key = (output.worker, output.stream)
            numbers = [int(line) for line in output.blob.split()]
            passed[key] += output.dropped
            if numbers:
                assert numbers[0] == passed[key]
                assert all(after == before + 1 for before, after in pairwise(numbers))
                passed[key] = numbers[-1] + 1
            seen[key] += numbers
            under_way.append(len(output.blob))
            assert sum(under_way) <= WINDOW

    for _ in range(2000):
        key = chance.choice(list(streams))
        count = chance.choice([1, 1, 10, 1000])
        body = b"".join(b"%030d\n" % (printed[key] + i) for i in range(count))
        backlog.add(streams[key], body)
        printed[key] += count
        assert sum(stream.size for stream in streams.values()) <= WINDOW
        if chance.random() < 0.5:
            receive()
        if under_way and chance.random() < 0.3:
            backlog.taken(under_way.pop(0))
    for _ in range(100):
        receive()
        while under_way:
            backlog.taken(under_way.pop())
    assert passed == printed
    assert any(len(seen[key]) < printed[key] for key in streams)
    assert backlog.empty
