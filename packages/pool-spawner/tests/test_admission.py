"""Who may be half-open: strangers give way, members get through."""

import pytest

from pool_spawner.admission import DEADLINE, FAIR, Admission, LoopClock, group


def fill(admission: Admission[str], names: str, address: str, now: float = 0.0) -> None:
    for name in names:
        assert admission.enter(name, address, now) is None


def test_below_the_limits_everybody_comes_in() -> None:
    admission = Admission[int](total=128, each=16)
    for number in range(128):
        assert admission.enter(number, f"10.0.0.{number // 16}", 0.0) is None
    assert len(admission) == 128
    assert admission.peers() == list(range(128))


def test_of_one_address_the_oldest_silent_one_gives_way() -> None:
    admission = Admission[str](total=100, each=3)
    fill(admission, "abc", "10.0.0.1")
    fill(admission, "x", "10.0.0.2")
    admission.spoke("a")
    assert admission.enter("d", "10.0.0.1", 0.1) == "b"
    assert admission.peers() == ["a", "c", "x", "d"]


def test_one_address_does_not_crowd_out_another() -> None:
    admission = Admission[str](total=4, each=3)
    fill(admission, "x", "10.0.0.2")
    fill(admission, "abc", "10.0.0.1")
    assert admission.enter("y", "10.0.0.2", 0.1) == "a", "of the address that has most"


def test_who_speaks_is_left_alone_for_a_while() -> None:
    admission = Admission[str](total=100, each=2)
    fill(admission, "ab", "10.0.0.1")
    admission.spoke("a")
    admission.spoke("b")
    assert admission.enter("c", "10.0.0.1", FAIR / 2) == "c", "the newcomer itself is refused"
    assert admission.peers() == ["a", "b"]
    assert admission.enter("c", "10.0.0.1", FAIR) == "a"


def test_who_has_left_counts_no_more() -> None:
    admission = Admission[str](total=100, each=1)
    fill(admission, "a", "10.0.0.1")
    admission.leave("a")
    admission.leave("a")
    admission.spoke("a")
    fill(admission, "b", "10.0.0.1")
    assert repr(admission) == "<Admission 1 half-open of 1 addresses>"


def test_deadlines() -> None:
    admission = Admission[str]()
    fill(admission, "a", "10.0.0.1", now=0.0)
    fill(admission, "b", "10.0.0.1", now=5.0)
    assert admission.overdue(DEADLINE - 0.1) == []
    assert admission.overdue(DEADLINE) == ["a"]


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
    ],
)
def test_what_counts_as_one_address(one: str, another: str, same: bool) -> None:
    assert (group(one) == group(another)) is same


def test_our_time_stands_still_while_our_loop_does() -> None:
    clock = LoopClock(now=100.0, most=0.5)
    assert clock.advance(100.25) == 0.25
    assert clock.advance(160.0) == 0.75
    assert clock.advance(160.25) == 1.0
