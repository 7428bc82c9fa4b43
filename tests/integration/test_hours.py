"""A batch keeps to its daily window, to the second, and goes on by itself; a person's word goes before it."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from support.data.audit_lines import read
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    Made,
    look,
    look_at_batch,
    make_batch,
    make_environment,
)
from support.data.loading import token
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.fleets.scripted_fleet import UNKNOWN, ScriptedFleet

from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.reason import PauseReason, Reason
from worker.batches import hours
from worker.batches.commands import HoursChange
from worker.batches.hours import OtherHours
from worker.batches.loading import Loaded, Loader
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings
from worker.intake.shipment import open_shipment
from worker.leases.lease import Leases
from worker.leases.moves import LAST_START
from worker.process.worker_parts import WorkerParts
from worker.reports.facts import read_statuses
from worker.rules.hours import DailyHours
from worker.rules.quota import Quota
from worker.rules.steps import Active, DeadLetter, Pause

# In November 21:00 to 04:30 UTC.
NIGHT = DailyHours.parse("22:00-05:30", "Europe/Berlin")
DAY = DailyHours.parse("08:00-18:00", "UTC")
OPEN, CLOSED = "2026-11-25 22:00", "2026-11-26 12:00"
RUNNING = (BatchState.RUNNING, None)
WAITS = (BatchState.PAUSED, PauseReason.WINDOW)
FOR_QUOTA = (BatchState.PAUSED, PauseReason.QUOTA)
BY_A_PERSON = (BatchState.PAUSED, PauseReason.PERSON)


def make(
    scripted_fleet: ScriptedFleet, at: str, window: DailyHours | None = NIGHT, records: int = 3, name: str = "shipment"
) -> Made:
    """A batch that was loaded at that time."""
    scripted_fleet.set_clock(at)
    made = make_batch(scripted_fleet.database, records, name=name)
    with scripted_fleet.database.writing() as connection:
        hours.set_hours(connection, made.batch_id, window)
        hours.check_hours(scripted_fleet.database, connection, made.batch_id)
    return made


def tick_at(scripted_fleet: ScriptedFleet, at: str) -> list[int]:
    """Make a tick at that time: the ids that it put onto the queue."""
    scripted_fleet.set_clock(at)
    return scripted_fleet.tick()


def facts_of_the_last_line(database: MovingDatabase) -> tuple[str, dict[str, object]]:
    line = read(database)[-1]
    return line.action, line.facts


# It closes and opens.


@ON_SQLITE
def test_it_pauses_when_its_window_closes_says_when_it_goes_on_and_goes_on_by_itself_then(
    scripted_fleet: ScriptedFleet,
) -> None:
    nightly, daily = make(scripted_fleet, OPEN), make(scripted_fleet, OPEN, None, name="other")
    assert scripted_fleet.state(nightly) == RUNNING
    assert f"{look_at_batch(scripted_fleet.database, nightly.batch_id).closes_at:%d %H:%M}" == "26 04:30"
    assert tick_at(scripted_fleet, "2026-11-26 04:30") == daily.ids

    batch = look_at_batch(scripted_fleet.database, nightly.batch_id)
    assert (scripted_fleet.state(nightly), scripted_fleet.state(daily)) == (WAITS, RUNNING)
    assert (
        batch.detail
        == "outside its daily window 22:00-05:30 Europe/Berlin, and continues by itself at 2026-11-26 21:00 UTC."
    )
    assert f"{batch.resumes_at:%d %H:%M}" == "26 21:00"
    tick_at(scripted_fleet, "2026-11-26 20:59:55")
    assert scripted_fleet.state(nightly) == WAITS

    assert set(tick_at(scripted_fleet, "2026-11-26 21:00:00")) >= set(nightly.ids)
    batch = look_at_batch(scripted_fleet.database, nightly.batch_id)
    assert (scripted_fleet.state(nightly), batch.detail, batch.resumes_at) == (RUNNING, None, None)
    assert f"{batch.closes_at:%d %H:%M}" == "27 04:30"


def test_no_call_starts_from_the_end_on_even_if_no_tick_has_noticed_it(
    scripted_fleet: ScriptedFleet, leases: Leases
) -> None:
    """Beat may be down, and a window's worth of messages lie in Redis."""
    made = make(scripted_fleet, OPEN, records=4)
    tick_at(scripted_fleet, "2026-11-26 04:29:30")
    fresh, half, reading, left = made.ids
    before, between, other = scripted_fleet.claim(fresh), scripted_fleet.claim(half), scripted_fleet.claim(reading)
    scripted_fleet.set_clock("2026-11-26 04:29:55")
    assert [leases.renew_mark(before), leases.may_read(other)] == [True] * 2
    assert leases.write_progress(between, between.progress.with_otp_answered(1))

    scripted_fleet.set_clock("2026-11-26 04:30:00")

    assert scripted_fleet.state(made) == RUNNING
    assert [leases.renew_mark(before), leases.may_read(other), leases.mark_sent(between, 2)] == [False] * 3
    assert leases.claim(left, ENVIRONMENT_ID) is None
    assert leases.hand_back_stopped(left)
    # What is in flight is settled.
    scripted_fleet.settle(before, Active())
    assert look(scripted_fleet.database, fresh).status == "active"


