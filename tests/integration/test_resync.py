"""What an environment wants with OTP 1, learnt by several workers at once, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select
from support.data.batches import ENVIRONMENT_ID, TESTER, look_at_batch, make_batch
from support.data.moving_clock import MovingDatabase

from models.audit import Action, AuditLine
from models.batch import Batch
from models.tenant_fact import TenantFact
from worker.batches.upkeep import Upkeep
from worker.rules.breaker import Thresholds
from worker.rules.resync import REFUSALS, TAKEN, Answer, NeedsFlag
from worker.tenants import LearntResync, read_resync


def known(database: MovingDatabase):
    with database.reading() as connection:
        return read_resync(connection, ENVIRONMENT_ID)


@pytest.fixture
def resync(database: MovingDatabase) -> LearntResync:
    return LearntResync(database, ENVIRONMENT_ID, TESTER)


def test_nothing_is_known_at_first(database: MovingDatabase, resync: LearntResync) -> None:
    assert not resync.sends_flag()
    assert known(database).needs == NeedsFlag.UNKNOWN


def test_what_one_worker_learns_the_others_know(database: MovingDatabase, resync: LearntResync) -> None:
    other = LearntResync(database, ENVIRONMENT_ID, TESTER)
    for record_id in range(REFUSALS):
        assert not other.sends_flag()
        resync.learn(Answer.REFUSED, had_flag=False, record_id=record_id)
    assert other.sends_flag()
    other.learn(Answer.ASKED_FOR_SECOND, had_flag=True, record_id=9)
    assert known(database).needs == NeedsFlag.YES


def test_another_environment_learns_for_itself(database: MovingDatabase, resync: LearntResync) -> None:
    resync.learn(Answer.ASKED_FOR_SECOND, had_flag=False, record_id=1)
    with database.reading() as connection:
        assert read_resync(connection, "another").needs == NeedsFlag.UNKNOWN


def test_no_refusal_is_lost_when_many_learn_at_once(database: MovingDatabase) -> None:
    workers = [LearntResync(database, ENVIRONMENT_ID, TESTER) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda worker: worker.learn(Answer.TAKEN, had_flag=False, record_id=1), workers * 3))
    assert known(database).taken == 24


def test_it_stands_in_the_audit_once(database: MovingDatabase, resync: LearntResync) -> None:
    for record_id in range(REFUSALS + 3):
        resync.learn(Answer.REFUSED, had_flag=False, record_id=record_id)
    with database.reading() as connection:
        lines = connection.execute(select(AuditLine.facts).where(AuditLine.action == Action.LEARN)).scalars().all()
    assert [line["resync_on_first_call"] for line in lines] == [NeedsFlag.TRIED]
    assert lines[0]["record"] == REFUSALS - 1


def test_first_records_that_all_failed_hold_nothing_back_once_the_cause_is_found(database: MovingDatabase) -> None:
    made = make_batch(database, 5)
    with database.writing() as connection:
        connection.execute(Batch.__table__.update().values(trial_row=4))
    upkeep = Upkeep(database, Thresholds())
    resync = LearntResync(database, ENVIRONMENT_ID, TESTER, upkeep.end_trials)
    for record_id in made.ids[:REFUSALS]:
        resync.learn(Answer.REFUSED, had_flag=False, record_id=record_id)
    assert look_at_batch(database, made.batch_id).trial_row is None


def test_where_nothing_is_learnt_any_more_nothing_is_written(database: MovingDatabase, resync: LearntResync) -> None:
    for _ in range(TAKEN + 5):
        resync.learn(Answer.TAKEN, had_flag=False, record_id=1)
    assert known(database).taken == TAKEN
    with database.reading() as connection:
        seen_at = connection.scalar(select(TenantFact.seen_at))
    database.ahead = 60
    resync.learn(Answer.TAKEN, had_flag=False, record_id=2)
    with database.reading() as connection:
        assert connection.scalar(select(TenantFact.seen_at)) == seen_at
    # A refusal still counts.
    resync.learn(Answer.REFUSED, had_flag=False, record_id=3)
    assert known(database).refused == 1
