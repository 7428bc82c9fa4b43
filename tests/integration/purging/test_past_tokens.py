"""The tokens of purged batches are recognised when they are loaded again: no OTP goes to a device that is active, none
goes twice, and no counter is used twice."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from support.data.batches import TESTER, Made, enqueue
from support.data.loading import Token, environment, token
from support.data.purge_desk import ACTIVE, REFUSED, PurgeDesk

from models.audit import Action
from models.encrypted import Keyring, generate_key
from worker import audit
from worker.batches.commands import Batches
from worker.batches.loading import Loader
from worker.intake import Hints, UnusableFile, open_assignment, open_shipment
from worker.leases.attempt_line import CallSummary
from worker.vault.fingerprints import KeyIsGone
from worker.vault.rotation import reencrypt

SECRET = "3132333435363738393031323334353637383930"


def test_the_same_file_is_known_as_its_batch(desk: PurgeDesk) -> None:
    desk.load([token(0)], ACTIVE)
    desk.purge()

    again = desk.desk.load([token(0)], "july")

    assert (again.is_new, again.name, again.purged_at is not None) == (False, "july", True)


def test_active_tokens_of_another_file_are_left_out_and_others_go(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], ACTIVE, ACTIVE)
    desk.purge()

    again = desk.desk.load([token(0), token(1), token(2)], "again", only_new=True)

    assert (again.total, again.left_out, again.rows_refused) == (1, 2, 0)


def test_a_token_may_go_to_another_device(desk: PurgeDesk) -> None:
    desk.load([token(0)], ACTIVE)
    desk.purge()

    again = desk.desk.load([token(0, device_id=token(9)["device_id"])], "again")

    assert (again.total, again.rows_refused) == (1, 0)


def test_a_cancelled_batchs_file_is_loaded_again_without_its_active_tokens(desk: PurgeDesk) -> None:
    loaded = desk.load([token(0), token(1)], ACTIVE)
    Batches(desk.database, TESTER).cancel(loaded.name)
    desk.purge()

    again = desk.desk.load([token(0), token(1)], "again")

    assert (again.is_new, again.total, again.rows_refused) == (True, 1, 1)
    assert "active already, in batch 'july', which was purged" in desk.desk.refused[0].reason


def test_an_otp_that_was_sent_is_refused_and_fresh_ones_go(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], REFUSED, ACTIVE)
    desk.purge(gives_up=True)

    with pytest.raises(UnusableFile):
        desk.desk.load([token(0)], "again")
    (refused,) = desk.desk.refused
    assert refused.reason == (
        "an OTP of this row was sent already, in batch 'july', which was purged: press the token for two fresh,"
        " consecutive OTPs"
    )
    assert desk.desk.load([token(0, otp1="111111", otp2="222222")], "fresh").total == 1


def test_an_otp_that_never_went_out_may_go(desk: PurgeDesk) -> None:
    loaded = desk.load([token(0)])
    Batches(desk.database, TESTER).cancel(loaded.name)
    desk.purge()

    assert desk.desk.load([token(0), token(1)], "again").total == 2
    assert desk.read_past() == []


def load_seed(desk: PurgeDesk, name: str, device: Token) -> int:
    """Load one seed of a vendor's file, and return its record's id."""
    file, who = desk.desk.directory / f"{name}.txt", desk.desk.directory / f"{name}-who.csv"
    file.write_text(f"{token(0)['serial']},{SECRET}\n")
    who.write_text(
        f"serial,user_id,device_id,site\n{device['serial']},{device['user_id']},{device['device_id']},{name}\n"
    )
    shipment = open_shipment(file, hints=Hints(otp_type="hotp"), assignment=open_assignment(who))
    loaded = Loader(desk.database, desk.desk.keyring, environment(), TESTER).load(shipment, name)
    (record,) = desk.desk.records(loaded)
    return int(record.id)


def test_no_counter_of_a_seed_is_used_twice(desk: PurgeDesk) -> None:
    record_id = load_seed(desk, "box", token(0))
    enqueue(desk.database, Made(1, "box", [record_id]))
    claim = desk.leases.claim(record_id, "tenant-1")
    assert claim is not None
    if not claim.is_otp1_marked:
        assert desk.leases.mark_sent(claim, 1, 60_000_000)
    assert desk.leases.settle(claim, claim.progress.with_otp_answered(1), ACTIVE, CallSummary(1))
    with desk.database.reading() as connection:
        reached = connection.exec_driver_sql("SELECT next_counter FROM record").scalar_one()
    assert reached > 0
    desk.purge()

    load_seed(desk, "again", token(0, device_id=token(9)["device_id"]))

    with desk.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT next_counter FROM record").scalar_one() == reached


def test_they_are_recognised_after_a_rotation_and_the_old_key_is_of_no_use_any_more(desk: PurgeDesk) -> None:
    desk.load([token(0)], ACTIVE)
    desk.purge()
    new, before = generate_key(), desk.read_sealed_key()
    old = desk.desk.keyring
    rotating = Keyring([new, desk.key])

    def write_down(connection: Connection, records: int) -> None:
        audit.append(desk.database, connection, TESTER, Action.REENCRYPT, None, {"records": records})

    assert reencrypt(desk.database, rotating, write_down) == 0

    assert desk.read_sealed_key() != before
    desk.desk.keyring = Keyring([new])
    assert desk.desk.load([token(0), token(1)], "again").rows_refused == 1
    with pytest.raises(KeyIsGone, match="is not among OATHBULK_ENCRYPTION_KEYS: add that one behind the first"):
        desk.desk.load([token(2)], "with the old key", keyring=old)


def test_who_has_the_database_alone_cannot_compute_a_fingerprint(desk: PurgeDesk) -> None:
    desk.load([token(0)], ACTIVE)
    desk.purge()
    (kept,) = desk.read_past()

    sealed = desk.read_sealed_key()
    assert sealed is not None
    assert kept.serial_number not in (token(0)["serial"], "")
    with pytest.raises(KeyIsGone):
        desk.desk.load([token(0), token(1)], "again", keyring=Keyring([generate_key()]))
