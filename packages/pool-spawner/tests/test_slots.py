"""The cap: counted over all clients, handed on in order of arrival."""

import random

import pytest

from pool_spawner.slots import OverCap, Slots


def test_workers_are_counted_over_all_clients() -> None:
    slots = Slots(cap=8, cpus=2)
    assert slots.enter("a", 3)
    assert slots.enter("b", 5)
    assert slots.free == 0
    assert not slots.enter("c", 1)


def test_exactly_the_cap_is_granted_and_one_more_is_refused_at_once() -> None:
    slots = Slots(cap=8, cpus=2)
    assert slots.wanted(8) == 8
    with pytest.raises(OverCap, match=r"9 workers .* 8 at most, .* all its clients .*max-workers"):
        slots.wanted(9)
    with pytest.raises(OverCap, match="1000000 workers"):
        slots.wanted(10**6)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(OverCap, match="-1"):
        Slots(cap=8, cpus=2).wanted(-1)


@pytest.mark.parametrize(("cap", "cpus", "granted"), [(8, 2, 2), (8, 16, 8), (1, 4, 1)])
def test_auto_is_the_cpus_but_no_more_than_the_cap(cap: int, cpus: int, granted: int) -> None:
    assert Slots(cap, cpus).wanted(0) == granted


def test_who_waits_gets_its_turn_when_enough_is_free() -> None:
    slots = Slots(cap=4, cpus=1)
    assert slots.enter("a", 2) and slots.enter("b", 2)
    assert not slots.enter("c", 3)
    assert slots.leave("a") == []
    assert slots.leave("b") == ["c"]
    assert slots.free == 1


def test_nobody_overtakes() -> None:
    slots = Slots(cap=4, cpus=1)
    assert slots.enter("a", 3)
    assert not slots.enter("big", 4)
    assert not slots.enter("small", 1), "one is free, but big came first"
    assert slots.leave("a") == ["big"]
    assert slots.leave("big") == ["small"]


def test_several_turns_come_at_once() -> None:
    slots = Slots(cap=4, cpus=1)
    assert slots.enter("a", 4)
    assert [slots.enter(name, 2) for name in "bcd"] == [False] * 3
    assert slots.leave("a") == ["b", "c"]


def test_who_gives_up_waiting_lets_others_through() -> None:
    slots = Slots(cap=4, cpus=1)
    assert slots.enter("a", 3)
    assert not slots.enter("big", 4)
    assert not slots.enter("small", 1)
    assert slots.leave("big") == ["small"]


def test_leaving_twice_gives_back_once() -> None:
    slots = Slots(cap=4, cpus=1)
    assert slots.enter("a", 4)
    assert slots.leave("a") == slots.leave("a") == []
    assert slots.free == 4
    assert "4 of 4 free" in repr(slots)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_cap_holds_and_the_order_too(seed: int) -> None:
    choose = random.Random(seed)
    slots = Slots(cap=choose.randint(1, 12), cpus=3)
    held: dict[int, int] = {}
    waiting: list[tuple[int, int]] = []
    for who in range(400):
        workers = slots.wanted(choose.randint(0, slots.cap))
        if slots.enter(who, workers):
            assert not waiting
            held[who] = workers
        else:
            waiting.append((who, workers))
        while held and choose.random() < 0.5:
            gone = choose.choice(list(held))
            del held[gone]
            for granted in slots.leave(gone):
                first, number = waiting.pop(0)
                assert granted == first
                held[first] = number
        assert sum(held.values()) == slots.cap - slots.free <= slots.cap
        assert not waiting or waiting[0][1] > slots.free, "somebody waits for what is free"