@ON_SQLITE
def test_shortly_before_the_end_no_record_begins_so_that_none_is_left_between_its_otps(
    scripted_fleet: ScriptedFleet, leases: Leases
) -> None:
    made = make(scripted_fleet, OPEN, records=2)
    # Five seconds are left to begin, by a clock that goes on.
    first, second = tick_at(scripted_fleet, "2026-11-26 04:29:40")
    claimed = scripted_fleet.claim(first)
    scripted_fleet.pass_time(6)

    assert leases.claim(second, ENVIRONMENT_ID) is None
    assert leases.hand_back_stopped(second)
    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == RUNNING
    # The one that has begun gets its second OTP still.
    scripted_fleet.pass_time(LAST_START - 7)
    assert leases.write_progress(claimed, claimed.progress.with_otp_answered(1))
    assert leases.mark_sent(claimed, 2)


@ON_SQLITE
def test_a_zone_that_this_machine_does_not_know_stops_its_batch_alone(scripted_fleet: ScriptedFleet) -> None:
    stranger, other = make(scripted_fleet, CLOSED), make(scripted_fleet, CLOSED, None, name="other")
    scripted_fleet.database.change(update(Batch).where(Batch.id == stranger.batch_id).values(zone="Mars/Olympus"))
    assert tick_at(scripted_fleet, "2026-11-26 21:00:01") == other.ids

    assert scripted_fleet.state(stranger) == (BatchState.PAUSED, PauseReason.INTERNAL)
    assert "'Mars/Olympus' is not a time zone" in look_at_batch(scripted_fleet.database, stranger.batch_id).detail


# What persons say.


@ON_SQLITE
@pytest.mark.parametrize(
    ("at", "reason"), [(OPEN, PauseReason.PERSON), (CLOSED, PauseReason.PERSON), (CLOSED, PauseReason.CREDENTIALS)]
)
def test_a_persons_pause_or_one_for_refused_credentials_stays_when_the_window_opens(
    scripted_fleet: ScriptedFleet, at: str, reason: PauseReason
) -> None:
    made = make(scripted_fleet, OPEN)
    tick_at(scripted_fleet, at)
    if reason == PauseReason.PERSON:
        scripted_fleet.batches.pause(made.name)
    else:
        assert scripted_fleet.upkeep.pause(made.batch_id, reason)

    for later in ("2026-11-26 21:00:01", "2026-11-27 05:00"):
        assert tick_at(scripted_fleet, later) == []
        assert scripted_fleet.state(made) == (BatchState.PAUSED, reason)
    assert look_at_batch(scripted_fleet.database, made.batch_id).resumes_at is None


@ON_SQLITE
@pytest.mark.parametrize("is_paused", [True, False])
def test_a_resume_outside_the_window_says_when_it_goes_on_and_lets_it_go_on_then(
    scripted_fleet: ScriptedFleet, is_paused: bool
) -> None:
    made = make(scripted_fleet, CLOSED)
    if is_paused:
        scripted_fleet.batches.pause(made.name)

    outside = scripted_fleet.batches.resume(made.name)

    assert (
        str(outside)
        == "outside its daily window 22:00-05:30 Europe/Berlin, and continues by itself at 2026-11-26 21:00 UTC"
    )
    assert scripted_fleet.state(made) == WAITS
    assert scripted_fleet.tick() == []
    assert tick_at(scripted_fleet, "2026-11-26 21:00") == made.ids


@ON_SQLITE
def test_a_resume_with_another_window_holds_at_once_and_one_without_lets_it_run_now_and_from_now_on(
    scripted_fleet: ScriptedFleet,
) -> None:
    made = make(scripted_fleet, OPEN)
    outside = scripted_fleet.batches.resume(made.name, HoursChange(DAY))
    assert f"{outside}" == "outside its daily window 08:00-18:00 UTC, and continues by itself at 2026-11-26 08:00 UTC"
    assert scripted_fleet.state(made) == WAITS
    assert facts_of_the_last_line(scripted_fleet.database) == ("resume", {"reason": None, "window": "08:00-18:00 UTC"})

    assert scripted_fleet.batches.resume(made.name, HoursChange(None)) is None

    assert scripted_fleet.tick() == made.ids
    batch = look_at_batch(scripted_fleet.database, made.batch_id)
    assert (batch.daily_window, batch.zone, batch.closes_at, batch.resumes_at) == (None, None, None, None)
    tick_at(scripted_fleet, "2026-11-27 12:00")
    assert scripted_fleet.state(made) == RUNNING
    assert facts_of_the_last_line(scripted_fleet.database) == ("resume", {"reason": "window", "window": None})


