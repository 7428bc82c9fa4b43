"""Made-up shipments and boxes: their files, and whether each record ends as `expected` says."""

import csv
import json
import stat
from collections import Counter
from dataclasses import asdict, replace

import pytest

from worker.intake import Hints, open_assignment, open_shipment
from worker.simulator.oath import Verdict
from worker.simulator.shipment import (
    A_FEW_HOPELESS,
    MENDED_BY_FRESH_OTPS,
    SPECIAL,
    Expected,
    PairRow,
    a_few_of_each,
    make_box,
    make_shipment,
)
from worker.simulator.world import Settings, World, WorldSeed, add_to_world

NOW = 1_000_000_000.0


def put_down(shipment):
    world = World()
    add_to_world(world, shipment.world, NOW)
    return world


def end(world, shipment, row):
    """How a record ends if the client sends OTP 1, and OTP 2 when asked for it."""
    device = world.find(shipment.world.environment_id, row.user_id, row.device_id)
    if device is None:
        return Expected("dead_letter", "device_not_found")
    troubles = {
        "account_not_usable": not device.user.can_act,
        "blocked": device.blocked_at,
        "locked": device.is_locked(NOW),
    }
    if reasons := [reason for reason, is_there in troubles.items() if is_there]:
        return Expected("dead_letter", *reasons)
    verdict = device.activate(row.otp1, resync=False, now=NOW, settings=Settings())
    if verdict is not Verdict.EXTRA_OTP_REQUIRED:
        return Expected("active") if verdict is Verdict.ACCEPTED else Expected("dead_letter", "invalid_otp")
    if row.otp2 is None:
        return Expected("dead_letter", "second_otp_missing")
    verdict = device.activate(row.otp2, resync=True, now=NOW, settings=Settings())
    is_active = verdict is Verdict.ACCEPTED
    return Expected("active", resynced=True) if is_active else Expected("dead_letter", "resync_failed")


@pytest.mark.parametrize(
    ("count", "seed", "kinds"),
    [
        (400, 3, {"hopeless": dict.fromkeys(A_FEW_HOPELESS, 20)}),
        # With these seeds a token is drawn whose OTP is that of an earlier counter, too, and one whose wrong OTP is
        # good by chance. Such are drawn again.
        (1000, 1, {"out_of_step": 1}),
        (300, 42, {"hopeless": {"wrong_otp": 300}}),
    ],
)
def test_every_row_ends_as_constructed(count, seed, kinds):
    shipment = make_shipment(count, seed=seed, **kinds)
    world = put_down(shipment)
    assert {row.serial: end(world, shipment, row) for row in shipment.rows} == shipment.expected


def test_two_fresh_otps_of_the_token_mend_what_they_are_said_to_mend():
    shipment = make_shipment(60, seed=3, hopeless=dict.fromkeys(MENDED_BY_FRESH_OTPS, 20))
    world = put_down(shipment)
    assert {end(world, shipment, row).status for row in shipment.rows} == {"dead_letter"}
    for row in shipment.rows:
        otp1, otp2 = world.find_by_id(row.device_id).token.press_twice()
        assert {otp1, otp2}.isdisjoint({row.otp1, row.otp2})
        assert end(world, shipment, replace(row, otp1=otp1, otp2=otp2)).status == "active"


def test_a_fifth_of_the_others_is_out_of_step():
    shipment, box = make_shipment(107, hopeless=A_FEW_HOPELESS), make_box(100)
    counts = Counter((expected.status, expected.resynced) for expected in shipment.expected.values())
    assert counts == {("active", True): 20, ("active", False): 80, ("dead_letter", False): 7}
    assert sum(expected.resynced for expected in box.expected.values()) == len(box.world.out_of_step) == 20
    assert (box.world.tokens, box.world.devices, len(box.world.users)) == ((), (), 100)


def test_the_files_of_pairs_say_what_the_shipment_says(tmp_path):
    shipment = make_shipment(20, hopeless=A_FEW_HOPELESS)
    shipment.write_pairs(tmp_path / "pairs.csv")
    shipment.write_world(tmp_path / "world.json")
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = [PairRow(**fields | {"otp2": fields["otp2"] or None}) for fields in csv.DictReader(file)]
    assert tuple(rows) == shipment.rows
    assert WorldSeed.model_validate_json((tmp_path / "world.json").read_bytes()) == shipment.world


def test_our_intake_reads_the_files_of_a_box(tmp_path):
    (tmp_path / "box.key").write_text("readable before")
    box = make_box(60, special=dict.fromkeys(SPECIAL, 2))
    box.write(tmp_path)
    key = bytes.fromhex((tmp_path / "box.key").read_text())
    people = open_assignment(tmp_path / "who.csv")
    rows = list(open_shipment(tmp_path / "box.pskc", hints=Hints(key=key), assignment=people).tokens())
    assert [(row.serial_number, row.email) for row in rows] == [(token.serial, token.email) for token in box.tokens]
    for row, token in zip(rows, box.tokens, strict=True):
        assert row.otps.secret.reveal().hex() == token.secret
        read = (row.otps.otp_type, row.otps.hash_algorithm, row.otps.counter)
        assert read == (token.type, token.hash, token.counter)
    assert {row.otps.otp_type for row in rows} == {"hotp", "totp"}
    assert stat.S_IMODE((tmp_path / "box.key").stat().st_mode) == 0o600
    expected = json.loads((tmp_path / "expected.json").read_text())
    assert expected == {serial: asdict(end) for serial, end in box.expected.items()}


def test_the_list_has_a_person_and_a_site_for_each_token(tmp_path):
    box = make_box(5)
    box.write(tmp_path)
    lines = list(csv.DictReader((tmp_path / "who.csv").read_text().splitlines()))
    assert list(lines[0]) == ["serial", "email", "site"]
    assert [line["email"] for line in lines] == [token.email for token in box.tokens]
    assert {line["site"] for line in lines} == {"Oslo", "Porto", "Riga"}


def test_the_same_number_makes_the_same_tokens(tmp_path):
    for name, seed in (("one", 7), ("same", 7), ("another", 8)):
        make_box(30, seed=seed, special=dict.fromkeys(SPECIAL, 1)).write(tmp_path / name)
    files = {name: (tmp_path / name / "box.pskc").read_bytes() for name in ("one", "same", "another")}
    assert files["one"] == files["same"] != files["another"]
    assert make_shipment(50, seed=1) == make_shipment(50, seed=1) != make_shipment(50, seed=2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="22 tokens with troubles do not fit into 21"):
        make_box(21, special=dict.fromkeys(SPECIAL, 2))
    with pytest.raises(ValueError, match="7 tokens with troubles do not fit into 3"):
        make_shipment(3, hopeless=A_FEW_HOPELESS)


def test_a_big_box_has_a_few_tokens_of_each_kind():
    assert (a_few_of_each(109), a_few_of_each(110)) == ({}, dict.fromkeys(SPECIAL, 1))
    assert a_few_of_each(220, each=2) == dict.fromkeys(SPECIAL, 2)


def test_nothing_secret_is_in_a_description():
    box, shipment = make_box(2), make_shipment(2)
    told = repr(box) + repr(shipment)
    secrets = [box.tokens[0].secret, box.keys.pre_shared.hex(), shipment.rows[0].otp1]
    assert [secret for secret in secrets if secret in told] == []
