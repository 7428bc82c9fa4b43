"""What a preflight says of each row is what the load then does with it, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.data.batches import make_batch
from support.data.loading import LoadingDesk, Token, earlier, token
from support.data.moving_clock import MovingDatabase

from models.encrypted import Keyring, generate_key, identify_row
from models.record_states import Status
from worker.batches import loading
from worker.intake import UnusableFile, open_shipment
from worker.preflight import files
from worker.preflight.files import RowReader
from worker.preflight.findings import Finding, Level, Verdicts
from worker.vault.otps import Secret, Seed

SECRET = Secret(b"12345678901234567890")
SEED = Seed(secret=SECRET, counter=3)


@pytest.fixture
def desk(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> LoadingDesk:
    return LoadingDesk(database, keyring, tmp_path)


def examine(
    desk: LoadingDesk, tokens: Sequence[Token], environment_id: str = "tenant-1", *, only_new: bool = False
) -> Verdicts:
    shipment = open_shipment(desk.write(tokens), only_new=only_new)
    with desk.database.reading() as connection:
        verdicts, _ = RowReader(connection, desk.keyring, environment_id).read(shipment)
    return verdicts


def tell(desk: LoadingDesk, tokens: Sequence[Token], *, only_new: bool = False) -> dict[str, Finding]:
    shipment = open_shipment(desk.write(tokens), only_new=only_new)
    with desk.database.reading() as connection:
        verdicts, leftovers = RowReader(connection, desk.keyring, "tenant-1").read(shipment)
    findings = files.check_files(shipment, verdicts, leftovers, totp_max_age=120)
    return {finding.name: finding for finding in findings}


def make_earlier_seed(desk: LoadingDesk, seed: Seed = SEED, keyring: Keyring | None = None, **columns: Any) -> None:
    """A record of token 0 that was given up, and whose seed is still there."""
    same = {"serial_number": token(0)["serial"], "status": Status.DEAD_LETTER, "next_counter": 4}
    # The first batch of the database, and its first row.
    sealed = (keyring or desk.keyring).seal(seed.to_plaintext(), identify_row(1, 2))
    make_batch(desk.database, [same | {"otps": sealed} | columns], name="box", environment_id="tenant-1")


def with_pair(seed: Seed, first: int, second: int, **columns: str) -> Token:
    return token(0, otp1=seed.mint(first).reveal(), otp2=seed.mint(second).reveal(), **columns)


# What stands in the way, each beside rows that are well.
SHIPMENTS: dict[str, list[Token]] = {
    "well": [token(1), token(2)],
    "serial twice": [token(1), token(2), token(1, device_id=token(9)["device_id"])],
    "device twice": [token(1), token(2, device_id=token(1)["device_id"]), token(3)],
    "in progress": [token(0), token(1)],
    "in progress twice": [token(0), token(0), token(1)],
    "device in progress": [token(5, device_id=token(0)["device_id"]), token(1)],
    "no otp": [token(1, otp1=""), token(2)],
}


@pytest.mark.parametrize("status", [Status.PENDING, Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED])
@pytest.mark.parametrize("name", SHIPMENTS)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_each_row_is_told_what_the_load_does_with_it(
    desk: LoadingDesk, monkeypatch: pytest.MonkeyPatch, name: str, status: Status, chunk: int
) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    monkeypatch.setattr(loading, "CHUNK", chunk)
    earlier(desk.database, desk.keyring, status=status, otp1_posts=1)
    verdicts = examine(desk, SHIPMENTS[name])
    try:
        loaded = desk.load(SHIPMENTS[name])
    except UnusableFile:
        assert not verdicts.good
        return
    assert [row.row_number for row in verdicts.good] == [record.row_number for record in desk.records(loaded)]
    told = sorted((error.row_number, error.reason) for error in verdicts.refused)
    assert told == sorted((error.row_number, error.reason) for error in desk.refused)


def test_nothing_is_written(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.PENDING)
    before = desk.found()
    examine(desk, [token(0), token(1)])
    assert desk.found() == before


def test_a_token_in_progress_is_named_with_its_batch(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.PENDING)
    findings = tell(desk, [token(0), token(1)])
    found = findings["in_database"]
    assert (found.level, found.tokens, found.serials) == (Level.NOTE, 1, (token(0)["serial"],))
    assert found.text == "Refused for what our own database holds: 1 row."
    # Where the reason is told already, it is not told twice.
    assert findings["rows_refused"].text.endswith(
        "the serial number is in progress in batch 'earlier' (row 2): wait until it is finished, or cancel it there"
    )


def test_a_token_that_is_active_elsewhere_is_refused_or_left_out_on_purpose(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    assert "active already, in batch 'earlier'" in tell(desk, [token(0), token(1)])["rows_refused"].text
    findings = tell(desk, [token(0)], only_new=True)
    assert list(findings) == ["left_out"]
    found = findings["left_out"]
    assert (found.level, found.text) == (Level.NOTE, "Active in other batches, and left out: 1 token.")
    verdicts = examine(desk, [token(0), token(1)], only_new=True)
    assert [line[2] for line in verdicts.lines()] == ["left_out", "ready"]


def test_records_of_another_environment_are_no_matter(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.PENDING)
    assert len(examine(desk, [token(0)], "tenant-2").good) == 1


@pytest.mark.parametrize(("second", "is_told"), [(5, False), (6, True)])
def test_a_pair_that_a_seed_of_ours_contradicts_is_asked_about(desk: LoadingDesk, second: int, is_told: bool) -> None:
    make_earlier_seed(desk)
    findings = tell(desk, [with_pair(SEED, 4, second), token(1)])
    assert ("not_consecutive" in findings) == is_told
    if is_told:
        found = findings["not_consecutive"]
        assert (found.level, found.serials) == (Level.ASK, (token(0)["serial"],))
        assert found.text.startswith("With two OTPs that do not follow each other, by the seed that an earlier batch")
        shown = repr(examine(desk, [with_pair(SEED, 4, second)])) + found.text
        assert SECRET.reveal().hex() not in shown


def test_a_totp_pair_is_compared_by_the_time_at_which_it_was_made(desk: LoadingDesk) -> None:
    seed = Seed(secret=SECRET, otp_type="totp", time_step=30)
    make_earlier_seed(desk, seed, otp_type="totp", next_counter=None)
    now = datetime.now(UTC)
    step = int(now.timestamp() // 30)
    columns = {"otp_type": "totp", "generated_at": now.isoformat()}
    assert "not_consecutive" not in tell(desk, [with_pair(seed, step, step + 1, **columns)])
    assert "not_consecutive" in tell(desk, [with_pair(seed, step, step + 2, **columns)])


@pytest.mark.parametrize("how", ["erased", "of a key that is gone", "of another tenant"])
def test_a_seed_that_cannot_be_opened_contradicts_nothing(desk: LoadingDesk, how: str) -> None:
    if how == "erased":
        make_earlier_seed(desk, otps=None, status=Status.DEAD_LETTER)
    elif how == "of another tenant":
        make_earlier_seed(desk, environment_id="tenant-2")
    else:
        make_earlier_seed(desk, keyring=Keyring([generate_key()]))
    assert "not_consecutive" not in tell(desk, [with_pair(SEED, 4, 6)])
