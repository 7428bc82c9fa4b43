"""What is known of a license's pace outlives Redis; what a person set reaches the fleet within a tick."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import redis
from sqlalchemy.exc import DBAPIError
from support.data.audit_lines import read, refuse_lines
from support.data.moving_clock import MovingDatabase

from worker.audit import Actor
from worker.batches.commands import PaceCommands
from worker.database.engine import DISPATCH_LOCK
from worker.pace.errors import SlotTooFar
from worker.pace.known_pace import lift_hold
from worker.pace.paces import GroupPace, PaceMemory, read_group
from worker.pace.rate_groups import RateGroup
from worker.pace.search import PART_OF_CEILING, Search
from worker.pace.slots import Pace

LICENSE = "made-up-license"
EVE = Actor("eve", "CHG-7")
WHY = "PingOne answered 503 and asks for 86400 s"

MakePace = Callable[[], Pace]


@pytest.fixture
def paces(database: MovingDatabase) -> PaceMemory:
    return PaceMemory(database)


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


@pytest.fixture
def make_pace(client: redis.Redis, paces: PaceMemory) -> MakePace:
    """A process of the fleet."""
    return lambda: Pace(client, LICENSE, 30.0, recall=lambda now: paces.recall_search(LICENSE, now))


def find(pace: Pace, ceiling: float) -> None:
    """As if the search had ended there."""
    pace.change(lambda search, _: replace(search, rate=ceiling * PART_OF_CEILING, climb=0.0, ceiling=ceiling))


def search(pace: Pace) -> Search:
    found = pace.read().search
    assert found is not None
    return found


def test_before_anything_went_out_nothing_is_known(paces: PaceMemory, make_pace: MakePace) -> None:
    known = paces.read(LICENSE)
    assert (known.rate, known.ceiling, known.share, known.fixed_rate) == (None, None, 1.0, None)
    paces.synchronize(make_pace())
    assert paces.read(LICENSE) == known


def test_a_ceiling_outlives_redis_and_the_processes(
    paces: PaceMemory, make_pace: MakePace, client: redis.Redis
) -> None:
    pace = make_pace()
    find(pace, 120.0)
    paces.synchronize(pace)
    known = paces.read(LICENSE)
    assert (known.rate, known.ceiling) == (120 * PART_OF_CEILING, 120)
    assert known.found_at is not None
    client.flushall()
    later = make_pace()
    assert later.wait().rate == pytest.approx(120 * PART_OF_CEILING, rel=0.01)
    assert search(later).ceiling == 120


def test_what_hardly_changed_is_not_written_again(paces: PaceMemory, make_pace: MakePace) -> None:
    pace = make_pace()
    find(pace, 120.0)
    paces.synchronize(pace)
    find(pace, 120.1)
    paces.synchronize(pace)
    assert paces.read(LICENSE).ceiling == 120
    find(pace, 90.0)
    paces.synchronize(pace)
    assert paces.read(LICENSE).ceiling == 90


def test_a_share_reaches_a_fleet_that_runs_and_one_that_begins(
    paces: PaceMemory, database: MovingDatabase, make_pace: MakePace, client: redis.Redis
) -> None:
    pace = make_pace()
    find(pace, 200.0)
    paces.synchronize(pace)
    PaceCommands(database, EVE).set_share(LICENSE, 0.6)
    paces.synchronize(pace)
    assert pace.wait().rate == pytest.approx(0.6 * 200 * PART_OF_CEILING, rel=0.01)
    client.flushall()
    assert make_pace().wait().rate == pytest.approx(0.6 * 200 * PART_OF_CEILING, rel=0.01)
    known = paces.read(LICENSE)
    assert (known.ceiling, known.share, known.set_by, known.ticket) == (200, 0.6, "eve", "CHG-7")
    assert known.set_at is not None


def test_a_fixed_rate_reaches_the_fleet_and_leaves_it(
    paces: PaceMemory, database: MovingDatabase, make_pace: MakePace, client: redis.Redis
) -> None:
    pace = make_pace()
    pace.wait()
    PaceCommands(database, EVE).fix(LICENSE, 12.0)
    paces.synchronize(pace)
    assert (search(pace).rate, search(pace).is_fixed) == (12, True)
    paces.synchronize(pace)
    PaceCommands(database, EVE).adapt(LICENSE)
    paces.synchronize(pace)
    assert (search(pace).rate, search(pace).is_fixed) == (12, False)
    PaceCommands(database, EVE).fix(LICENSE, 7.0)
    client.flushall()
    assert search_of_a_new(make_pace).rate == 7


def search_of_a_new(make_pace: MakePace) -> Search:
    pace = make_pace()
    pace.wait()
    return search(pace)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_that_is_none_is_refused_by_the_database_at_the_latest(database: MovingDatabase, share: float) -> None:
    with pytest.raises(Exception, match="share"):
        PaceCommands(database, EVE).set_share(LICENSE, share)


def test_what_a_person_sets_has_a_line_in_the_audit_and_what_is_found_has_none(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace
) -> None:
    find(pace := make_pace(), 120.0)
    paces.synchronize(pace)
    PaceCommands(database, EVE).set_share(LICENSE, 0.6)
    PaceCommands(database, EVE).fix(LICENSE, 12.0)
    PaceCommands(database, Actor("bob")).adapt(LICENSE)

    assert [(line.actor, line.action, line.batch, line.ticket, line.facts) for line in read(database)] == [
        ("eve", "pace", None, "CHG-7", {"license": LICENSE, "share": 0.6}),
        ("eve", "pace", None, "CHG-7", {"license": LICENSE, "fixed_rate": 12.0}),
        ("bob", "pace", None, None, {"license": LICENSE, "fixed_rate": None}),
    ]


def test_who_lets_it_adapt_again_does_not_erase_the_ticket_of_what_stays(
    paces: PaceMemory, database: MovingDatabase
) -> None:
    PaceCommands(database, EVE).set_share(LICENSE, 0.6)
    PaceCommands(database, Actor("bob")).adapt(LICENSE)
    known = paces.read(LICENSE)
    assert (known.set_by, known.ticket) == ("eve", "CHG-7")
    PaceCommands(database, Actor("bob", "CHG-8")).adapt(LICENSE)
    known = paces.read(LICENSE)
    assert (known.set_by, known.ticket, known.share) == ("bob", "CHG-8", 0.6)


def test_who_lets_it_adapt_again_is_named_and_no_more_who_set_the_rate(
    paces: PaceMemory, database: MovingDatabase
) -> None:
    PaceCommands(database, EVE).fix(LICENSE, 12.0)
    fixed_at = paces.read(LICENSE).set_at
    database.ahead = 60
    PaceCommands(database, Actor("bob")).adapt(LICENSE)
    known = paces.read(LICENSE)
    assert (known.fixed_rate, known.set_by, known.ticket) == (None, "bob", None)
    assert known.set_at is not None
    assert fixed_at is not None
    assert known.set_at - fixed_at >= timedelta(seconds=60)


def test_after_a_rate_that_is_gone_who_set_the_share_that_stays_is_named(
    paces: PaceMemory, database: MovingDatabase
) -> None:
    PaceCommands(database, Actor("carol", "CHG-1")).set_share("another", 0.5)
    PaceCommands(database, EVE).set_share(LICENSE, 0.6)
    set_at = paces.read(LICENSE).set_at
    PaceCommands(database, Actor("carol")).set_share("another", 0.4)
    database.ahead = 60
    PaceCommands(database, Actor("root")).fix(LICENSE, 12.0)
    PaceCommands(database, Actor("bob")).adapt(LICENSE)
    known = paces.read(LICENSE)
    assert (known.share, known.set_by, known.ticket) == (0.6, "eve", "CHG-7")
    # The audit's time is in milliseconds.
    assert known.set_at is not None
    assert set_at is not None
    assert abs(known.set_at - set_at) < timedelta(seconds=30)


def test_a_pace_that_cannot_be_written_down_is_not_set(database: MovingDatabase, paces: PaceMemory) -> None:
    refuse_lines(database)
    with pytest.raises(DBAPIError, match="no room"):
        PaceCommands(database, EVE).set_share(LICENSE, 0.6)
    assert paces.read(LICENSE).share == 1.0


def lift(database: MovingDatabase) -> None:
    """As a command does it."""
    with database.writing() as connection:
        database.lock(connection, DISPATCH_LOCK)
        lift_hold(connection, LICENSE)


def test_a_hold_is_written_down_with_its_reason_by_the_databases_clock(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace
) -> None:
    database.ahead = 5000
    pace = make_pace()
    assert paces.read(LICENSE).hold is None
    pace.hold(86_400, WHY)
    paces.synchronize(pace)
    hold = paces.read(LICENSE).hold
    assert hold is not None
    now = database.read_clock()
    assert (hold.why, 60 < hold.left <= 120) == (WHY, True)
    assert timedelta(seconds=60) < hold.until - now <= timedelta(seconds=120)
    assert now - timedelta(seconds=60) < hold.since <= now
    assert json.loads(json.dumps(hold.to_json())) == {
        "since": hold.since.isoformat(),
        "until": hold.until.isoformat(),
        "why": WHY,
    }
    assert paces.read(LICENSE).to_json()["hold"] == hold.to_json()


def test_a_hold_is_written_again_only_when_it_has_changed(
    database: MovingDatabase,
    paces: PaceMemory,
    make_pace: MakePace,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However long a busy machine takes between one look at a clock and the next.
    monkeypatch.setattr("worker.pace.paces.SAME_HOLD", 30.0)
    pace = make_pace()
    pace.hold(60, WHY)
    # It began long ago, so that a beginning of now is told from its own.
    client.hincrby(f"oathbulk:pace-3:{LICENSE}", "held_since", -1_000_000_000)
    paces.synchronize(pace)
    before = paces.read(LICENSE).hold
    assert before is not None
    paces.synchronize(pace)
    same = paces.read(LICENSE).hold
    assert same is not None
    assert (same.since, same.until) == (before.since, before.until)
    pace.hold(100, "PingOne cannot be reached")
    paces.synchronize(pace)
    later = paces.read(LICENSE).hold
    assert later is not None
    assert (later.why, later.left > 90) == ("PingOne cannot be reached", True)
    assert abs(later.since - before.since) < timedelta(seconds=100)


def test_a_hold_that_is_over_is_shown_no_more(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace, client: redis.Redis
) -> None:
    pace = make_pace()
    pace.hold(60, WHY)
    paces.synchronize(pace)
    # Where no dispatcher comes by, the time alone ends it.
    database.ahead = 61
    assert paces.read(LICENSE).hold is None
    database.ahead = 0
    assert paces.read(LICENSE).hold is not None
    client.flushall()
    paces.synchronize(make_pace())
    assert paces.read(LICENSE).hold is None


def test_a_person_ends_a_hold_with_the_next_tick_for_every_process(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace
) -> None:
    worker, dispatcher = make_pace(), make_pace()
    worker.wait()
    worker.hold(86_400, WHY)
    paces.synchronize(dispatcher)
    lift(database)
    with pytest.raises(SlotTooFar):
        worker.wait()
    paces.synchronize(dispatcher)
    worker.wait()
    known = paces.read(LICENSE)
    assert (known.hold, known.is_to_be_lifted, dispatcher.read_hold_left()) == (None, False, 0)
    # Once: the next hold stands.
    worker.hold(60, WHY)
    paces.synchronize(dispatcher)
    hold = paces.read(LICENSE).hold
    assert hold is not None
    assert dispatcher.read_hold_left() > 50


def test_a_hold_is_lifted_that_nobody_has_written_down_yet(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace
) -> None:
    pace = make_pace()
    pace.hold(60, WHY)
    lift(database)
    paces.synchronize(pace)
    assert (paces.read(LICENSE).is_to_be_lifted, pace.read_hold_left()) == (False, 0)


def test_a_hold_that_could_not_be_lifted_is_lifted_when_redis_is_back(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = make_pace()
    pace.hold(60, WHY)
    lift(database)

    def fail() -> None:
        raise redis.ConnectionError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(pace, "lift", fail)
        with pytest.raises(redis.ConnectionError):
            paces.synchronize(pace)
    assert paces.read(LICENSE).is_to_be_lifted
    paces.synchronize(pace)
    assert pace.read_hold_left() == 0


# The groups of calls beside activations.

OTHERS = [group for group in RateGroup if group is not RateGroup.MFA]


@pytest.fixture
def make_group(client: redis.Redis, paces: PaceMemory) -> Callable[[RateGroup], Pace]:
    """A process of the fleet, in this group."""
    return lambda group: Pace(client, LICENSE, 5.0, group, recall=lambda now: paces.recall_share(LICENSE, 5.0, now))


@pytest.mark.parametrize("group", OTHERS)
def test_a_person_ends_the_hold_of_every_group_with_the_next_tick(
    database: MovingDatabase,
    paces: PaceMemory,
    make_pace: MakePace,
    make_group: Callable[[RateGroup], Pace],
    group: str,
) -> None:
    worker, dispatcher = make_group(RateGroup(group)), make_pace()
    worker.wait()
    worker.hold(60, WHY)
    paces.synchronize(dispatcher)
    assert worker.read_hold_left() > 50
    PaceCommands(database, EVE).lift(LICENSE)
    paces.synchronize(dispatcher)
    worker.wait()
    assert (paces.read(LICENSE).is_to_be_lifted, worker.read_hold_left()) == (False, 0)
    assert [(line.action, line.facts) for line in read(database)] == [("lift_hold", {"license": LICENSE})]


@pytest.mark.parametrize("group", OTHERS)
def test_a_share_of_the_license_is_a_share_of_every_group(
    database: MovingDatabase,
    paces: PaceMemory,
    make_pace: MakePace,
    make_group: Callable[[RateGroup], Pace],
    group: str,
) -> None:
    worker = make_group(RateGroup(group))
    find(worker, 8.0)
    PaceCommands(database, EVE).set_share(LICENSE, 0.5)
    paces.synchronize(make_pace())
    assert (search(worker).share, search(worker).rate) == (0.5, pytest.approx(4 * PART_OF_CEILING))
    before = worker.read()
    paces.synchronize(make_pace())
    assert worker.read().version == before.version


def test_a_group_that_nobody_has_used_begins_with_the_share_that_is_set(
    database: MovingDatabase, make_group: Callable[[RateGroup], Pace]
) -> None:
    worker = make_group(RateGroup.DIRECTORY)
    PaceCommands(database, EVE).set_share(LICENSE, 0.5)
    worker.wait()
    assert search(worker).share == 0.5


def test_a_rate_is_set_for_one_group_alone_and_a_share_leaves_it(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace, make_group: Callable[[RateGroup], Pace]
) -> None:
    directory, inventory, activations = make_group(RateGroup.DIRECTORY), make_group(RateGroup.INVENTORY), make_pace()
    for pace in (directory, inventory, activations):
        find(pace, 8.0)
    commands = PaceCommands(database, EVE)
    commands.fix_group(directory, 2.0)
    commands.set_share(LICENSE, 0.5)
    paces.synchronize(activations)
    assert (search(directory).rate, search(directory).is_fixed) == (2, True)
    assert (search(inventory).is_fixed, search(activations).is_fixed) == (False, False)
    assert read_group(directory).to_json() == {
        "group": "directory",
        "for": "people by their names",
        "is_read": True,
        "rate": 2,
        "ceiling": 8,
        "fixed_rate": 2,
        "hold": None,
    }
    commands.adapt_group(directory)
    assert (search(directory).is_fixed, search(directory).share) == (False, 0.5)
    assert [line.facts for line in read(database)] == [
        {"license": LICENSE, "group": "directory", "fixed_rate": 2.0},
        {"license": LICENSE, "share": 0.5},
        {"license": LICENSE, "group": "directory", "fixed_rate": None},
    ]


def test_the_hold_of_one_group_is_shown_and_lifted_alone_and_at_once(
    database: MovingDatabase, make_group: Callable[[RateGroup], Pace]
) -> None:
    directory, inventory = make_group(RateGroup.DIRECTORY), make_group(RateGroup.INVENTORY)
    for pace in (directory, inventory):
        pace.hold(60, WHY)
    known = read_group(directory)
    assert (known.held_why, 50 < (known.held_left or 0) <= 60) == (WHY, True)
    assert known.held_until is not None
    assert known.to_json()["hold"] == {"until": known.held_until.isoformat(), "why": WHY}
    PaceCommands(database, EVE).lift_group(directory)
    assert (directory.read_hold_left(), inventory.read_hold_left() > 50) == (0, True)
    assert [line.facts for line in read(database)] == [{"license": LICENSE, "group": "directory"}]


def test_a_group_without_a_state_is_known_to_be_unused(make_group: Callable[[RateGroup], Pace]) -> None:
    assert read_group(make_group(RateGroup.CONFIGURATION)) == GroupPace(RateGroup.CONFIGURATION)


def test_what_cannot_be_written_down_or_reach_redis_is_not_done_to_a_group(
    database: MovingDatabase, make_group: Callable[[RateGroup], Pace]
) -> None:
    away = Pace(redis.Redis(port=1), LICENSE, 5.0, RateGroup.DIRECTORY)
    for command in (PaceCommands(database, EVE).lift_group, PaceCommands(database, EVE).adapt_group):
        with pytest.raises(redis.ConnectionError):
            command(away)
    assert read(database) == []
    refuse_lines(database)
    directory = make_group(RateGroup.DIRECTORY)
    find(directory, 8.0)
    with pytest.raises(DBAPIError, match="no room"):
        PaceCommands(database, EVE).fix_group(directory, 2.0)
    assert not search(directory).is_fixed
