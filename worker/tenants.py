"""What oathbulk learns about a PingOne environment by working with it: facts that are published nowhere, and differ
between tenants. Whether OTP 1 has to be sent with `oathResync` is stored in the database, for all workers. The records
show what status a device has when it is paired."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute

from models.audit import Action
from models.record import Record, all_posts
from models.record_states import Status
from models.tenant_fact import FactName, TenantFact
from worker import audit
from worker.audit import Actor
from worker.clocks import boot_time
from worker.database.engine import Database
from worker.database.errors import is_away
from worker.leases.group_commit import Combiner
from worker.rules.resync import FirstOtpAnswer, NeedsFlag, ResyncKnowledge, learn

# Seconds after which the stored knowledge is read again, once not every answer counts anymore.
REREAD_AFTER = 1.0

# The message when workers begin to send the flag, in the log and the status.
TRIED = (
    "PingOne refused the first OTPs of several tokens and never asked for a second one, so oathbulk now sends "
    "oathResync with OTP 1; set PINGONE_RESYNC_ON_FIRST_CALL to true or false if you know what this environment wants"
)


# The message to people about an environment.
LEARNED = {
    NeedsFlag.UNKNOWN: "PingOne has not asked for a second OTP yet, so it is not known whether it wants oathResync "
    "with OTP 1",
    NeedsFlag.NO: "oathResync is not needed with OTP 1",
    NeedsFlag.TRIED: TRIED,
    NeedsFlag.YES: "oathbulk sends oathResync with OTP 1: otherwise PingOne does not ask for a second OTP",
}


class _Lesson(NamedTuple):
    """An answer to the OTP 1 of a record, and whether that OTP was sent with the flag."""

    answer: FirstOtpAnswer
    had_flag: bool
    record_id: int


class Resync:
    """Whether OTP 1 is sent with `oathResync`, as a person has set it: there is nothing to learn."""

    def __init__(self, sends_flag: bool) -> None:
        self._sends_flag = sends_flag

    @property
    def is_open(self) -> bool:
        """Whether the final answer is not known yet."""
        return False

    def sends_flag(self) -> bool:
        """Whether OTP 1 is sent with `oathResync` now."""
        return self._sends_flag

    def learn(self, answer: FirstOtpAnswer, *, had_flag: bool, record_id: int) -> None:
        """Learn from the answer to an OTP 1 of this record."""


class LearnedResync(Resync):
    """What an environment has shown so far; one object per process. Thread-safe.

    While every answer counts, the stored knowledge is read again for every record, since another worker may have
    learned more. Later it is read once a second, until the final answer is known. `on_tried` is called with the
    environment's id once workers begin to send the flag."""

    def __init__(
        self, database: Database, environment_id: str, actor: Actor, on_tried: Callable[[str], object] = lambda _: None
    ) -> None:
        self._database = database
        self._environment_id = environment_id
        self._actor = actor
        self._on_tried = on_tried
        self._known = ResyncKnowledge()
        # The lessons of several threads are written together: otherwise each thread would wait for the others' commits.
        self._lessons = Combiner[_Lesson, None](self._write_down, is_away)
        # In `boot_time` seconds.
        self._read_at = -REREAD_AFTER

    @property
    def is_open(self) -> bool:
        """Whether the final answer is still unknown, as far as this process knows."""
        return not self._known.is_for_good

    def sends_flag(self) -> bool:
        """Whether OTP 1 is sent with `oathResync` now."""
        known = self._known
        is_due = known.is_learning or boot_time() >= self._read_at + REREAD_AFTER
        if is_due and not known.is_for_good:
            with self._database.reading() as connection:
                self._known = known = read_resync(connection, self._environment_id)
            self._read_at = boot_time()
        return known.sends_flag

    def learn(self, answer: FirstOtpAnswer, *, had_flag: bool, record_id: int) -> None:
        """Learn from the answer to an OTP 1 of this record, and store that. While the database is unavailable, nothing
        is learned from this answer, since the record's own attempt must not depend on it."""
        if learn(self._known, answer, had_flag=had_flag) != self._known:
            with suppress(SQLAlchemyError):
                self._lessons.submit(_Lesson(answer, had_flag, record_id))

    def _write_down(self, lessons: Sequence[_Lesson]) -> Sequence[None]:
        self._make_row()
        is_tried = False
        with self._database.writing() as connection:
            first = known = read_resync(connection, self._environment_id, is_locking=True)
            for lesson in lessons:
                before, known = known, learn(known, lesson.answer, had_flag=lesson.had_flag)
                if known != before:
                    record_id = lesson.record_id
                if known.needs != before.needs:
                    self._tell(connection, known, record_id)
                    is_tried = is_tried or known.needs == NeedsFlag.TRIED
            if known != first:
                values = {"value": asdict(known), "seen_at": self._database.now(), "record_id": record_id}
                connection.execute(update(TenantFact).where(*_this(self._environment_id)).values(values))
        self._known = known
        if is_tried:
            self._on_tried(self._environment_id)
        return [None] * len(lessons)

    def _make_row(self) -> None:
        """Make the row of this fact if it does not exist yet; two workers may do so at once."""
        with self._database.reading() as connection:
            if connection.scalar(select(TenantFact.name).where(*_this(self._environment_id))) is not None:
                return
        first = {"environment_id": self._environment_id, "name": FactName.RESYNC_ON_FIRST_CALL}
        values = first | {"value": asdict(ResyncKnowledge()), "seen_at": self._database.now()}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(TenantFact).values(values))
        except IntegrityError:
            return

    def _tell(self, connection: Connection, known: ResyncKnowledge, record_id: int) -> None:
        """Report what was learned, in the log and in the audit."""
        facts = {"environment_id": self._environment_id, "resync_on_first_call": known.needs, "record": record_id}
        audit.append(self._database, connection, self._actor, Action.LEARN, None, facts)
        # Imported here, since commands import this module too, and log nothing.
        import structlog

        log = structlog.get_logger()
        if known.needs == NeedsFlag.TRIED:
            log.warning("resync_on_first_call", learned=TRIED, record_id=record_id)
        else:
            log.info("resync_on_first_call", needed=known.sends_flag, record_id=record_id)


