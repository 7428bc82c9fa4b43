"""PingOne out of reach while a batch is prepared: what counts as an outage, who is told, and how it goes on."""

from typing import Any

import pytest
from sqlalchemy import update
from support.data.batches import Made, look, look_at_batch
from support.data.moving_clock import MovingDatabase
from support.data.notice_desk import NoticeDesk
from support.data.preparations import ALICE, LOST, Site, finish, make, of
from support.fleets.scripted_fleet import ScriptedFleet

from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.inventory_job import JobState
from models.reason import OUTAGE_CURE, PAUSE_CURES, PauseReason
from worker.batches import preparation, tokens
from worker.batches.preparation import LONGEST_PAUSE, WAIT_AFTER_FAILURE
from worker.cli.exit_codes import ALL_ACTIVE, STALLED
from worker.cli.status import choose_check_code
from worker.pace.rate_groups import SlotTooFar
from worker.pingone.errors import Answer, NotDelivered, NotFound, OutcomeUnknown, PingOneError
from worker.pingone.users import User
from worker.reports.facts import BatchStatus, read_statuses
from worker.rules.breaker import FIRST_PROBE
from worker.rules.steps import Active

# The statements differ in nothing between the databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

OUTAGE = (BatchState.PAUSED, PauseReason.OUTAGE)
RUNNING = (BatchState.RUNNING, None)
# Every way in which PingOne is not there.
NOBODY = [
    NotDelivered(Answer(message="ConnectError: [Errno 111] Connection refused")),
    OutcomeUnknown(Answer(message="ReadTimeout: timed out")),
    OutcomeUnknown(Answer(status=404)),
    OutcomeUnknown(Answer(status=403)),
    OutcomeUnknown(Answer(status=502)),
    OutcomeUnknown(Answer(status=500, code="UNEXPECTED_ERROR", correlation_id="3f0c")),
]
PREPARED = {"device_id": "device-1", "is_in_inventory": True}


