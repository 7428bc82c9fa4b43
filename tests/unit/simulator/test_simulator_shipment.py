"""Made-up shipments end as `expected` says, if a client does what it should."""

import csv
import json
from collections import Counter
from dataclasses import replace

import pytest

from worker.simulator.seeding import WorldSeed, add_to_world
from worker.simulator.settings import Settings
from worker.simulator.shipment import A_FEW_HOPELESS, MENDED_BY_FRESH_OTPS, PairRow, make_shipment
from worker.simulator.world import Outcome, World

NOW = 1_000_000_000.0
REASONS = {
    Outcome.LOCKED: "locked",
    Outcome.BLOCKED: "blocked",
    Outcome.ACCOUNT_NOT_USABLE: "account_not_usable",
}


def end(world, environment_id, row):
    """How a record ends if the client sends OTP 1, and OTP 2 when asked for it: status, reason, resynced."""
    device = world.find(environment_id, row.user_id, row.device_id, NOW)
    if device is None:
        return "dead_letter", "device_not_found", False
    outcome = device.activate(row.otp1, resync=False, now=NOW, settings=Settings())
    if outcome is Outcome.EXTRA_OTP_REQUIRED:
        if row.otp2 is None:
            return "dead_letter", "second_otp_missing", False
        second = device.activate(row.otp2, resync=True, now=NOW, settings=Settings())
        return ("active", None, True) if second is Outcome.ACTIVE else ("dead_letter", "resync_failed", False)
    if outcome is Outcome.ACTIVE:
        return "active", None, False
    return "dead_letter", REASONS.get(outcome, "invalid_otp"), False


def endings(shipment):
    world = World()
    add_to_world(world, shipment.world, NOW)
    return {row.serial: end(world, shipment.world.environment_id, row) for row in shipment.rows}


def constructed(shipment):
    return {
        serial: (expected.status, expected.reason, expected.resynced) for serial, expected in shipment.expected.items()
    }


def test_every_row_ends_as_constructed():
    shipment = make_shipment(2000, seed=3, hopeless=dict.fromkeys(A_FEW_HOPELESS, 20))
    assert endings(shipment) == constructed(shipment)


def test_two_fresh_otps_of_the_token_mend_what_they_are_said_to_mend():
    shipment = make_shipment(60, seed=3, hopeless=dict.fromkeys(MENDED_BY_FRESH_OTPS, 20))
    world = World()
    add_to_world(world, shipment.world, NOW)
    environment_id = shipment.world.environment_id
    assert {end(world, environment_id, row)[0] for row in shipment.rows} == {"dead_letter"}
    for row in shipment.rows:
        otp1, otp2 = world.find(environment_id, row.user_id, row.device_id, NOW).token.press_twice()
        assert {otp1, otp2}.isdisjoint({row.otp1, row.otp2})
        assert end(world, environment_id, replace(row, otp1=otp1, otp2=otp2))[0] == "active"


def test_otps_that_meet_by_chance_mislead_nobody():
    """With this seed, one of the tokens drawn would show its first OTP at an earlier counter, too."""
    shipment = make_shipment(1000, seed=1, out_of_step=1)
    assert endings(shipment) == constructed(shipment)


def test_a_fifth_of_the_others_is_out_of_step():
    shipment = make_shipment(107, hopeless=A_FEW_HOPELESS)
    counts = Counter((expected.status, expected.resynced) for expected in shipment.expected.values())
    assert counts == {("active", True): 20, ("active", False): 80, ("dead_letter", False): 7}


def test_the_same_seed_makes_the_same_shipment():
    assert make_shipment(50, seed=1) == make_shipment(50, seed=1)
    assert make_shipment(50, seed=1).rows != make_shipment(50, seed=2).rows


def test_more_hopeless_rows_than_rows_are_refused():
    with pytest.raises(ValueError, match="7 hopeless rows do not fit into 3"):
        make_shipment(3, hopeless=A_FEW_HOPELESS)


def test_the_files_say_what_the_shipment_says(tmp_path):
    shipment = make_shipment(20, hopeless=A_FEW_HOPELESS)
    shipment.write_pairs(tmp_path / "pairs.csv")
    shipment.write_world(tmp_path / "world.json")
    shipment.write_expected(tmp_path / "expected.json")
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = [PairRow(**fields | {"otp2": fields["otp2"] or None}) for fields in csv.DictReader(file)]
    assert tuple(rows) == shipment.rows
    assert WorldSeed.model_validate_json((tmp_path / "world.json").read_bytes()) == shipment.world
    assert json.loads((tmp_path / "expected.json").read_text()) == {
        serial: {"status": status, "reason": reason, "resynced": resynced}
        for serial, (status, reason, resynced) in constructed(shipment).items()
    }
