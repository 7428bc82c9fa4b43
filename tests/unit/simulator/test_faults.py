"""Which calls are hit by a fault: by the seed and its share of calls, or because it was ordered."""

import pytest
from support.simulator.settings import WatchedSettings
from support.simulator.simulation import Fault, FaultOrder, Faults, error_answer

SHARES = WatchedSettings(faults={"reset_after": 0.2, "hang_before": 0.1}, fault_seed=7)
ALL = WatchedSettings(faults={"drip": 1}, faults_per_device=2, fault_operations=["read", "pair", "import_tokens"])
DEVICES = [f"device {number}" for number in range(2000)]


def draw_all(devices, settings=SHARES):
    faults = Faults()
    drawn = {device: faults.draw("activate", device, settings) for device in devices}
    return {device: fault and fault.kind for device, fault in drawn.items()}


def test_faults_come_in_their_shares_by_a_seed_and_whoever_comes_first():
    drawn = draw_all(DEVICES)
    assert list(drawn.values()).count("reset_after") == pytest.approx(400, abs=60)
    assert list(drawn.values()).count("hang_before") == pytest.approx(200, abs=50)
    assert drawn == draw_all(reversed(DEVICES)) != draw_all(DEVICES, SHARES.with_changes({"fault_seed": 8}))
    faults = Faults()
    assert len({faults.draw("read", "one device", SHARES) is None for _ in range(100)}) == 2


def test_only_named_operations_are_hit_and_a_device_or_token_so_often():
    faults = Faults()
    assert faults.draw("activate", "d", ALL) is None
    for subject, hits in (({"device_id": "d"}, 2), ({"device_id": None, "serial_number": "MADE1"}, 2)):
        operation = "read" if subject["device_id"] else "pair"
        assert sum(faults.draw(operation, settings=ALL, **subject) is not None for _ in range(5)) == hits
    # Calls about neither are never spared.
    assert all(faults.draw("import_tokens", None, ALL) for _ in range(5))


@pytest.mark.parametrize(("device_id", "serial_number"), [("d", None), (None, "MADE1")])
def test_an_order_hits_the_next_call_that_fits_and_no_other(device_id, serial_number):
    faults, settings = Faults(), WatchedSettings()
    faults.orders.append(FaultOrder("drip", "pair", device_id, serial_number))
    assert faults.draw("read", device_id, settings, serial_number) is None
    assert faults.draw("pair", "another", settings, "MADE2") is None
    assert faults.draw("pair", device_id, settings, serial_number) == Fault("drip")
    assert faults.draw("pair", device_id, settings, serial_number) is None


def test_errors_are_of_every_status_and_some_are_pages():
    settings = WatchedSettings(error_statuses=(500, 503), error_html_share=0.5, error_retry_after=7)
    answers = [error_answer(Fault("error_after", variant / 100), settings) for variant in range(100)]
    kinds = {(answer.status, answer.body[:1]) for answer in answers}
    assert kinds == {(500, b"<"), (500, b"{"), (503, b"<"), (503, b"{")}
    assert {answer.headers["retry-after"] for answer in answers} == {"7"}