def read_resync(connection: Connection, environment_id: str, *, is_locking: bool = False) -> ResyncKnowledge:
    """Read what is known about an environment; empty if nothing has been learned yet. If locked, nobody else can learn
    before the transaction ends."""
    statement = select(TenantFact.value).where(*_this(environment_id))
    return tell_resync(connection.scalar(statement.with_for_update() if is_locking else statement))


def select_resync(environment_id: InstrumentedAttribute[str]) -> ColumnElement[Any]:
    """Build SQL for what was learned about the environment with this id: the argument of `tell_resync`."""
    return select(TenantFact.value).where(*_this(environment_id)).scalar_subquery()


def tell_resync(value: dict[str, Any] | None) -> ResyncKnowledge:
    """Describe what is known about an environment from its stored value; None: nothing is stored."""
    if value is None:
        return ResyncKnowledge()
    return ResyncKnowledge(NeedsFlag(value["needs"]), value["refused"], value["taken"])


def _this(environment_id: str | InstrumentedAttribute[str]) -> tuple[Any, ...]:
    return TenantFact.environment_id == environment_id, TenantFact.name == FactName.RESYNC_ON_FIRST_CALL


def describe_pairing_answer(connection: Connection, environment_id: str) -> str | None:
    """Describe what happened to the last device that was made in this environment, and name its record; None if no
    device that was made has become active."""
    made = select(Record.id, all_posts(), Record.finalized_at).where(
        Record.environment_id == environment_id, Record.is_device_made, Record.status == Status.ACTIVE
    )
    last = connection.execute(made.order_by(Record.id.desc()).limit(1)).first()
    if last is None:
        return None
    record_id, posts, at = last
    seen = f"(record {record_id}, {at:%Y-%m-%d})"
    if posts:
        return f"a new device waits for an OTP {seen}"
    return f"a new device is ACTIVE at once, so that no OTP proves its token {seen}"
