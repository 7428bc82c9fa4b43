"""Commands that people give for batches, for the pace of a license and for a restored database; and the work of the
replay schedule.

Workers follow a new pace from the dispatcher's next tick, within a second or two. A command for one rate group
(`--group`) takes effect in Redis at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select, true, update

from models.audit import Action, AuditLine
from models.batch import Batch, BatchState
from models.reason import PASSING, TRANSIENT, PauseReason, Reason
from models.record import Record
from models.record_states import UNTIL_LET_GO, Status
from models.refused_row import RefusedRow
from worker import audit
from worker.audit import Actor
from worker.batches import hours, state
from worker.batches.finding import choose_records, choose_rows, find_batch, has_unfinished, leave_out_names
from worker.batches.hours import OutOfHours
from worker.config.settings import Settings
from worker.database.engine import LOAD_LOCK, Database
from worker.fleet import GONE_AFTER, read_processes
from worker.leases import moves
from worker.leases.distrust import count_trusted, distrust, find_pending, take_all_back
from worker.leases.replay import NotReplayed, find_not_replayed, replay
from worker.observability.progress import OnProgress, tell_nobody
from worker.observability.wording import agree
from worker.pace.known_pace import lift_hold, read_pace, write_pace
from worker.rules.hours import DailyHours

# A resume from a pause for this reason clears this column, so that the rest of the batch runs.
_HELD_BACK_BY: dict[str | None, Any] = {PauseReason.CANARY: Batch.canary, PauseReason.TRIAL: Batch.trial}
# Finds the license of an environment by the environment's name and id.
LicenseOf = Callable[[str, str], str]


class NotPossible(Exception):
    """The batch is in a state that does not allow the command; the message names a command that works."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay: how many records are pending again, and which records are not, with the reason.
    `out_of_hours`: set if the batch is outside its hours; says when they begin."""

    records: int
    not_replayed: tuple[NotReplayed, ...] = ()
    out_of_hours: OutOfHours | None = None


@dataclass(frozen=True, slots=True)
class HoursChange:
    """The new hours of a batch; None removes its hours."""

    hours: DailyHours | None


# Number of rows above which changing a batch takes more than about a second.
MANY = 20_000


def _announce(what: str, rows: int, on_progress: OnProgress) -> None:
    """Report that a change of a large batch begins. It is one statement, so nothing can be reported in between: if
    the change were split into parts, PostgreSQL would also read the index entries that earlier parts left behind."""
    if rows > MANY:
        on_progress(f"{what} a batch of {rows:,} rows", 0)


def _refuse_cancelled(name: str) -> NotPossible:
    return NotPossible(f"batch {name!r} is cancelled: `oathbulk replay {quote(name)}` makes it run again")


class Batches:
    """Commands for batches, each written to the audit; thread-safe."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def pause(self, name: str, where: Sequence[str] = ()) -> int:
        """Pause a batch, so that no new call starts. With `where`, keep back only the records that have not begun and
        meet all of these conditions, each written as COLUMN=VALUE. Returns how many records left the queue, or are kept
        back. Raises UnknownBatch, UnknownColumn, NotPossible."""
        with self._database.changing_many() as connection:
            batch = self._find(connection, name)
            if batch.state == BatchState.CANCELLED:
                raise NotPossible(f"batch {name!r} is cancelled: there is nothing to pause")
            if not has_unfinished(connection, batch.id):
                raise NotPossible(f"batch {name!r} is finished: there is nothing to pause")
            if where:
                chosen = choose_records(connection, name, where)
                count = moves.set_date(self._database, connection, batch.id, chosen, UNTIL_LET_GO)
                self._write_down(connection, Action.PAUSE, name, where=leave_out_names(where), records=count)
                return count
            self._set_paused(connection, batch.id, f"Paused by {self._actor.name}.")
            count = moves.hand_back_queued(self._database, connection, batch.id)
            self._write_down(connection, Action.PAUSE, name)
            return count

    def hand_back(self) -> int:
        """Make the queued records of every batch pending again, since no worker will take them. Returns how many there
        were."""
        with self._database.changing_many() as connection:
            return moves.hand_back_queued(self._database, connection)

    def resume(
        self, name: str, change: HoursChange | None = None, *, lift_in: LicenseOf | None = None
    ) -> OutOfHours | None:
        """Let a batch run, or let it wait for its hours; then return when they begin. The resume ends a canary or trial
        only if the batch was paused for it, since only then has a person looked at the result. `lift_in` finds the
        license of an environment: the hold of that license is lifted, whether the batch ran or not. Raises
        UnknownBatch, NotPossible."""
        with self._database.changing_many() if lift_in else self._database.writing() as connection:
            batch = self._find(connection, name)
            if batch.state == BatchState.CANCELLED:
                raise _refuse_cancelled(name)
            if not has_unfinished(connection, batch.id):
                raise NotPossible(f"batch {name!r} is finished: nothing is left to do")
            if batch.state == BatchState.RUNNING and change is None and lift_in is None:
                return None
            facts: dict[str, Any] = {"reason": batch.reason}
            if change is not None:
                hours.set_hours(connection, batch.id, change.hours)
                facts["window"] = change.hours and str(change.hours)
            if lift_in is not None:
                license_ = lift_in(batch.environment, batch.environment_id)
                lift_hold(connection, license_)
                self._write_down(connection, Action.LIFT, name, license=license_)
            out_of_hours = self._let_run(connection, batch.id)
            if batch.reason in _HELD_BACK_BY:
                held_back_by = _HELD_BACK_BY[batch.reason]
                connection.execute(
                    update(Batch).where(Batch.id == batch.id).values({held_back_by: None, **state.READ_ANEW})
                )
            self._write_down(connection, Action.RESUME, name, **facts)
            return out_of_hours

    def let_begin(self, name: str, where: Sequence[str]) -> int:
        """Let the records of a batch that meet all of `where` begin now, whether they wait for a date or were kept
        back. Returns how many were waiting. Raises UnknownBatch, UnknownColumn, NotPossible."""
        with self._database.changing_many() as connection:
            batch, chosen = self._find(connection, name), choose_records(connection, name, where)
            if batch.state == BatchState.CANCELLED:
                raise _refuse_cancelled(name)
            count = moves.set_date(self._database, connection, batch.id, chosen, None)
            self._write_down(connection, Action.RESUME, name, where=leave_out_names(where), records=count)
            return count

    def cancel(self, name: str, where: Sequence[str] = (), on_progress: OnProgress = tell_nobody) -> int:
        """Cancel a batch: close all of its rows that are to do. With `where`, close only the failed rows and those not
        begun that meet all of these conditions, each written as COLUMN=VALUE; the rest of the batch continues. Returns
        how many rows were closed at once; rows being worked on are closed when their call ends. Raises UnknownBatch,
        UnknownColumn, NotPossible."""
        with self._database.changing_many() as connection:
            batch = self._find(connection, name)
            if where:
                chosen = choose_rows(connection, name, where)
                count = moves.close(self._database, connection, batch.id, chosen.records)
                open_rows = and_(RefusedRow.batch_id == batch.id, ~RefusedRow.is_closed, chosen.not_loaded)
                count += connection.execute(update(RefusedRow).where(open_rows).values(is_closed=True)).rowcount
                self._write_down(connection, Action.CANCEL, name, where=leave_out_names(where), records=count)
                return count
            if not has_unfinished(connection, batch.id) and not self._has_failed_or_closed(connection, batch.id):
                raise NotPossible(f"batch {name!r} is finished: nothing is left to do")
            connection.execute(state.cancel((BatchState.RUNNING, BatchState.PAUSED)).where(Batch.id == batch.id))
            _announce("Canceling", batch.total, on_progress)
            count = moves.cancel(self._database, connection, batch.id)
            self._write_down(connection, Action.CANCEL, name, records=count)
            return count

    def replay(
        self,
        name: str,
        reasons: Collection[Reason] | None = None,
        where: Sequence[str] = (),
        on_progress: OnProgress = tell_nobody,
    ) -> Replayed:
        """Make dead letters with these reasons pending again. Without reasons, replay all dead letters and the records
        that were cancelled with the batch. With `where`, replay the records that meet all conditions, including those
        that an undo cancelled. Raises UnknownBatch, UnknownColumn."""
        # Not during a load, which may bring the same tokens in records that are invisible until it commits.
        with self._database.changing_many(LOAD_LOCK) as connection:
            batch = self._find(connection, name)
            chosen = choose_records(connection, name, where) if where else None
            _announce("Replaying", batch.total, on_progress)
            count = replay(self._database, connection, batch.id, reasons, chosen)
            not_replayed = find_not_replayed(self._database, connection, batch.id, reasons, chosen)
            out_of_hours = self._let_run(connection, batch.id) if count else None
            facts: dict[str, Any] = {"reasons": sorted(reasons or ()), "records": count}
            if where:
                facts["where"] = leave_out_names(where)
            self._write_down(connection, Action.REPLAY, name, **facts)
            return Replayed(count, not_replayed, out_of_hours)

    def replay_transient(self, only_batch: int | None = None) -> int:
        """Replay the dead letters that may succeed after a while without a change, in every running batch or in the one
        with this id. The replay schedule calls this. Returns how many records."""
        worked_on = Batch.state == BatchState.RUNNING, Batch.id == only_batch if only_batch is not None else true()
        with self._database.changing_many(LOAD_LOCK) as connection:
            running = connection.execute(select(Batch.id, Batch.name).where(*worked_on)).all()
            counts = {
                batch.name: replay(self._database, connection, batch.id, TRANSIENT, is_scheduled=True)
                for batch in running
            }
            # This must come last. A load of the same tokens waits for the audit's lock, so a transaction that holds
            # this lock must not wait for the load.
            for name, count in counts.items():
                if count:
                    self._write_down(connection, Action.REPLAY, name, reasons=sorted(TRANSIENT), records=count)
            return sum(counts.values())

    def note_export(self, name: str, file: str) -> None:
        """Write to the audit that OTPs are about to leave the database. Raises UnknownBatch."""
        with self._database.writing() as connection:
            self._find(connection, name)
            self._write_down(connection, Action.EXPORT_WITH_OTPS, name, file=file)

    def _find(self, connection: Connection, name: str) -> Row[*tuple[Any, ...]]:
        columns = (Batch.id, Batch.state, Batch.reason, Batch.total, Batch.environment, Batch.environment_id)
        return find_batch(connection, name, *columns, is_locking=True)

    def _has_failed_or_closed(self, connection: Connection, batch_id: int) -> bool:
        """Whether a cancel would still change something: a purge may then remove the dead letters, and a file whose
        records were cancelled or undone can be loaded again."""
        is_over = Record.status.in_((Status.DEAD_LETTER, Status.CANCELLED))
        return connection.scalar(select(Record.id).where(Record.batch_id == batch_id, is_over).limit(1)) is not None

    def _set_paused(self, connection: Connection, batch_id: int, detail: str) -> None:
        """Pause a batch on a person's command. A batch that paused by itself keeps its reason, which names the cure,
        unless it would resume by itself."""
        may_go_on = or_(Batch.state == BatchState.RUNNING, Batch.reason.in_(PASSING))
        paused = state.pause((BatchState.RUNNING, BatchState.PAUSED), PauseReason.PERSON, detail)
        connection.execute(paused.where(Batch.id == batch_id, may_go_on))

    def _write_down(self, connection: Connection, action: Action, batch: str, **facts: Any) -> None:
        audit.append(self._database, connection, self._actor, action, batch, facts)

    def _let_run(self, connection: Connection, batch_id: int) -> OutOfHours | None:
        """Let a batch run on a person's command. The breaker starts over: it ignores earlier attempts and outages."""
        judged_anew = {"outages": 0, "judged_after": hours.latest_attempt()}
        connection.execute(update(Batch).where(Batch.id == batch_id).values(judged_anew))
        return hours.let_run(self._database, connection, batch_id)


