"""The state of a batch: which arrows it may take, and what each statement leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product

import pytest
from sqlalchemy import Connection, Update, create_engine, insert, select, update

from models.base import LONGEST_DETAIL, Base
from models.batch import TRANSITIONS, Batch, BatchState
from models.reason import PAUSE_CURES, PauseReason
from worker.batches import state

RUNNING, PAUSED, CANCELLED = BatchState
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
# Statements by the state that they lead to.
STATEMENTS = {
    RUNNING: lambda sources: state.let_run(sources, closes_at=NOON, since=NOON),
    PAUSED: lambda sources: state.pause(sources, PauseReason.PERSON),
    CANCELLED: state.cancel,
}
# What depends on the state, as it stands in a batch that was paused for an outage.
OUTAGE = {"reason": "outage", "detail": "Down.", "probe_at": NOON, "resumes_at": NOON, "closes_at": NOON}


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with engine.connect() as opened:
        opened.execute(
            insert(Batch).values(
                id=1, name="n", environment="e", environment_id="e", file="f", file_sha256="s", columns=[],
                created_at=NOON, running_since=NOON,
            )
        )  # fmt: skip
        yield opened
    engine.dispose()


def take(connection: Connection, before: BatchState, change: Update) -> dict[str, object]:
    """The batch's columns after a change of one in the state `before`."""
    connection.execute(update(Batch).values(state=before, **OUTAGE))
    connection.execute(change.where(Batch.id == 1))
    names = ("state", *OUTAGE)
    row = connection.execute(select(*[Batch.__table__.c[name] for name in names])).one()
    return dict(zip(names, row, strict=True))


@pytest.mark.parametrize(("source", "target"), list(product(BatchState, BatchState)))
def test_no_statement_takes_an_arrow_that_is_not_in_the_table(source: BatchState, target: BatchState) -> None:
    if (source, target) in TRANSITIONS:
        STATEMENTS[target]((source,))
        return
    with pytest.raises(ValueError, match=f"no arrow leads from {source} to {target}"):
        STATEMENTS[target]((source,))


def test_what_was_cancelled_only_a_replay_brings_back_and_what_runs_was_never_lost() -> None:
    assert {source for source, target in TRANSITIONS if target == CANCELLED} == {RUNNING, PAUSED}
    assert {target for source, target in TRANSITIONS if source == CANCELLED} == {RUNNING, PAUSED}


def test_a_batch_that_runs_keeps_nothing_of_its_pause(connection: Connection) -> None:
    after = take(connection, PAUSED, state.let_run((PAUSED,), closes_at=NOON, since=NOON))
    empty = dict.fromkeys(("reason", "detail", "probe_at", "resumes_at"))
    assert after == {"state": RUNNING, **empty, "closes_at": NOON}


def test_a_pause_says_why_and_how_it_ends_and_keeps_nothing_of_the_one_before(connection: Connection) -> None:
    after = take(connection, PAUSED, state.pause((PAUSED,), PauseReason.CREDENTIALS))
    cure = PAUSE_CURES[PauseReason.CREDENTIALS]
    times = dict.fromkeys(("probe_at", "resumes_at", "closes_at"))
    assert after == {"state": PAUSED, "reason": "credentials", "detail": cure, **times}

    after = take(connection, RUNNING, state.pause((RUNNING,), PauseReason.WINDOW, "Shut.", resumes_at=NOON))
    assert (after["detail"], after["resumes_at"], after["probe_at"]) == ("Shut.", NOON, None)


def test_a_cancelled_batch_keeps_no_reason(connection: Connection) -> None:
    assert take(connection, PAUSED, state.cancel((PAUSED,))) == {"state": CANCELLED, **dict.fromkeys(OUTAGE)}


def test_who_comes_late_changes_nothing(connection: Connection) -> None:
    for target in BatchState:
        sources = [source for source in BatchState if (source, target) in TRANSITIONS]
        for before in sources:
            others = [source for source in sources if source != before]
            assert take(connection, before, STATEMENTS[target](others)) == {"state": before, **OUTAGE}


def test_a_detail_fits_into_its_column() -> None:
    said = state.pause((RUNNING,), PauseReason.INTERNAL, "x" * 2 * LONGEST_DETAIL)
    assert len(str(said.compile().params["detail"])) == LONGEST_DETAIL
