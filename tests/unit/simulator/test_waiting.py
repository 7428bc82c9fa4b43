"""Which devices have waited for too long."""

from types import SimpleNamespace

from worker.simulator.waiting import WaitingDevices


def make(created_at, status="ACTIVATION_REQUIRED"):
    return SimpleNamespace(created_at=created_at, status=status)


def test_the_oldest_are_taken_first_and_once():
    waiting = WaitingDevices()
    young, old, middle = make(30.0), make(10.0), make(20.0)
    for device in (young, old, middle):
        waiting.add(device)
    assert list(waiting.take_older(30.0)) == [old, middle]
    assert list(waiting.take_older(30.0)) == []
    assert list(waiting.take_older(31.0)) == [young]


def test_only_those_that_wait_grow_older():
    waiting = WaitingDevices()
    waits, active = make(100.0), make(100.0, "ACTIVE")
    waiting.add(waits)
    assert waiting.age(60, [waits, active]) == 1
    assert (waits.created_at, active.created_at) == (40.0, 100.0)
    assert list(waiting.take_older(41.0)) == [waits]
