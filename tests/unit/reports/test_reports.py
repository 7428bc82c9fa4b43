"""Why work does not move, what the hand-out advises, when a batch was paused, what a verification finds; and what is
said of one token, of a batch and of a search, beyond what the golden files show of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from support.data.facts import (
    FINISHED,
    NOW,
    PAUSED,
    RUNNING,
    batch,
    history_of,
    make_command,
    make_timeline,
    minutes,
    past_attempt,
    past_record,
)

from models.attempt import PastCall, find_last_answer
from models.reason import CURES, Reason
from models.record_states import Status
from worker.fleet import KnownProcess
from worker.pingone.inventory import InventoryToken
from worker.reports.batch_history import Command, PauseSpan, describe_command, describe_timeline, find_pauses
from worker.reports.export import IF_REFUSED, advise, count_presses, is_counter_unknown
from worker.reports.facts import BatchStatus, describe_made, describe_outcome
from worker.reports.outlook import describe_waiting
from worker.reports.search import Sought, describe_nothing_found
from worker.reports.stall import Cause, Fleet, describe_sick, explain_stall, find_stall
from worker.reports.token_history import (
    NextStep,
    describe_call,
    describe_given,
    describe_next,
    list_history,
    sum_up,
)
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
        (Fleet([GONE]), Cause.WORKER, "No worker is running", "`oathbulk run BATCH` starts one"),
        (Fleet(batch="my box"), Cause.WORKER, "No worker is running", "`oathbulk run 'my box'` starts one"),
        (
            Fleet([WELL], batch="august", only_batch="july"),
            Cause.WORKER,
            "No worker is working on it",
            "`oathbulk run july`, which is running here, works only on july",
        ),
        (
            Fleet(batch="july", only_batch="july"),
            Cause.WORKER,
            "No worker is running",
            "which is running here, starts one",
        ),
        (Fleet([SICK, GONE]), Cause.SICK, "host:3 (network: PingOne cannot be reached.)", "restart them"),
        (Fleet([WELL, SICK]), Cause.UNKNOWN, "nothing is being settled", "logs"),
        (
            Fleet([replace(WELL, seconds_since_tick=None)]),
            Cause.TICK,
            "No tick has ever arrived",
            "celery -A worker beat",
        ),
        (
            Fleet([replace(WELL, seconds_since_tick=90.0)]),
            Cause.TICK,
            "No tick has arrived for 90 s",
            "celery -A worker",
        ),
        (Fleet([replace(WELL, seconds_since_tick=-3600.0)]), Cause.CLOCK, "3600 s in the future", "NTP"),
        # A tick of any process counts.
        (Fleet([replace(WELL, seconds_since_tick=500.0), WELL]), Cause.UNKNOWN, "nothing is being settled", "logs"),
    ],
)
def test_each_cause_is_named_with_the_command_that_mends_it(fleet: Fleet, cause: Cause, word: str, cure: str) -> None:
    stall = explain_stall(fleet)
    assert (stall.cause, word in stall.detail, cure in stall.cure) == (cause, True, True), stall


@pytest.mark.parametrize(("seconds", "cause"), [(5.0, None), (30.0, Cause.UNKNOWN)])
def test_who_has_just_started_has_not_stalled(seconds: float, cause: Cause | None) -> None:
    stall = find_stall(Fleet([replace(WELL, running_for=seconds)]), 90.0, None)
    assert (stall and stall.cause) == cause


def test_a_worker_that_is_started_again_and_again_is_named_once() -> None:
    again, elsewhere = (
        replace(SICK, name="host:4", sick_since=SEEN + timedelta(minutes=1)),
        replace(SICK, name="other:3"),
    )
    assert describe_sick(Fleet([elsewhere, again, SICK])) == "; ".join(
        f"{name} (network: {SICK.detail})" for name in ("other:3", "host:4")
    )


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
        ("hotp", 0, "Press the token, and sign on with the number that it shows."),
        ("hotp", 1, "Press once and ignore the number; sign on with the second."),
        ("hotp", 2, "Press 2 times and ignore these 2 numbers; sign on with the next one, number 3."),
        ("totp", 0, "Sign on with the number that the token shows now."),
    ],
)
def test_a_person_is_told_what_to_do(otp_type: str, presses: int, said: str) -> None:
    assert advise(otp_type, presses) == f"{said} {IF_REFUSED}"


@pytest.mark.parametrize(
    ("second", "next_counter", "is_unknown"), [("sent", 12, True), ("unsent", 12, False), ("sent", None, False)]
)
def test_a_hand_out_does_not_know_the_counter_of_a_token_that_a_restore_found_active(
    second: str, next_counter: int | None, is_unknown: bool
) -> None:
    record = past_record(Status.ACTIVE, otp1_state="sent", otp2_state=second, next_counter=next_counter)
    assert is_counter_unknown(record) is is_unknown  # type: ignore[arg-type]
    assert ("You might need fewer presses" in advise("hotp", 5, is_limit=is_unknown)) is is_unknown


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
        (record(), InventoryToken("t", "S1", digits=8), "in the inventory with a different number of digits"),
        (record(), InventoryToken("t", "S1", hash_name="sha256"), "in the inventory with a different hash"),
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


# One token.

EXTRA = {"status": 400, "code": "INVALID_DATA", "detail_code": "EXTRA_OTP_REQUIRED", "milliseconds": 61}
OTP1 = {"call": "otp1", "resync": False}
THROTTLED = {"status": 429, "code": "REQUEST_LIMITED"}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (OTP1 | EXTRA, "OTP 1: HTTP 400 INVALID_DATA/EXTRA_OTP_REQUIRED, 61 ms"),
        (OTP1 | {"resync": True, "status": 200, "milliseconds": 1200}, "OTP 1 with oathResync: HTTP 200, 1,200 ms"),
        (
            {"call": "otp2", "resync": True, "milliseconds": 9},
            "OTP 2 with oathResync: no answer, 9 ms",
        ),
        # Of a worker that died.
        ({"call": "otp1"}, "OTP 1: no answer"),
        (
            {"call": "pair", "status": 503, "error_id": "e", "correlation_id": "c"},
            "pairing: HTTP 503, error_id=e, correlation_id=c",
        ),
        ({"call": "read", "status": 404, "code": "NOT_FOUND"}, "read of the device: HTTP 404 NOT_FOUND"),
        ({"call": "find", "status": 200}, "look-up of the token: HTTP 200"),
    ],
)
def test_a_call_says_what_was_sent_and_what_came_back(call: dict[str, Any], told: str) -> None:
    assert describe_call(call) == told


def test_attempts_are_listed_with_each_call_and_summed_up_and_those_that_do_not_count_say_so() -> None:
    attempts = [
        past_attempt(outcome="handed_back", reason="hold", calls=[OTP1 | EXTRA]),
        past_attempt(outcome="handed_back", reason="hold"),
        past_attempt(outcome="lost", calls=[OTP1 | EXTRA, {"call": "otp2"}]),
        past_attempt(outcome="dead_letter", reason="stale_otp", calls=[{"call": "read", "status": 200}]),
    ]
    told = list(list_history(past_record(attempts=attempts, counted_attempts=1)))
    lines = [text for _, text in told if not text.startswith("→")]
    assert ["not counted" in text for text in lines] == [True, True, False, True, False]
    assert [text for _, text in told].count("→ OTP 1: HTTP 400 INVALID_DATA/EXTRA_OTP_REQUIRED, 61 ms") == 2
    assert told[-1] == ("in all", "4 attempts, 1 of them counted, 4 requests, 3 OTPs posted")
    # One that goes on is counted already, and has no line yet.
    goes_on = past_record(Status.ACTIVATING, attempts=attempts[:1], counted_attempts=1)
    assert sum_up(goes_on) == "1 attempt, 0 of them counted, 1 request, 1 OTP posted, and one attempt is running"


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ([], {}),
        ([OTP1], {}),
        ([OTP1 | EXTRA, {"call": "otp2"}], OTP1 | EXTRA),
        # A plain answer is that of the read to which a refusal led.
        ([OTP1 | EXTRA, {"call": "read", "status": 200}], OTP1 | EXTRA),
        ([OTP1 | {"status": 503}, {"call": "read", "status": 200}], {"call": "read", "status": 200}),
        ([OTP1 | {"status": 503}, {"call": "find", "status": 200}], OTP1 | {"status": 503}),
        (
            [OTP1 | EXTRA, OTP1 | THROTTLED],
            OTP1 | THROTTLED,
        ),
    ],
)
def test_the_last_answer_of_an_attempt_is_that_which_decided(calls: list[PastCall], found: PastCall) -> None:
    assert find_last_answer(calls) == found


OF_PAUSED = {"state": "paused", "reason": "permissions", "detail": "Give it the role, then resume."}
OPENS = datetime(2026, 11, 28, 21, 0, tzinfo=UTC)
EXPORT = "oathbulk export july --failed -o july-failed.csv"
FIX_FIRST = "Fix the cause first, as its meaning says; after a mend, it needs no replay."
ALL = "To replay all that failed for this reason: oathbulk replay july --reason "
ONE = "oathbulk replay july --where serial=MADE7"
IN_VAIN = (
    "A replay would end the same way. Export what failed, correct the file, then: oathbulk mend july july-failed.csv"
)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "fields", "step"),
    [
        (
            "dead_letter",
            {"reason": "locked", "is_replayable": True},
            ("nothing by itself: it failed (locked)", f"{FIX_FIRST} {ALL}locked", ONE),
        ),
        # Only another row or file mends it.
        (
            "dead_letter",
            {"reason": "token_refused", "is_replayable": True},
            ("nothing by itself: it failed (token_refused)", IN_VAIN, EXPORT),
        ),
        (
            "dead_letter",
            {"reason": "attempts_spent", "is_replayable": True},
            ("it is due again at the next time of the replay schedule (15 * * * *)", ALL + "attempts_spent", ONE),
        ),
        (
            "cancelled",
            {"batch": {"state": "cancelled"}},
            ("nothing by itself: it is cancelled", None, "oathbulk replay july"),
        ),
        (
            "cancelled",
            {"are_otps_kept": False, "batch": {"state": "cancelled"}},
            ("nothing by itself: it is cancelled", None, None),
        ),
        ("cancelled", {}, ("nothing by itself: it is cancelled", None, None)),
        (
            "activating",
            {"lease_until": later(48)},
            ("being worked on for 12 s; if its worker died, it is due again at 12:30:48 UTC", None, None),
        ),
        (
            "activating",
            {"lease_until": later(-5)},
            (
                "its worker's time ran out at 12:29:55 UTC, and it is due again as soon as a worker is running",
                None,
                None,
            ),
        ),
        (
            "queued",
            {"batch": OF_PAUSED},
            ("batch july is paused: permissions", "Give it the role, then resume.", "oathbulk resume july"),
        ),
        (
            "pending",
            {"batch": {"state": "paused", "reason": "window", "resumes_at": OPENS}},
            ("batch july is paused: window; it continues by itself at 2026-11-28 21:00 UTC", None, None),
        ),
        ("pending", {"attempts": [None], "scheduled_at": later(25)}, ("due again in 25 s", None, None)),
        (
            "pending",
            {"user_id": "", "device_id": ""},
            ("waits to be given out", None, "oathbulk give july MADE7 PERSON"),
        ),
        (
            "pending",
            {"user_id": ""},
            (
                "cannot be given out: PingOne already has the token as a device",
                "Find out whose it is, and unpair it there. If nobody is to get it from this batch, close its row:",
                "oathbulk cancel july --where serial=MADE7",
            ),
        ),
        (
            "queued",
            {"lease_until": later(60)},
            ("waits for a worker; if none takes it, it is due again at 12:31:00 UTC", None, None),
        ),
    ],
)
def test_each_situation_has_a_sentence_and_the_command_that_helps(
    status: str, fields: dict[str, Any], step: tuple[str, str | None, str | None]
) -> None:
    token = history_of(past_record(Status(status), **fields))
    assert describe_next(token, lease=60.0, replay_cron="15 * * * *") == NextStep(*step)


def test_what_no_worker_takes_and_no_schedule_replays_is_said_so() -> None:
    step = describe_next(history_of(past_record(Status.QUEUED), fleet=Fleet()), lease=60.0)
    assert step.sentence == "waits for a worker: no worker is running"
    assert "celery -A worker worker" in str(step.why)
    spent = history_of(past_record(Status.DEAD_LETTER, reason="attempts_spent", is_replayable=True))
    assert describe_next(spent, lease=60.0).sentence == "nothing by itself: it failed (attempts_spent)"


@pytest.mark.parametrize(
    ("fields", "part", "said"),
    [
        ({"otp1_posts": 1}, "otp1", "may have been posted, and may be sent again"),
        # Each OTP of a seed goes once: the next one is another.
        ({"otp1_posts": 1, "has_seed": True}, "otp1", "not sent; earlier ones of its seed may have been posted"),
        ({"otp1_state": "answered"}, "otp1", "answered by PingOne"),
        ({"has_second_otp": False}, "otp2", "the row had only one OTP"),
        ({"otp2_state": "answered", "otp2_posts": 2}, "otp2", "answered by PingOne"),
    ],
)
def test_it_is_told_what_became_of_the_otps(fields: dict[str, Any], part: str, said: str) -> None:
    assert past_record(**fields).describe_otps()[part] == said


SENT_NOW = {"otp1_state": "sent", "otp1_posts": 1, "otp_sent_at": NOW}
TOLD, NOT_KNOWN = "sent, and no answer is recorded", "not known, because the database was restored"


@pytest.mark.parametrize(
    ("status", "calls", "said"),
    [
        (Status.ACTIVE, [{"call": "otp1"}], f"{TOLD}; a read found the device ACTIVE"),
        (Status.PENDING, [{"call": "otp1"}], f"{TOLD}; the device is read before anything else is sent"),
        # A restore marked it, and whether it went out before is not known.
        (Status.ACTIVE, [{"call": "read", "status": 200}], f"{NOT_KNOWN}; a read found the device ACTIVE"),
        (Status.PENDING, None, f"{NOT_KNOWN}; the device is read before anything else is sent"),
        # The line of the attempt is written in its end.
        (Status.ACTIVATING, None, f"{TOLD}; the device is read before anything else is sent"),
    ],
)
def test_what_a_restore_forgot_is_told_as_not_known(status: Status, calls: Any, said: str) -> None:
    later = past_attempt(calls=calls, ended_at=NOW + timedelta(seconds=1))
    # What went out before the backup, and was lost then, says nothing of what went out since.
    before = past_attempt(calls=[{"call": "otp1"}], ended_at=NOW - timedelta(days=1))
    assert past_record(status, attempts=[before, later], **SENT_NOW).describe_otps()["otp1"] == said


def test_the_meaning_of_a_reason_is_what_was_written_down_else_its_cure() -> None:
    told = [{"reason": "locked", "detail": "Code 17."}, {"reason": "locked"}, {"reason": "of_a_later_version"}]
    assert [past_record(**each).meaning for each in told] == ["Code 17.", CURES[Reason.LOCKED], None]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"status": "active", "first_counter": 0, "next_counter": 1}, "Press once and ignore the number; sign on"),
        (
            {"status": "dead_letter", "reason": "user_not_found", "detail": "Nobody is called so."},
            "Nobody is called so.",
        ),
        ({"status": "pending"}, "on its way: the batch is paused. Resume it."),
        ({"status": "activating"}, "on its way"),
    ],
)
def test_a_token_that_was_given_out_says_what_to_do(columns: dict[str, Any], said: str) -> None:
    step = NextStep("the batch is paused", "Resume it.")
    assert describe_given(past_record(**columns).read, step).startswith(said)


# How a batch stands, and what was searched for.


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"active": 3000}, "All 3,000 rows are active."),
        ({"active": 1}, "The only row is active."),
        ({}, "The batch has no rows."),
        ({"active": 1, "dead_letter": 1}, "1 of 2 rows is active; 1 failed."),
        ({"active": 5, "pending": 2}, "5 of 7 rows are active; 2 to do."),
        (
            {"active": 2958, "queued": 1, "dead_letter": 33, "refused": 5, "cancelled": 3},
            "2,958 of 3,000 rows are active; 1 to do, 38 failed, 3 closed.",
        ),
    ],
)
def test_the_outcome_is_one_sentence(counts: dict[str, int], said: str) -> None:
    rows = {name: number for name, number in counts.items() if name != "refused"}
    assert describe_outcome(replace(batch(**rows), rows_refused=counts.get("refused", 0))) == said


@pytest.mark.parametrize(
    ("fields", "waits", "made"),
    [
        ({"waiting": {"user": 0, "token": 0}}, "", ""),
        ({"waiting": {"user": 1, "token": 0}}, "1 waits until its person is found.", ""),
        (
            {"waiting": {"user": 12, "token": 7}, "may_import": False},
            "12 wait until their person is found, 7 wait until their token is found in the inventory.",
            "",
        ),
        ({"unproved": 1}, "", "1 active unproved (PingOne asked for no OTP; in an export, otp_posts is 0)"),
        (
            {"imported": 74, "paired": 1, "unproved": 2},
            "",
            "74 tokens imported · 1 device paired · "
            "2 active unproved (PingOne asked for no OTP; in an export, otp_posts is 0)",
        ),
    ],
)
def test_what_a_batch_waits_for_and_what_it_has_made_is_counted(fields: dict[str, Any], waits: str, made: str) -> None:
    status = replace(RUNNING, **fields)
    assert (describe_waiting(status), describe_made(status)) == (waits, made)


def test_chart_and_commands_are_told_in_words() -> None:
    only = "The only active token became active at 2026-03-01 21:31:00 UTC."
    assert describe_timeline(make_timeline((1,))) == only
    assert describe_timeline(make_timeline((1, 1.01))).endswith("21:31:00, 600 ms after the first.")
    facts = {"reasons": ["locked", "blocked"], "canary": None, "may_import": True, "rows_refused": 0}
    said = describe_command(make_command(minutes(0), "alice", "replay", None, facts))
    assert said == "reasons: locked, blocked; may import: yes; rows refused: 0"


BEGINNING = "No record matches. Search for the start of a value."


@pytest.mark.parametrize(
    ("sought", "said"),
    [
        (Sought(user="lea", status="activating"), BEGINNING),
        (Sought(status="activating"), "No record is activating."),
        (Sought(status="dead_letter", batch="july"), "No record of july is a dead letter."),
        (Sought(status="cancelled", reason="locked"), "No record is cancelled and has the reason locked."),
        (Sought(status="not_loaded", batch="july"), "Every row of july was loaded."),
        (Sought(status="not_loaded", reason="locked"), "No record is not_loaded and has the reason locked."),
        (Sought(reason="locked"), "No record has the reason locked."),
        (Sought(batch="july"), "There is no record of july."),
        (Sought(), "There is no record."),
    ],
)
def test_it_is_said_that_there_is_none_and_how_a_text_is_read_only_where_there_was_one(
    sought: Sought, said: str
) -> None:
    assert describe_nothing_found(sought) == said