@ON_SQLITE
def test_a_replay_outside_the_window_waits_for_it(scripted_fleet: ScriptedFleet) -> None:
    made = make(scripted_fleet, OPEN, records=1)
    scripted_fleet.end_all(scripted_fleet.tick(), DeadLetter(Reason.FORBIDDEN))
    tick_at(scripted_fleet, CLOSED)

    replayed = scripted_fleet.batches.replay(made.name)

    assert (replayed.records, str(replayed.out_of_hours)[:24]) == (1, "outside its daily window")
    assert scripted_fleet.tick() == []
    assert tick_at(scripted_fleet, "2026-11-26 21:00") == made.ids


@ON_SQLITE
def test_a_cancelled_batch_is_read_outside_the_window_and_does_not_come_back_when_that_opens(
    scripted_fleet: ScriptedFleet, leases: Leases
) -> None:
    made = make(scripted_fleet, OPEN, records=1)
    scripted_fleet.end_all(scripted_fleet.tick(), UNKNOWN)
    tick_at(scripted_fleet, CLOSED)

    scripted_fleet.batches.cancel(made.name)

    assert scripted_fleet.tick() == made.ids
    assert leases.may_read(scripted_fleet.claim(made.id))
    tick_at(scripted_fleet, "2026-11-26 21:00")
    assert scripted_fleet.state(made) == (BatchState.CANCELLED, None)


# Other pauses.


@ON_SQLITE
def test_a_canary_that_was_done_when_the_window_closed_is_told_then_and_not_when_it_opens(
    scripted_fleet: ScriptedFleet,
) -> None:
    made = make(scripted_fleet, "2026-11-26 04:29:40", records=4)
    scripted_fleet.set_canary(made, 1)
    claimed = scripted_fleet.claim(scripted_fleet.tick()[0])
    tick_at(scripted_fleet, "2026-11-26 04:30")
    assert scripted_fleet.state(made) == WAITS

    scripted_fleet.settle(claimed, Active())
    scripted_fleet.tick()

    assert scripted_fleet.state(made) == (BatchState.PAUSED, PauseReason.CANARY)
    assert tick_at(scripted_fleet, "2026-11-26 21:00") == []
    assert scripted_fleet.batches.resume(made.name) is None
    assert scripted_fleet.tick() == made.ids[1:]


@ON_SQLITE
def test_a_probe_outside_the_window_waits_for_it(scripted_fleet: ScriptedFleet) -> None:
    made = make(scripted_fleet, OPEN, records=20)
    scripted_fleet.begin_outage(made)
    assert tick_at(scripted_fleet, CLOSED) == []
    assert scripted_fleet.state(made) == WAITS
    # The outage is not forgotten: a few go at first.
    assert len(tick_at(scripted_fleet, "2026-11-26 21:00")) == 2


# A quota.


def pause_for_quota(scripted_fleet: ScriptedFleet, *environments: str) -> None:
    """PingOne says that the quota of these environments' license resets in an hour."""
    quota = Quota(3600.0, scripted_fleet.database.read_clock() + timedelta(seconds=3600))
    scripted_fleet.upkeep.pause_for_quota(quota, lambda name: name in environments)


def test_every_batch_of_the_license_waits_until_the_quota_resets(
    scripted_fleet: ScriptedFleet, database_url: str
) -> None:
    """A worker knows which environments share it. One that is not configured where it works is none of them."""
    licenses = {"default": "mine", "twin": "mine", "foreign": "another"}

    def load_environment(name: str) -> Environment:
        if name not in licenses:
            raise ConfigError(name)
        return make_environment(name=name, license=licenses[name])

    scripted_fleet.set_clock(OPEN)
    database, names = scripted_fleet.database, (*licenses, "gone")
    made = [make_batch(database, 2, name=name, environment=name) for name in names]
    claimed = scripted_fleet.claim(scripted_fleet.tick()[0])
    made.append(make_batch(database, 2, name="paused"))
    scripted_fleet.batches.pause("paused")
    made.append(make(scripted_fleet, CLOSED, name="waits"))
    scripted_fleet.set_clock(OPEN)

    settings = Settings(database_url=SecretStr(database_url), redis_url=SecretStr("redis://127.0.0.1:1"))
    parts = WorkerParts(settings, broker=None, load=load_environment)
    parts.database = database
    quota = Quota(3600.0, database.read_clock() + timedelta(hours=1))
    parts.consequences.apply_decision(load_environment("default"), claimed, Pause(PauseReason.QUOTA, quota=quota), 0)

    assert [scripted_fleet.state(each) for each in made] == [FOR_QUOTA] * 2 + [RUNNING] * 2 + [BY_A_PERSON, WAITS]
    assert look_at_batch(database, made[0].batch_id).detail == (
        "PingOne's quota is used up until 2026-11-25 23:00 UTC: continues by itself then."
    )
    tick_at(scripted_fleet, "2026-11-25 22:59:55")
    assert scripted_fleet.state(made[0]) == FOR_QUOTA
    tick_at(scripted_fleet, "2026-11-25 23:00:01")
    assert [scripted_fleet.state(each) for each in made[:4]] == [RUNNING] * 4


