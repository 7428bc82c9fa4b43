"""What is known of a license's pace outlives Redis; what a person set reaches the fleet within a tick."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from unittest.mock import Mock

import pytest
import redis
from sqlalchemy.exc import DBAPIError, IntegrityError
from support.data.audit_lines import read, refuse_lines
from support.data.moving_clock import ON_SQLITE, MovingDatabase

from worker.audit import Actor
from worker.batches.commands import PaceCommands
from worker.pace.license_paces import PaceMemory
from worker.pace.search import PART_OF_CEILING, RateGroup, SlotTooFar
from worker.pace.slots import Pace

LICENSE = "made-up-license"
EVE, BOB = Actor("eve", "CHG-7"), Actor("bob")
WHY = "PingOne answered 503 and asks for 86400 s"
OTHERS = [group for group in RateGroup if group is not RateGroup.MFA]

MakePace = Callable[[], Pace]
MakeGroup = Callable[[RateGroup], Pace]


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
    return lambda: Pace(client, LICENSE, 30.0, recall=partial(paces.recall_search, LICENSE, RateGroup.MFA, 30.0))


@pytest.fixture
def make_group(client: redis.Redis, paces: PaceMemory) -> MakeGroup:
    """A process of the fleet, in this group of calls beside activations."""
    return lambda group: Pace(client, LICENSE, 5.0, group, recall=partial(paces.recall_search, LICENSE, group, 5.0))


def find(pace: Pace, ceiling: float) -> None:
    """As if the search had ended there."""
    pace.change(lambda search, _: replace(search, rate=ceiling * PART_OF_CEILING, climb=0.0, ceiling=ceiling))


@ON_SQLITE
def test_a_ceiling_outlives_redis_and_the_processes_and_is_written_when_it_has_changed(
    paces: PaceMemory, make_pace: MakePace, client: redis.Redis
) -> None:
    nothing, pace = paces.read(LICENSE), make_pace()
    paces.synchronize(pace)
    assert paces.read(LICENSE) == nothing
    for ceiling, kept in ((120.0, 120), (120.1, 120), (90.0, 90)):
        find(pace, ceiling)
        paces.synchronize(pace)
        known = paces.read(LICENSE)
        assert (known.rate, known.ceiling, known.found_at is None) == (kept * PART_OF_CEILING, kept, False)
    client.flushall()
    later = make_pace()
    assert later.wait().rate == pytest.approx(90 * PART_OF_CEILING, rel=0.01)
    assert later.read().search.ceiling == 90


@ON_SQLITE
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


@ON_SQLITE
def test_a_fixed_rate_reaches_the_fleet_and_leaves_it(
    paces: PaceMemory, database: MovingDatabase, make_pace: MakePace, client: redis.Redis
) -> None:
    pace, commands = make_pace(), PaceCommands(database, EVE)
    pace.wait()
    commands.fix(LICENSE, 12.0)
    for _ in range(2):
        paces.synchronize(pace)
        assert (pace.read().search.rate, pace.read().search.is_fixed) == (12, True)
    commands.adapt(LICENSE)
    paces.synchronize(pace)
    assert (pace.read().search.rate, pace.read().search.is_fixed) == (12, False)
    commands.fix(LICENSE, 7.0)
    client.flushall()
    later = make_pace()
    later.wait()
    assert later.read().search.rate == 7


def test_what_a_person_sets_has_a_line_in_the_audit_and_names_who_set_what_holds_now(
    database: MovingDatabase, paces: PaceMemory
) -> None:
    PaceCommands(database, Actor("carol", "CHG-1")).set_share("another", 0.5)
    PaceCommands(database, EVE).set_share(LICENSE, 0.6)
    set_at = paces.read(LICENSE).set_at
    database.ahead = 3600
    PaceCommands(database, Actor("root")).fix(LICENSE, 12.0)
    assert paces.read(LICENSE).set_by == "root"
    # The rate is gone, and the share stays.
    PaceCommands(database, BOB).adapt(LICENSE)
    known = paces.read(LICENSE)
    assert (known.share, known.fixed_rate, known.set_by, known.ticket) == (0.6, None, "eve", "CHG-7")
    # The audit's time is in milliseconds.
    assert abs(known.set_at - set_at) < timedelta(seconds=30)
    # A ticket is not erased, and where no share stays nobody else is named.
    for license_, ticket in ((LICENSE, "CHG-8"), ("a third", None)):
        PaceCommands(database, replace(BOB, ticket=ticket)).adapt(license_)
        assert (paces.read(license_).set_by, paces.read(license_).ticket) == ("bob", ticket)
    assert [(line.actor, line.action, line.batch, line.facts) for line in read(database)[1:4]] == [
        ("eve", "pace", None, {"license": LICENSE, "share": 0.6}),
        ("root", "pace", None, {"license": LICENSE, "fixed_rate": 12.0}),
        ("bob", "pace", None, {"license": LICENSE, "fixed_rate": None}),
    ]


def test_a_pace_that_cannot_be_or_cannot_be_written_down_is_not_set(
    database: MovingDatabase, paces: PaceMemory
) -> None:
    for share in (0.0, -0.5, 1.5):
        with pytest.raises(IntegrityError, match="share"):
            PaceCommands(database, EVE).set_share(LICENSE, share)
    refuse_lines(database)
    with pytest.raises(DBAPIError, match="no room"):
        PaceCommands(database, EVE).set_share(LICENSE, 0.6)
    assert (paces.read(LICENSE).share, read(database)) == (1.0, [])


# Holds.


def test_a_hold_is_written_down_with_its_reason_by_the_databases_clock_until_it_is_over(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace, client: redis.Redis
) -> None:
    database.ahead = 5000
    pace = make_pace()
    assert paces.read(LICENSE).hold is None
    pace.hold(86_400, WHY)
    paces.synchronize(pace)
    hold, now = paces.read(LICENSE).hold, database.read_clock()
    assert (hold.why, 60 < hold.left <= 120) == (WHY, True)
    assert timedelta(seconds=60) < hold.until - now <= timedelta(seconds=120)
    assert now - timedelta(seconds=60) < hold.since <= now
    # Where no dispatcher comes by, the time alone ends it.
    for ahead, is_over in ((5121, True), (5000, False)):
        database.ahead = ahead
        assert (paces.read(LICENSE).hold is None) == is_over
    client.flushall()
    paces.synchronize(make_pace())
    assert paces.read(LICENSE).hold is None


@ON_SQLITE
def test_a_hold_is_written_again_only_when_it_has_changed(
    paces: PaceMemory, make_pace: MakePace, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long a busy machine takes between one look at a clock and the next.
    monkeypatch.setattr("worker.pace.license_paces.SAME_HOLD", 30.0)
    pace = make_pace()
    pace.hold(60, WHY)
    # It began long ago, so that a beginning of now is told from its own.
    client.hincrby(f"oathbulk::pace-4:{LICENSE}", "held_since", -1_000_000_000)
    paces.synchronize(pace)
    before = paces.read(LICENSE).hold
    paces.synchronize(pace)
    assert replace(paces.read(LICENSE).hold, left=before.left) == before
    pace.hold(100, "PingOne cannot be reached")
    paces.synchronize(pace)
    later = paces.read(LICENSE).hold
    assert (later.why, later.left > 90) == ("PingOne cannot be reached", True)
    assert abs(later.since - before.since) < timedelta(seconds=100)


@ON_SQLITE
def test_a_person_ends_a_hold_with_the_next_tick_for_every_process(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace
) -> None:
    worker, dispatcher = make_pace(), make_pace()
    worker.wait()
    worker.hold(86_400, WHY)
    paces.synchronize(dispatcher)
    PaceCommands(database, EVE).lift(LICENSE)
    with pytest.raises(SlotTooFar):
        worker.wait()
    paces.synchronize(dispatcher)
    worker.wait()
    known = paces.read(LICENSE)
    assert (known.hold, known.is_to_be_lifted, dispatcher.read_hold_left()) == (None, False, 0)
    # Once: the next hold stands.
    worker.hold(60, WHY)
    paces.synchronize(dispatcher)
    assert (paces.read(LICENSE).hold.why, dispatcher.read_hold_left() > 50) == (WHY, True)


@ON_SQLITE
def test_a_hold_that_nobody_has_written_down_is_lifted_when_redis_is_back(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = make_pace()
    pace.hold(60, WHY)
    PaceCommands(database, EVE).lift(LICENSE)
    monkeypatch.setattr(pace, "lift", Mock(side_effect=redis.ConnectionError))
    with pytest.raises(redis.ConnectionError):
        paces.synchronize(pace)
    monkeypatch.undo()
    assert paces.read(LICENSE).is_to_be_lifted
    paces.synchronize(pace)
    assert (paces.read(LICENSE).is_to_be_lifted, pace.read_hold_left()) == (False, 0)


# The groups of calls beside activations.


@ON_SQLITE
def test_a_person_ends_the_holds_of_all_groups_with_the_next_tick(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace, make_group: MakeGroup
) -> None:
    workers, dispatcher = [make_group(group) for group in OTHERS], make_pace()
    for worker in workers:
        worker.hold(60, WHY)
    paces.synchronize(dispatcher)
    assert [worker.read_hold_left() > 50 for worker in workers] == [True, True, True]
    PaceCommands(database, EVE).lift(LICENSE)
    paces.synchronize(dispatcher)
    assert [worker.read_hold_left() for worker in workers] == [0, 0, 0]
    assert not paces.read(LICENSE).is_to_be_lifted
    assert [(line.action, line.facts) for line in read(database)] == [
        ("pace --lift", {"license": LICENSE}),
    ]


@ON_SQLITE
def test_a_share_of_the_license_is_a_share_of_every_group_used_or_not(
    database: MovingDatabase, paces: PaceMemory, make_pace: MakePace, make_group: MakeGroup
) -> None:
    unused, *used = (make_group(group) for group in OTHERS)
    for worker in used:
        find(worker, 8.0)
    PaceCommands(database, EVE).set_share(LICENSE, 0.5)
    paces.synchronize(make_pace())
    for worker in used:
        assert (worker.read().search.share, worker.read().search.rate) == (0.5, pytest.approx(4 * PART_OF_CEILING))
    before = [worker.read().version for worker in used]
    paces.synchronize(make_pace())
    assert [worker.read().version for worker in used] == before
    assert unused.read().search is None
    unused.wait()
    assert unused.read().search.share == 0.5
