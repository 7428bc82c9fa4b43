"""The commands on the pace of a license that a person gives: keep to a share of it, fix it, let it adapt again, end its
holds.

Workers obey at the dispatcher's next tick, within a second or two. A command on one rate group beside that of
activations goes to Redis at once."""

from __future__ import annotations

from typing import Any

from models.audit import Action
from worker import audit
from worker.audit import Actor
from worker.database.engine import Database
from worker.pace.known_pace import lift_hold, write_pace
from worker.pace.rate import Change
from worker.pace.search import fix_rate, free_rate
from worker.pace.slots import Pace


class PaceCommands:
    """Gives commands in the name of one person, each with its line in the audit."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def set_share(self, license: str, share: float) -> None:
        """Keep to this part of what PingOne permits the license, 0 < share ≤ 1."""
        self._set(license, {"share": share}, self._who())

    def fix(self, license: str, rate: float) -> None:
        """Stay at this rate, in requests a second."""
        self._set(license, {"fixed_rate": rate}, self._who())

    def adapt(self, license: str) -> None:
        """Look for the limit again. Without a ticket, the license's line keeps the one under which a share was set, and
        who set it; the audit tells who did this."""
        self._set(license, {"fixed_rate": None}, self._who() if self._actor.ticket else {})

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

    def _set(self, license: str, values: dict[str, Any], who: dict[str, Any]) -> None:
        with self._database.changing_many() as connection:
            write_pace(connection, license, values | who)
            facts = {"license": license} | values
            audit.append(self._database, connection, self._actor, Action.PACE, None, facts)
