"""PingOne out of reach while a batch is prepared, on both databases: who is told what, and how it goes on."""

from __future__ import annotations

from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from support.data.batches import Made, look, look_at_batch
from support.data.moving_clock import MovingDatabase
from support.data.notice_desk import NoticeDesk
from support.data.preparations import ALICE, LOST, Site, finish, make, of
from support.fleets.scripted_fleet import ScriptedFleet
from support.servers.web_desk import WebDesk

from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.inventory_job import JobState
from models.reason import OUTAGE_CURE, PAUSE_CURES, PauseReason
from worker.batches import preparation, tokens
from worker.batches.preparation import LONGEST_PAUSE, WAIT_AFTER_FAILURE
from worker.cli.exit_codes import ALL_ACTIVE, STALLED
from worker.cli.status import choose_check_code
from worker.database.engine import Database
from worker.installation.installation import Installation
from worker.pace.errors import SlotTooFar
from worker.pingone.errors import Answer, NotDelivered, NotFound, OutcomeUnknown, PingOneError
from worker.pingone.users import User
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.sentences import format_log_line
from worker.rules.breaker import FIRST_PROBE
from worker.rules.progress import Active

REFUSED = NotDelivered(Answer(message="ConnectError: [Errno 111] Connection refused"))
OUTAGE = (BatchState.PAUSED, PauseReason.OUTAGE)
RUNNING = (BatchState.RUNNING, None)
# Every way in which PingOne is not there.
NOBODY = [
    REFUSED,
    OutcomeUnknown(Answer(message="ReadTimeout: timed out")),
    OutcomeUnknown(Answer(status=404)),
    OutcomeUnknown(Answer(status=403)),
    OutcomeUnknown(Answer(status=502)),
    OutcomeUnknown(Answer(status=500, code="UNEXPECTED_ERROR", correlation_id="3f0c")),
]


