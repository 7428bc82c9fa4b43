"""The hand-out of a batch: who has which active token, and how often to press it first; on both databases."""

from __future__ import annotations

import csv
import io
import uuid
from pathlib import Path

import pytest
from support.data.batches import TESTER, Made, enqueue, look, make_batch
from support.data.loading import environment
from support.data.moving_clock import MovingDatabase
from support.data.progress import Heard

from models.encrypted import Keyring
from models.reason import Reason
from models.record_states import Status
from worker.batches.commands import Batches
from worker.batches.finding import UnknownBatch
from worker.batches.loading import Loader
from worker.intake import open_assignment, open_shipment
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.reports.export import NOTHING_FOR_HOTP, NOTHING_FOR_TOTP, write_hand_out
from worker.rules.progress import Active, DeadLetter, Decision, Progress

TENANT = environment()
HOTP, TOTP = "hotp, 6", "totp, 6"
SECRET = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"


class Morning:
    """Where shipments are loaded, worked on as PingOne's answers would have it, and handed out."""

    def __init__(self, database: MovingDatabase, leases: Leases, keyring: Keyring, folder: Path) -> None:
        self.database = database
        self.leases = leases
        self.keyring = keyring
        self.folder = folder

    def load(self, shipment: str, people: str | None, name: str = "box") -> Made:
        """Load the lines of a shipment, and of the list of who gets what."""
        path, listed = self.folder / f"{name}.csv", self.folder / f"{name}.list.csv"
        path.write_text(shipment)
        listed.write_text(people or "")
        assignment = open_assignment(listed) if people else None
        loader = Loader(self.database, self.keyring, TENANT, TESTER)
        loaded = loader.load(open_shipment(path, assignment=assignment), name)
        return Made(loaded.batch_id, loaded.name, [])

    def attempt(self, made: Made, *counters: int, decision: Decision | None = None) -> None:
        """One attempt of every due record: OTPs are sent from the counters, and answered; then the decision."""
        for record_id in enqueue(self.database, made):
            claimed = self.leases.claim(record_id, TENANT.environment_id)
            assert claimed is not None
            progress = self._send(claimed.progress, counters, is_first_sent=claimed.is_otp1_marked)
            self.leases.settle(claimed, progress, decision or Active(), CallSummary(1))

    @staticmethod
    def _send(progress: Progress, counters: tuple[int, ...], *, is_first_sent: bool) -> Progress:
        for ordinal, counter in enumerate(counters, 1):
            if ordinal == 1 and is_first_sent:
                assert progress.last_counter == counter
            else:
                progress = progress.with_otp_sent(ordinal, counter)
            progress = progress.with_otp_answered(ordinal)
        return progress

    def hand_out(self, made: Made) -> list[dict[str, str]]:
        text = io.StringIO(newline="")
        written = write_hand_out(self.database, made.name, text)
        lines = list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))
        assert len(lines) == written
        return lines


@pytest.fixture
def morning(database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path) -> Morning:
    return Morning(database, leases, keyring, tmp_path)


def ids(number: int) -> str:
    return f"{uuid.UUID(int=number)},{uuid.UUID(int=1 << 100 | number)}"


def box(kind: str = HOTP, counter_or_step: int = 0, tokens: int = 1) -> str:
    """A seed file of so many tokens."""
    return "".join(f"MADE{n}, {SECRET[:-1]}{n}, {kind}, {counter_or_step}\n" for n in range(1, tokens + 1))


def people(tokens: int = 1, header: str = "site", cell: str = "Oslo") -> str:
    """A list that gives each of so many tokens to a person, with a column of its own."""
    lines = [f"MADE{n},person{n},{ids(n)},{cell}" for n in range(1, tokens + 1)]
    return "\n".join([f"serial,username,user_id,device_id,{header}", *lines]) + "\n"


def presses(lines: list[dict[str, str]]) -> list[str]:
    return [line["presses_to_discard"] for line in lines]


def test_a_line_says_who_and_what_and_how_often_to_press(morning: Morning) -> None:
    made = morning.load(box(counter_or_step=7), people())
    morning.attempt(made, 7, 8)
    (line,) = morning.hand_out(made)
    assert list(line.values())[:-1] == ["MADE1", "person1", "", "", str(uuid.UUID(int=1)), "Oslo", "hotp", "2"]
    assert list(line) == [
        *("serial", "username", "email", "external_id", "user_id", "site"),
        *("otp_type", "presses_to_discard", "what_to_do"),
    ]
    assert line["what_to_do"].startswith("Press 2 times and throw these 2 numbers away; sign on with the next one")


def test_one_otp_that_was_accepted_is_one_press(morning: Morning) -> None:
    made = morning.load(box(), people())
    morning.attempt(made, 0)
    (line,) = morning.hand_out(made)
    assert line["presses_to_discard"] == "1"
    assert line["what_to_do"].startswith("Press once and throw the number away; sign on with the second.")


