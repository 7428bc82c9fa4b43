"""The commands on the pace of a license that a person gives: keep to a share of it, fix it, let it adapt again, end its
holds.

Workers obey at the dispatcher's next tick, within a second or two. A command on one rate group beside that of
activations goes to Redis at once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from models.audit import Action, AuditLine
from worker import audit
from worker.audit import Actor
from worker.database.engine import Database
from worker.pace.known_pace import lift_hold, read_pace, write_pace
from worker.pace.search import fix_rate, free_rate
from worker.pace.slots import Change, Pace

# Requests a second that a person may fix at least: a slot comes within two minutes, so that a mistake is noticed.
LOWEST_RATE = 0.01
# And at most: more than any license has. Without it, `inf` would be no pace at all.
HIGHEST_RATE = 100_000.0


class PaceCommands:
    """Gives commands in the name of one person, each with its line in the audit."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def set_share(self, license: str, share: float) -> None:
        """Keep to this part of what PingOne permits the license, 0 < share ≤ 1."""
        self._set(license, {"share": share})

    def fix(self, license: str, rate: float) -> None:
        """Stay at this rate, in requests a second."""
        self._set(license, {"fixed_rate": rate})

    def adapt(self, license: str) -> None:
        """Look for the limit again. Where a share stays, and this has no ticket, the license's line names who set the
        share; the audit tells who did this."""
        with self._database.changing_many() as connection:
            of_share = None if self._actor.ticket else self._find_who_set_share(connection, license)
            self._write(connection, license, {"fixed_rate": None}, of_share or self._who())

    def lift(self, license: str) -> None:
        """End the holds of all rate groups."""
        with self._database.changing_many() as connection:
            lift_hold(connection, license)
            audit.append(self._database, connection, self._actor, Action.LIFT_HOLD, None, {"license": license})

    def fix_group(self, pace: Pace, rate: float) -> None:
        """Let one group stay at this rate, in requests a second. Raises redis.RedisError."""
        self._change_group(pace, {"fixed_rate": rate}, lambda search, reading: fix_rate(search, rate, reading.now))

    def adapt_group(self, pace: Pace) -> None:
        """Let one group look for its limit again. Raises redis.RedisError."""
        self._change_group(pace, {"fixed_rate": None}, lambda search, reading: free_rate(search, reading.now))

    def lift_group(self, pace: Pace) -> None:
        """End the hold of one group. Raises redis.RedisError."""
        pace.read()
        self._note(Action.LIFT_HOLD, {"license": pace.license, "group": pace.group})
        pace.lift()

    def _change_group(self, pace: Pace, values: dict[str, Any], change: Change) -> None:
        """Change the search of one group. What cannot be written down is not done, nor is written down where Redis is
        out of reach."""
        pace.read()
        self._note(Action.PACE, {"license": pace.license, "group": pace.group} | values)
        pace.change(change)

    def _note(self, action: Action, facts: dict[str, Any]) -> None:
        with self._database.writing() as connection:
            audit.append(self._database, connection, self._actor, action, None, facts)

    def _who(self) -> dict[str, Any]:
        return {"set_by": self._actor.name, "set_at": self._database.now(), "ticket": self._actor.ticket}

    def _find_who_set_share(self, connection: Connection, license: str) -> dict[str, Any] | None:
        """Find in the audit who set the license's share last, when, and on which ticket; None where it has no share."""
        if read_pace(self._database, connection, license).share >= 1:
            return None
        columns = AuditLine.actor, AuditLine.at, AuditLine.ticket, AuditLine.facts
        lines = select(*columns).where(AuditLine.action == Action.PACE).order_by(AuditLine.id.desc())
        for line in connection.execute(lines):
            if line.facts.get("license") == license and "share" in line.facts:
                return {"set_by": line.actor, "set_at": line.at, "ticket": line.ticket}
        return None

    def _set(self, license: str, values: dict[str, Any]) -> None:
        with self._database.changing_many() as connection:
            self._write(connection, license, values, self._who())

    def _write(self, connection: Connection, license: str, values: dict[str, Any], who: dict[str, Any]) -> None:
        write_pace(connection, license, values | who)
        facts = {"license": license} | values
        audit.append(self._database, connection, self._actor, Action.PACE, None, facts)
