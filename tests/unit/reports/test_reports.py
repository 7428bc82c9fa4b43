"""Why work does not move, what the hand-out advises, when a batch was paused, and what a verification finds."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from support.data.facts import FINISHED, PAUSED, make_command, minutes

from models.reason import Reason
from models.record_states import Status
from worker.fleet import KnownProcess
from worker.pingone.inventory import InventoryToken
from worker.reports.export import IF_REFUSED, advise, count_presses
from worker.reports.facts import BatchStatus
from worker.reports.overview import Command, PauseSpan, find_pauses
from worker.reports.stall import Cause, Fleet, describe_sick, explain_stall
from worker.reports.verification import describe_token
from worker.vault.otps import Secret, Seed

SEEN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
WELL = KnownProcess("host:1", True, SEEN, 1.0, None, None, None)
GONE = replace(WELL, name="host:2", is_alive=False)
SICK = replace(
    WELL, name="host:3", is_alive=False, sick_since=SEEN, reason="network", detail="PingOne cannot be reached."
)


@pytest.mark.parametrize(
    ("fleet", "cause", "word", "cure"),
    [
        (Fleet([WELL], hold="All workers hold until 12:01 UTC."), Cause.HOLD, "hold until 12:01", "--now"),
        (Fleet([WELL], broker="Connection refused"), Cause.BROKER, "Connection refused", "oathbulk doctor"),
        (Fleet([GONE]), Cause.WORKER, "No worker runs", "`oathbulk run BATCH` brings one"),
        (Fleet(batch="my box"), Cause.WORKER, "No worker runs", "`oathbulk run 'my box'` brings one"),
        (
            Fleet([WELL], batch="august", only_batch="july"),
            Cause.WORKER,
            "No worker works on it",
            "`oathbulk run july`, which runs here, works on july alone",
        ),
        (Fleet(batch="july", only_batch="july"), Cause.WORKER, "No worker runs", "which runs here, starts one"),
        (Fleet([SICK, GONE]), Cause.SICK, "host:3 (network: PingOne cannot be reached.)", "start them again"),
        (Fleet([WELL, SICK]), Cause.UNKNOWN, "nothing is settled", "logs"),
        (Fleet([replace(WELL, seconds_since_tick=None)]), Cause.TICK, "No tick ever came", "celery -A worker beat"),
        (Fleet([replace(WELL, seconds_since_tick=90.0)]), Cause.TICK, "No tick came for 90 s", "celery -A worker beat"),
        (Fleet([replace(WELL, seconds_since_tick=-3600.0)]), Cause.CLOCK, "3600 s in the future", "NTP"),
        # A tick of any process counts.
        (Fleet([replace(WELL, seconds_since_tick=500.0), WELL]), Cause.UNKNOWN, "nothing is settled", "logs"),
    ],
)
def test_each_cause_is_named_with_the_command_that_mends_it(fleet: Fleet, cause: Cause, word: str, cure: str) -> None:
    stall = explain_stall(fleet)
    assert (stall.cause, word in stall.detail, cure in stall.cure) == (cause, True, True), stall


def test_a_worker_that_is_started_again_and_again_is_named_once() -> None:
    again, elsewhere = (
        replace(SICK, name="host:4", sick_since=SEEN + timedelta(minutes=1)),
        replace(SICK, name="other:3"),
    )
    fleet = Fleet([elsewhere, again, SICK])
    assert describe_sick(fleet) == "; ".join(f"{name} (network: {SICK.detail})" for name in ("other:3", "host:4"))


@pytest.mark.parametrize(
    ("first", "following", "presses"),
    [
        (0, 1, 1),  # the first OTP was accepted
        (7, 9, 2),  # the file does not begin with 0
        (7, 7, 0),  # nothing was sent: the device was ACTIVE already
        (2**63 - 3, 2**63 - 1, 2),  # the highest counters of all
        (None, 60_000_002, 0),  # TOTP, whose next counter is the number of a time step
        (None, None, 0),  # a pair, read off the token
    ],
)
def test_a_token_is_pressed_beyond_every_otp_that_was_sent_on_its_behalf(
    first: int | None, following: int | None, presses: int
) -> None:
    assert count_presses(first, following) == presses


@pytest.mark.parametrize(
    ("otp_type", "presses", "said"),
    [
        ("hotp", 0, "Press the token and sign on with the number that it shows."),
        ("hotp", 1, "Press once and throw the number away; sign on with the second."),
        ("hotp", 2, "Press 2 times and throw these 2 numbers away; sign on with the next one, number 3."),
        ("totp", 0, "Sign on with the number that the token shows now."),
    ],
)
def test_a_person_is_told_what_to_do(otp_type: str, presses: int, said: str) -> None:
    assert advise(otp_type, presses) == f"{said} {IF_REFUSED}"


SETTLED = [minutes(number).timestamp() for number in (1, 2, 3)]
BY_PERSON = replace(PAUSED, reason="person")
TRIAL = replace(PAUSED, reason="trial")


def command(at: float, action: str, reason: str | None = None) -> Command:
    return make_command(minutes(at), "alice", action, None, {"reason": reason})


def pause(start: float, end: float | None) -> PauseSpan:
    return PauseSpan(minutes(start), minutes(end) if end else None, "paused by alice")


def pause_of_its_own(start: float, end: float | None, reason: str) -> PauseSpan:
    why = f"paused by itself: {reason}"
    return PauseSpan(minutes(start), minutes(end) if end else None, why, is_start_known=False)


@pytest.mark.parametrize(
    ("commands", "status", "pauses"),
    [
        ([command(0, "load"), command(4, "pause"), command(9, "resume", "person")], FINISHED, [pause(4, 9)]),
        ([command(4, "pause"), command(9, "replay", "person")], FINISHED, [pause(4, 9)]),
        ([command(4, "pause"), command(9, "cancel", "person")], FINISHED, [pause(4, 9)]),
        # Commanded twice.
        ([command(4, "pause"), command(5, "pause"), command(9, "resume", "person")], FINISHED, [pause(4, 9)]),
        # It begins after the last token before it ended.
        ([command(2.5, "resume", "canary")], FINISHED, [pause_of_its_own(2, 2.5, "canary")]),
        # It ran, or paused before its first token.
        ([command(9, "resume")], FINISHED, []),
        ([command(0.5, "resume", "credentials")], FINISHED, []),
        # It lasts.
        ([command(4, "pause")], BY_PERSON, [pause(4, None)]),
        ([command(0, "load")], TRIAL, [pause_of_its_own(3, None, "trial")]),
    ],
)
def test_pauses_are_those_that_commands_began_or_ended(
    commands: list[Command], status: BatchStatus, pauses: list[PauseSpan]
) -> None:
    assert find_pauses(commands, SETTLED, replace(status, read_at=minutes(60))) == pauses


FREE = InventoryToken("t", "S1", "TOTP", 6, "sha1", 30)
MINE = InventoryToken("t", "S1", device_id="d1", user_id="U1")
SEED = Seed(secret=Secret(b"12345678901234567890"), otp_type="totp", time_step=30)


def record(status: Status = Status.PENDING, **columns: Any) -> Any:
    usual = {"status": status, "user_id": "u1", "device_id": "", "reason": None, "is_in_inventory": True}
    return SimpleNamespace(**(usual | columns))


@pytest.mark.parametrize(
    ("found", "token", "said"),
    [
        (record(), FREE, None),
        (record(Status.DEAD_LETTER, is_in_inventory=False), None, None),
        (record(Status.DEAD_LETTER, reason=Reason.TOKEN_TAKEN), InventoryToken("t", "S1", user_id="u2"), None),
        (record(Status.DEAD_LETTER, reason=Reason.TOKEN_DIFFERS), InventoryToken("t", "S1", digits=8), None),
        (record(Status.ACTIVE, device_id="D1"), MINE, None),
        (record(Status.DEAD_LETTER, device_id="d1"), MINE, None),
        (record(), None, "not in the inventory"),
        (record(Status.ACTIVE, device_id="d1"), None, "not in the inventory"),
        (record(Status.ACTIVE, device_id="d1"), FREE, "not paired"),
        (record(), InventoryToken("t", "S1", digits=8), "in the inventory with another number of digits"),
        (record(), InventoryToken("t", "S1", hash_name="sha256"), "in the inventory with another hash"),
        (record(Status.ACTIVE, device_id="d1"), InventoryToken("t", "S1", user_id="u2"), "paired with another person"),
        (record(Status.ACTIVE, device_id="d2"), MINE, "paired as another device"),
        (record(Status.CANCELLED), MINE, "paired with this person, as a device that the record does not have"),
        (record(user_id=""), MINE, "paired with somebody"),
    ],
)
def test_a_verification_tells_what_differs_and_nothing_else(
    found: Any, token: InventoryToken | None, said: str | None
) -> None:
    assert describe_token(found, token, SEED) == said