class Clock:
    """Seconds of the machine; whoever waits lets them pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (preparation, tokens):
        monkeypatch.setattr(module, "boot_time", lambda: clock.now)
    return clock


@pytest.fixture
def site(database: MovingDatabase, keyring: Keyring, clock: Clock) -> Site:
    return Site(database, keyring, wait=clock.wait)


def make_people(site: Site, count: int = 1) -> Made:
    """A batch of which only people are to be looked up, whom PingOne has."""
    site.pingone.people = [User(f"{ALICE[:-3]}{number:03}", username=f"person{number}") for number in range(count)]
    records = [{"user_id": "", "username": f"person{number}", "is_in_inventory": True} for number in range(count)]
    made = make(site, records)
    with site.database.writing() as connection:
        connection.execute(update(Batch).values(inventory_read_at=site.database.now()))
    return made


def lose(site: Site, *names: str, failure: PingOneError = NOBODY[0], times: int = 99) -> None:
    """Let PingOne answer none of the calls of these names."""
    site.pingone.instead.update({name: [failure] * times for name in names})


def state(site: Site, made: Made) -> tuple[str, str | None]:
    batch = look_at_batch(site.database, made.batch_id)
    return batch.state, batch.reason


# What is an outage.


@pytest.mark.parametrize(
    ("call", "failure"),
    [*(("find username", failure) for failure in NOBODY), *((call, NOBODY[0]) for call in ("list", "start", "job"))],
    ids=str,
)
def test_a_call_that_gets_no_answer_twice_is_an_outage_whatever_call_it_is(
    site: Site, clock: Clock, call: str, failure: PingOneError
) -> None:
    made = make_people(site) if call == "find username" else make(site)
    lose(site, call, "settings", failure=failure)
    site.prepare()
    assert state(site, made) == OUTAGE
    assert clock.now <= 1000.0 + 2 * WAIT_AFTER_FAILURE
    detail = look_at_batch(site.database, made.batch_id).detail
    assert detail == f"The last call ended with: {failure}. {OUTAGE_CURE}"


def test_one_answer_that_gets_lost_is_none_and_neither_are_two_at_the_same_moment(site: Site, clock: Clock) -> None:
    made = make_people(site)
    lose(site, "find username", failure=LOST, times=1)
    site.prepare()
    assert clock.waits == [WAIT_AFTER_FAILURE]
    assert (state(site, made), of(site, made).user_id) == (RUNNING, f"{ALICE[:-3]}000")
    other = make(site, [{"user_id": "", "username": "alice"}], name="other")
    lose(site, "find username", "list", failure=LOST, times=1)
    site.prepare()
    assert state(site, other) == RUNNING


@pytest.mark.parametrize(
    "failures",
    [
        [NotFound(Answer(status=404, code="NOT_FOUND", correlation_id="3f0c"))] * 2,
        [OutcomeUnknown(Answer(status=200, correlation_id="3f0c", message="the pages of a list lead back"))] * 2,
        [SlotTooFar(1.0)] * 2,
        [OutcomeUnknown(Answer(status=503), 8.0), SlotTooFar(3.0)],
    ],
    ids=["refused", "unreadable", "no slot", "a short pause that PingOne asks for"],
)
def test_what_pingone_answers_itself_is_none_and_neither_is_a_slot_that_is_far(
    site: Site, failures: list[PingOneError]
) -> None:
    made = make_people(site)
    site.pingone.instead["find username"] = failures
    site.prepare()
    assert state(site, made) == RUNNING


def test_while_imports_are_answered_it_is_none_and_then_people_alone_are_told(site: Site) -> None:
    made = make(site, [{"user_id": "", "username": "alice"}, {}])
    lose(site, "find username", failure=LOST)
    site.prepare()
    assert (look(site.database, made.ids[1]).is_token_made, state(site, made)) == (True, RUNNING)
    site.database.ahead += 6.0
    site.prepare()
    assert state(site, made) == OUTAGE


def test_while_attempts_are_answered_it_is_none(site: Site, clock: Clock, scripted_fleet: ScriptedFleet) -> None:
    made = make(site, [{"user_id": "", "username": "alice"}, PREPARED, PREPARED | {"device_id": "device-2"}])
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


@pytest.mark.parametrize("is_there", [True, False])
def test_where_the_answer_to_an_import_got_lost_something_else_is_asked(site: Site, is_there: bool) -> None:
    made = make(site)
    lose(site, "start", failure=LOST, times=1)
    lose(site, "settings", failure=LOST, times=0 if is_there else 99)
    site.prepare()
    assert (state(site, made), site.pingone.log.count("settings")) == (RUNNING if is_there else OUTAGE, 1)
    assert [each for each, _ in site.jobs(made)] == [JobState.SENT]


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


# How it goes on.


def read_status(site: Site) -> BatchStatus:
    (status,) = read_statuses(site.database)
    return status


def test_an_outage_is_told_until_it_is_over_and_tried_again_ever_more_seldom(
    site: Site, scripted_fleet: ScriptedFleet
) -> None:
    """The displays are golden files."""
    desk, made = NoticeDesk(site.database), make_people(site, 3)
    lose(site, "find username", "list")
    site.prepare()

    status = read_status(site)
    assert (status.outage is not None, status.waiting["user"]) == (True, 3)
    assert (choose_check_code(status), desk.run()) == (STALLED, ["paused_for_now"])
    assert PAUSE_CURES[PauseReason.OUTAGE] in desk.webhook.posted[0][1]["text"]

    # Nobody is looked up before the next try, which is told as well.
    assert not site.prepare()
    scripted_fleet.pass_time(FIRST_PROBE + 1)
    scripted_fleet.tick()
    assert (choose_check_code(read_status(site)), desk.run()) == (STALLED, [])
    site.prepare()
    assert state(site, made) == OUTAGE
    assert scripted_fleet.seconds_to_probe(made) == pytest.approx(2 * FIRST_PROBE, abs=2)

    site.pingone.instead.clear()
    scripted_fleet.pass_time(2 * FIRST_PROBE + 1)
    scripted_fleet.tick()
    finish(site)
    assert look_at_batch(site.database, made.batch_id).outages == 0
    status = read_status(site)
    assert (status.outage, status.waiting["user"]) == (None, 0)
    assert (choose_check_code(status), desk.run()) == (ALL_ACTIVE, ["resumed"])


def test_a_batch_whose_attempts_are_not_answered_goes_on_probing_whatever_its_preparation_is_answered(
    site: Site, scripted_fleet: ScriptedFleet
) -> None:
    prepared = [PREPARED | {"device_id": f"device-{number}"} for number in range(9)]
    made = make(site, [{"user_id": "", "username": "alice"}, *prepared])
    scripted_fleet.begin_outage(made)
    scripted_fleet.pass_time(FIRST_PROBE + 1)
    scripted_fleet.tick()
    assert state(site, made) == RUNNING
    site.prepare()
    assert "find username 1" in site.pingone.log
    assert look_at_batch(site.database, made.batch_id).outages == 1