class Clock:
    """Seconds of the machine; whoever waits lets them pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def read(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (preparation, tokens):
        monkeypatch.setattr(module, "boot_time", clock.read)
    return clock


@pytest.fixture
def site(database: MovingDatabase, keyring: Keyring, clock: Clock) -> Site:
    return Site(database, keyring, wait=clock.wait)


def make_people(site: Site, count: int = 1, **common: Any) -> Made:
    """A batch of which only people are to be looked up, whom PingOne has."""
    site.pingone.people = [User(f"{ALICE[:-3]}{number:03}", username=f"person{number}") for number in range(count)]
    records = [{"user_id": "", "username": f"person{number}", "is_in_inventory": True} for number in range(count)]
    made = make(site, records, **common)
    with site.database.writing() as connection:
        connection.execute(update(Batch).values(inventory_read_at=site.database.now()))
    return made


def lose(site: Site, *names: str, failure: PingOneError = REFUSED, times: int = 99) -> None:
    """Let PingOne answer none of the calls of these names."""
    for name in names:
        site.pingone.instead[name] = [failure] * times


def come_back(site: Site) -> None:
    site.pingone.instead.clear()


def state(site: Site, made: Made) -> tuple[str, str | None]:
    batch = look_at_batch(site.database, made.batch_id)
    return batch.state, batch.reason


def read_status(database: Database, made: Made) -> BatchStatus:
    (status,) = read_statuses(database, made.name)
    return status


# What is an outage.


@pytest.mark.parametrize("failure", NOBODY, ids=str)
@pytest.mark.parametrize("call", ["find username", "list", "start"])
def test_a_call_that_gets_no_answer_twice_is_an_outage_whatever_call_it_is(
    site: Site, clock: Clock, call: str, failure: PingOneError
) -> None:
    made = make_people(site) if call.startswith("find") else make(site)
    lose(site, "find username", "list", failure=failure) if call != "start" else None
    lose(site, call, "settings", failure=failure)
    site.prepare()
    assert state(site, made) == OUTAGE
    assert clock.now <= 1000.0 + 2 * WAIT_AFTER_FAILURE
    detail = look_at_batch(site.database, made.batch_id).detail
    assert detail == f"The last call ended with: {failure}. {OUTAGE_CURE}"


def test_a_job_that_cannot_be_asked_about_is_an_outage(site: Site) -> None:
    made = make(site)
    lose(site, "job")
    site.pingone.instead["answer"] = []
    do = site.pingone.do

    def away(name: str, *rest: Any) -> None:
        if name == "job":
            raise REFUSED
        do(name, *rest)

    site.pingone.do = away  # type: ignore[method-assign]
    site.prepare()
    assert state(site, made) == OUTAGE


def test_one_answer_that_gets_lost_is_none(site: Site, clock: Clock) -> None:
    made = make_people(site)
    lose(site, "find username", failure=LOST, times=1)
    site.prepare()
    assert clock.waits == [WAIT_AFTER_FAILURE]
    assert (state(site, made), of(site, made).user_id) == (RUNNING, f"{ALICE[:-3]}000")


def test_two_calls_that_get_no_answer_at_the_same_moment_are_none_yet(site: Site) -> None:
    made = make(site, [{"user_id": "", "username": "alice"}])
    lose(site, "find username", "list", failure=LOST, times=1)
    site.prepare()
    assert state(site, made) == RUNNING


@pytest.mark.parametrize(
    "failure",
    [
        NotFound(Answer(status=404, code="NOT_FOUND", correlation_id="3f0c")),
        OutcomeUnknown(Answer(status=200, correlation_id="3f0c", message="the pages of a list lead back")),
        SlotTooFar(1.0),
    ],
    ids=str,
)
def test_what_pingone_answers_itself_is_none_and_neither_is_a_slot_that_is_far(
    site: Site, failure: PingOneError
) -> None:
    made = make_people(site)
    lose(site, "find username", "list", failure=failure, times=2)
    site.prepare()
    assert state(site, made) == RUNNING


def test_while_imports_are_answered_it_is_none_and_then_people_alone_are_told(site: Site) -> None:
    made = make(site, [{"user_id": "", "username": "alice"}, {}])
    lose(site, "find username", failure=LOST)
    site.prepare()
    assert look(site.database, made.ids[1]).is_token_made
    assert state(site, made) == RUNNING
    site.database.ahead += 6.0
    site.prepare()
    assert state(site, made) == OUTAGE


def test_while_attempts_are_answered_it_is_none(site: Site, clock: Clock, scripted_fleet: ScriptedFleet) -> None:
    prepared = {"device_id": "device-1", "is_in_inventory": True}
    made = make(site, [{"user_id": "", "username": "alice"}, prepared, prepared | {"device_id": "device-2"}])
    scripted_fleet.fail(made, 1, Active())
    lose(site, "find username", "list", failure=LOST)

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        if len(clock.waits) == 1:
            scripted_fleet.fail(made, 1, Active())

    site.wait = wait
    site.prepare()
    assert state(site, made) == RUNNING
    # And nobody is active in the next turn.
    site.database.ahead += 6.0
    site.prepare()
    assert state(site, made) == OUTAGE


def test_a_pause_that_is_longer_than_a_turn_is_told_at_once(site: Site, clock: Clock) -> None:
    made = make_people(site)
    lose(site, "find username", "list", failure=OutcomeUnknown(Answer(status=503), LONGEST_PAUSE + 1.0))
    site.prepare()
    assert (state(site, made), clock.waits) == (OUTAGE, [])


def test_a_short_pause_that_pingone_asks_for_is_waited_for_in_the_turn(site: Site, clock: Clock) -> None:
    made = make_people(site)
    asked = OutcomeUnknown(Answer(status=503), 8.0)
    site.pingone.instead["find username"] = [asked, SlotTooFar(3.0)]
    site.prepare()
    assert (state(site, made), of(site, made).user_id) == (RUNNING, f"{ALICE[:-3]}000")


def test_where_the_answer_to_an_import_got_lost_something_else_is_asked(site: Site) -> None:
    made = make(site)
    lose(site, "start", failure=LOST, times=1)
    lose(site, "settings", failure=LOST)
    site.prepare()
    assert state(site, made) == OUTAGE
    assert [each for each, _ in site.jobs(made)] == [JobState.SENT]


def test_where_only_the_answer_to_an_import_got_lost_it_is_none(site: Site) -> None:
    made = make(site)
    lose(site, "start", failure=LOST, times=1)
    site.prepare()
    assert (state(site, made), site.pingone.log.count("settings")) == (RUNNING, 1)


def test_a_list_that_dies_in_the_middle_is_told_before_all_its_tries_are_over(site: Site, clock: Clock) -> None:
    made = make(site)
    do = site.pingone.do

    def time_out(name: str, *rest: Any) -> None:
        do(name, *rest)
        clock.now += 20.0
        raise OutcomeUnknown(Answer(message="ReadTimeout: timed out"))

    site.pingone.do = time_out  # type: ignore[method-assign]
    site.prepare()
    assert (state(site, made), clock.now) == (OUTAGE, 1045.0)


# What is told of it, and how it goes on.


def test_an_outage_is_told_on_the_desk(site: Site, database_url: str, tmp_path: Path) -> None:
    variables = {"OATHBULK_HOME": str(tmp_path / "home"), "OATHBULK_DATABASE_URL": database_url}
    made = make_people(site)
    lose(site, "find username")
    site.prepare()
    installation = Installation(variables)
    with closing(installation.database):
        desk = WebDesk(installation)
        desk.enter()
        page = unescape(desk.read("/batch", name=made.name))
    assert "1 waits until its person is found. Paused (outage): PingOne has not answered; the next try is at" in page
    assert "Connection refused. The batch goes on by itself once PingOne answers." in page


def test_an_outage_is_told_wherever_a_person_looks_until_it_is_over(site: Site, scripted_fleet: ScriptedFleet) -> None:
    desk = NoticeDesk(site.database)
    made = make_people(site, 3)
    lose(site, "find username", "list")
    site.prepare()

    status = read_status(site.database, made)
    probe_at = look_at_batch(site.database, made.batch_id).probe_at
    assert status.outage is not None
    line = format_log_line(status)
    assert "3 wait until their person is found" in line
    assert f"Paused (outage): PingOne has not answered; the next try is at {probe_at:%H:%M:%S} UTC." in line
    assert "Connection refused. The batch goes on by itself" in line
    assert line.endswith("with `oathbulk doctor`.")
    assert choose_check_code(status) == STALLED
    assert desk.run() == ["paused_for_now"]
    assert PAUSE_CURES[PauseReason.OUTAGE] in desk.webhook.posted[0][1]["text"]

    # Nobody is looked up before the next try, which is told as well.
    assert not site.prepare()
    scripted_fleet.pass_time(FIRST_PROBE + 1)
    scripted_fleet.tick()
    status = read_status(site.database, made)
    assert "PingOne has not answered; it is tried again now." in format_log_line(status)
    assert (choose_check_code(status), desk.run()) == (STALLED, [])
    site.prepare()
    assert state(site, made) == OUTAGE
    assert scripted_fleet.seconds_to_probe(made) == pytest.approx(2 * FIRST_PROBE, abs=2)

    come_back(site)
    scripted_fleet.pass_time(2 * FIRST_PROBE + 1)
    scripted_fleet.tick()
    finish(site)
    assert look_at_batch(site.database, made.batch_id).outages == 0
    status = read_status(site.database, made)
    assert (status.outage, status.waiting["user"]) == (None, 0)
    assert (choose_check_code(status), desk.run()) == (ALL_ACTIVE, ["resumed"])


def test_a_batch_whose_attempts_are_not_answered_goes_on_probing_whatever_its_preparation_is_answered(
    site: Site, scripted_fleet: ScriptedFleet
) -> None:
    prepared = [{"device_id": f"device-{number}", "is_in_inventory": True} for number in range(9)]
    made = make(site, [{"user_id": "", "username": "alice"}, *prepared])
    scripted_fleet.begin_outage(made)
    scripted_fleet.pass_time(FIRST_PROBE + 1)
    scripted_fleet.tick()
    assert state(site, made) == RUNNING
    site.prepare()
    assert "find username 1" in site.pingone.log
    assert look_at_batch(site.database, made.batch_id).outages == 1
