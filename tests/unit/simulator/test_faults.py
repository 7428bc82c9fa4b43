"""Which calls are hit by a fault: by the seed and its share of calls, or because it was ordered."""

import json

import pytest
from support.simulator.faults import Fault, FaultOrder, Faults, error_answer
from support.simulator.settings import WatchedSettings

SHARES = WatchedSettings(faults={"reset_after": 0.2, "hang_before": 0.1}, fault_seed=7)
DEVICES = [f"device {number}" for number in range(2000)]


def draw_all(devices, settings=SHARES):
    faults = Faults()
    drawn = {device: faults.draw("activate", device, settings) for device in devices}
    return {device: fault and fault.kind for device, fault in drawn.items()}


def test_faults_come_in_their_shares():
    kinds = list(draw_all(DEVICES).values())
    assert kinds.count("reset_after") == pytest.approx(400, abs=60)
    assert kinds.count("hang_before") == pytest.approx(200, abs=50)
    assert set(kinds) == {"reset_after", "hang_before", None}


def test_a_lot_does_not_depend_on_who_comes_first():
    assert draw_all(DEVICES) == draw_all(reversed(DEVICES))


def test_another_seed_gives_other_lots():
    assert draw_all(DEVICES) != draw_all(DEVICES, SHARES.with_changes({"fault_seed": 8}))


def test_each_call_on_a_device_has_a_lot_of_its_own():
    faults = Faults()
    kinds = [fault and fault.kind for fault in (faults.draw("read", "d", SHARES) for _ in range(100))]
    assert set(kinds) == {"reset_after", "hang_before", None}


def test_only_the_named_operations_are_hit():
    settings = SHARES.with_changes({"faults": {"drip": 1}, "fault_operations": ["read"]})
    assert Faults().draw("read", "d", settings) is not None
    assert Faults().draw("activate", "d", settings) is None


def test_a_device_is_spared_after_so_many_faults():
    settings = WatchedSettings(faults={"drip": 1}, faults_per_device=2)
    faults = Faults()
    assert [faults.draw("activate", "d", settings) is not None for _ in range(3)] == [True, True, False]
    assert faults.draw("activate", "another", settings) is not None


def test_calls_about_no_device_are_never_spared():
    settings = WatchedSettings(faults={"drip": 1}, faults_per_device=1, fault_operations=["import_tokens", "pair"])
    faults = Faults()
    assert [faults.draw("import_tokens", None, settings) is not None for _ in range(3)] == [True, True, True]
    assert [faults.draw("pair", None, settings, "MADE1") is not None for _ in range(2)] == [True, False]
    assert faults.draw("pair", None, settings, "MADE2") is not None


def test_an_order_may_be_for_a_token():
    faults = Faults()
    faults.orders.append(FaultOrder("drip", "pair", serial_number="MADE1"))
    assert faults.draw("pair", None, WatchedSettings(), "MADE2") is None
    assert faults.draw("pair", None, WatchedSettings(), "MADE1") == Fault("drip")


def test_an_order_hits_the_next_call_that_fits_and_no_other():
    faults = Faults()
    faults.orders.append(FaultOrder("drip", "activate", "d"))
    assert faults.draw("read", "d", WatchedSettings()) is None
    assert faults.draw("activate", "another", WatchedSettings()) is None
    assert faults.draw("activate", "d", WatchedSettings()) == Fault("drip")
    assert faults.draw("activate", "d", WatchedSettings()) is None


def test_errors_are_of_every_status_and_some_are_pages():
    settings = WatchedSettings(error_statuses=(500, 503), error_html_share=0.5)
    answers = [error_answer(Fault("error_after", variant / 100), settings) for variant in range(100)]
    assert {(answer.status, answer.body[:1]) for answer in answers} == {
        (500, b"<"),
        (500, b"{"),
        (503, b"<"),
        (503, b"{"),
    }


def test_an_error_may_say_when_to_come_back():
    answer = error_answer(Fault("error_after"), WatchedSettings(error_html_share=0, error_retry_after=7))
    assert answer.headers == {"retry-after": "7"}
    assert json.loads(answer.body)["code"] == "UNEXPECTED_ERROR"