@ON_SQLITE
def test_a_quota_that_resets_outside_the_window_is_waited_for_until_that_opens(scripted_fleet: ScriptedFleet) -> None:
    made = make(scripted_fleet, "2026-11-26 04:00")
    pause_for_quota(scripted_fleet, "default")
    assert look_at_batch(scripted_fleet.database, made.batch_id).detail == (
        "PingOne's quota is used up until 2026-11-26 05:00 UTC: continues by itself then, "
        "inside its window 22:00-05:30 Europe/Berlin."
    )
    tick_at(scripted_fleet, "2026-11-26 05:00:01")

    assert scripted_fleet.state(made) == WAITS


@ON_SQLITE
def test_a_person_may_resume_before_the_quota_resets_and_pause_what_waits_for_it(scripted_fleet: ScriptedFleet) -> None:
    """An administrator may have raised it."""
    made = make(scripted_fleet, OPEN, None)
    pause_for_quota(scripted_fleet, "default")
    assert scripted_fleet.batches.resume(made.name) is None
    assert scripted_fleet.tick() == made.ids

    pause_for_quota(scripted_fleet, "default")
    scripted_fleet.batches.pause(made.name)
    scripted_fleet.pass_time(4000)

    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == BY_A_PERSON


# Load.


def load(
    scripted_fleet: ScriptedFleet, keyring: Keyring, folder: Path, window: DailyHours | None, name: str = "shipment"
) -> Loaded:
    path, row = folder / f"{name}.csv", token(len(name))
    path.write_text("\n".join(map(",".join, (row, row.values()))))
    loader = Loader(scripted_fleet.database, keyring, make_environment(), TESTER)
    return loader.load(open_shipment(path), name, daily_hours=window)


@ON_SQLITE
def test_a_load_outside_the_window_waits_and_one_inside_runs(
    scripted_fleet: ScriptedFleet, keyring: Keyring, tmp_path: Path
) -> None:
    scripted_fleet.set_clock(OPEN)
    assert load(scripted_fleet, keyring, tmp_path, NIGHT, "inside").out_of_hours is None
    scripted_fleet.set_clock(CLOSED)
    assert f"{load(scripted_fleet, keyring, tmp_path, NIGHT).out_of_hours}".startswith("outside its daily window")

    outside, inside = read_statuses(scripted_fleet.database)

    assert (outside.state, outside.reason, str(outside.resumes_at)) == (*WAITS, "2026-11-26 21:00:00+00:00")
    assert (inside.state, str(inside.closes_at)) == ("running", "2026-11-26 04:30:00+00:00")
    action, facts = facts_of_the_last_line(scripted_fleet.database)
    assert (action, facts["window"]) == ("load", "22:00-05:30 Europe/Berlin")


@ON_SQLITE
def test_the_same_file_again_need_not_repeat_the_window_but_must_not_name_another(
    scripted_fleet: ScriptedFleet, keyring: Keyring, tmp_path: Path
) -> None:
    scripted_fleet.set_clock(OPEN)
    load(scripted_fleet, keyring, tmp_path, NIGHT)

    assert not load(scripted_fleet, keyring, tmp_path, NIGHT).is_new
    assert not load(scripted_fleet, keyring, tmp_path, None).is_new
    with pytest.raises(
        OtherHours,
        match=r"which has the window 22:00-05:30 Europe/Berlin\. To change that, run: "
        r"oathbulk resume shipment --window 08:00-18:00 --zone UTC",
    ):
        load(scripted_fleet, keyring, tmp_path, DAY)
    scripted_fleet.batches.resume("shipment", HoursChange(None))
    with pytest.raises(OtherHours, match="which runs all day"):
        load(scripted_fleet, keyring, tmp_path, NIGHT)