# The lowest rate that a person may set, in requests a second. At this rate a slot comes within two minutes, so a
# mistake is noticed.
LOWEST_RATE = 0.01
# The highest rate that a person may set: more than any license has. Without a limit, `inf` would remove the pace.
HIGHEST_RATE = 100_000.0


class PaceCommands:
    """One person's commands for paces, each written to the audit."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def set_share(self, license: str, share: float) -> None:
        """Limit the license to this share of the rate that PingOne permits, 0 < share ≤ 1."""
        with self._database.changing_many() as connection:
            self._write(connection, license, {"share": share}, self._who())

    def fix(self, license: str, rate: float) -> None:
        """Set a fixed rate, in requests a second."""
        with self._database.changing_many() as connection:
            self._write(connection, license, {"fixed_rate": rate}, self._who())

    def adapt(self, license: str) -> None:
        """Search for the limit again. If a share is set and this command has no ticket, the row of the license still
        names who set the share; the audit names who gave this command."""
        with self._database.changing_many() as connection:
            of_share = None if self._actor.ticket else self._find_who_set_share(connection, license)
            self._write(connection, license, {"fixed_rate": None}, of_share or self._who())

    def lift(self, license: str) -> None:
        """End the holds of all rate groups."""
        with self._database.changing_many() as connection:
            lift_hold(connection, license)
            audit.append(self._database, connection, self._actor, Action.LIFT, None, {"license": license})

    def _who(self) -> dict[str, Any]:
        return {"set_by": self._actor.name, "set_at": self._database.now(), "ticket": self._actor.ticket}

    def _find_who_set_share(self, connection: Connection, license: str) -> dict[str, Any] | None:
        """Find in the audit who last set the share of the license, when, and with which ticket; None if it has no
        share."""
        if read_pace(self._database, connection, license).share >= 1:
            return None
        columns = AuditLine.actor, AuditLine.at, AuditLine.ticket, AuditLine.facts
        lines = select(*columns).where(AuditLine.action == Action.PACE).order_by(AuditLine.id.desc())
        for line in connection.execute(lines):
            if line.facts.get("license") == license and "share" in line.facts:
                return {"set_by": line.actor, "set_at": line.at, "ticket": line.ticket}
        return None

    def _write(self, connection: Connection, license: str, values: dict[str, Any], who: dict[str, Any]) -> None:
        write_pace(connection, license, values | who)
        facts = {"license": license} | values
        audit.append(self._database, connection, self._actor, Action.PACE, None, facts)


# Records marked in one transaction after a restore.
CHUNK = 1000


class WorkersLive(Exception):
    """Worker processes are running on the database; the message names them."""


def distrust_all(
    database: Database, settings: Settings, actor: Actor, on_progress: OnProgress = tell_nobody
) -> tuple[int, int]:
    """Mark every record that is not final as sent, with unknown outcome, except records that wait for a date. The
    inventory of every batch has to be read again, too. Returns how many records were newly marked, and how many wait
    for a date.

    Works chunk by chunk, each in its own transaction; if called again, it does only the rest. Raises WorkersLive."""
    with database.changing_many() as connection:
        _refuse_beside_workers(database, connection)
        take_all_back(database, connection)
        # A token that was imported after the backup must not be imported again.
        connection.execute(update(Batch).where(Batch.inventory_read_at.is_not(None)).values(inventory_read_at=None))
        total, waiting = count_trusted(database, connection)
        audit.append(database, connection, actor, Action.RESTORED, None, {"records": total})
    done, last_id = 0, 0
    while True:
        with database.changing_many() as connection:
            _refuse_beside_workers(database, connection)
            ids = find_pending(connection, last_id, CHUNK)
            if not ids:
                return done, waiting
            done += distrust(
                database, connection, ids, post_budget=settings.otp_post_budget, over_after=settings.tuning.over_after
            )
            last_id = ids[-1]
        if done < total:
            on_progress("Marking records", done, total)


def _refuse_beside_workers(database: Database, connection: Connection) -> None:
    """Raise WorkersLive if a worker process is alive: a mark does not cover what the process is doing right now."""
    alive = [process.name for process in read_processes(database, connection) if process.is_alive]
    if alive:
        are_alive = agree(len(alive), "worker process is alive", "worker processes are alive")
        raise WorkersLive(
            f"{len(alive)} {are_alive}: {', '.join(alive)}. End the {agree(len(alive), 'process', 'processes')}, "
            f"then run the command again; a killed one counts as alive for {GONE_AFTER:.0f} seconds"
        )