def test_what_a_replay_minted_anew_counts_as_well(morning: Morning) -> None:
    """So a token ends that PingOne had ahead of its file: every OTP is refused until its counter is reached."""
    made = morning.load(box(counter_or_step=3), people())
    morning.attempt(made, 3, decision=DeadLetter(Reason.INVALID_OTP))
    Batches(morning.database, TESTER).replay(made.name)
    # One is left out, since PingOne might have taken it for the second OTP.
    morning.attempt(made, 5)
    assert presses(morning.hand_out(made)) == ["3"]


def test_what_an_earlier_batch_sent_for_the_token_counts_as_well(morning: Morning) -> None:
    """A seed that is loaded again goes on beyond those counters; the token in the drawer has not moved."""
    first = morning.load(box(counter_or_step=3), people())
    morning.attempt(first, 3, 4, decision=DeadLetter(Reason.RESYNC_FAILED))
    again = morning.load(box(counter_or_step=3), people(cell="Bergen"), "again")
    morning.attempt(again, 5)
    assert presses(morning.hand_out(again)) == ["3"]
    assert morning.hand_out(first) == []


def test_an_otp_that_did_not_reach_pingone_is_no_press(morning: Morning) -> None:
    made = morning.load(box(), people())
    (record_id,) = enqueue(morning.database, made)
    claimed = morning.leases.claim(record_id, TENANT.environment_id)
    assert claimed is not None
    morning.leases.settle(claimed, claimed.progress.with_otp_unsent(1), Active(), CallSummary(1))
    (line,) = morning.hand_out(made)
    assert (line["presses_to_discard"], line["what_to_do"][: len(NOTHING_FOR_HOTP)]) == ("0", NOTHING_FOR_HOTP)


def test_totp_has_nothing_to_throw_away(morning: Morning) -> None:
    made = morning.load(box(TOTP, 30), people())
    morning.attempt(made, 60_000_000, 60_000_001)
    (line,) = morning.hand_out(made)
    assert (line["otp_type"], line["presses_to_discard"]) == ("totp", "0")
    assert line["what_to_do"].startswith(NOTHING_FOR_TOTP)


def test_a_pair_was_pressed_on_the_token_itself(morning: Morning) -> None:
    header = "serial,otp1,otp2,user_id,device_id,lot,presses to discard,status"
    made = morning.load(f"{header}\nMADE1,012345,543210,{ids(1)},L-1,9,old\n", None)
    for record_id in enqueue(morning.database, made):
        claimed = morning.leases.claim(record_id, TENANT.environment_id)
        assert claimed is not None
        progress = claimed.progress.with_otp_answered(1).with_otp_sent(2).with_otp_answered(2)
        morning.leases.settle(claimed, progress, Active(), CallSummary(2))
    (line,) = morning.hand_out(made)
    assert (line["presses_to_discard"], line["lot"]) == ("0", "L-1")
    assert not {"otp1", "otp2", "presses to discard", "status"} & set(line)


def test_only_what_is_active_is_handed_out_in_the_order_of_the_file(morning: Morning) -> None:
    made = morning.load(box(tokens=4), people(4))
    record_ids = enqueue(morning.database, made)
    for record_id in reversed(record_ids[:3]):
        claimed = morning.leases.claim(record_id, TENANT.environment_id)
        assert claimed is not None
        is_refused = look(morning.database, record_id).serial_number == "MADE2"
        decision = DeadLetter(Reason.INVALID_OTP) if is_refused else Active()
        morning.leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, CallSummary(1))
    assert [line["serial"] for line in morning.hand_out(made)] == ["MADE1", "MADE3"]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(1)"])
def test_no_cell_and_no_header_begins_a_formula(morning: Morning, cell: str) -> None:
    made = morning.load(box(), people(header=cell, cell=cell))
    morning.attempt(made, 0)
    (line,) = morning.hand_out(made)
    assert line[f"'{cell}"] == f"'{cell}"
    assert not [text for pair in line.items() for text in pair if text.startswith(("=", "+", "-", "@"))]


def test_a_hand_out_holds_no_otp_and_no_seed(morning: Morning) -> None:
    made = morning.load(box(), people())
    morning.attempt(made, 0)
    text = io.StringIO()
    write_hand_out(morning.database, made.name, text)
    assert SECRET[:-1] not in text.getvalue()


def test_a_batch_that_is_not_there_is_not_handed_out(morning: Morning) -> None:
    with pytest.raises(UnknownBatch, match="'nothing'"):
        write_hand_out(morning.database, "nothing", io.StringIO())


@pytest.mark.parametrize(("shipment", "kept"), [(box(HOTP, 7), (7, 7)), (box(TOTP, 30), (None, 0))])
def test_the_counter_of_a_hotp_token_is_kept_when_it_is_loaded(
    morning: Morning, shipment: str, kept: tuple[int | None, int]
) -> None:
    (record_id,) = enqueue(morning.database, morning.load(shipment, people()))
    record = look(morning.database, record_id)
    assert (record.first_counter, record.next_counter) == kept


def test_it_is_told_how_far_a_hand_out_is(database: MovingDatabase) -> None:
    make_batch(database, 1001, status=Status.ACTIVE)
    heard = Heard()

    assert write_hand_out(database, "shipment", io.StringIO(newline=""), heard) == 1001

    assert heard == [("Writing records", 1000, 1001)]
