"""The commands on the pace of a license that a person gives: keep to a share of it, fix it, let it adapt again.

Workers obey at the dispatcher's next tick, within a second or two."""

from __future__ import annotations

from typing import Any

from models.audit import Action
from worker import audit
from worker.audit import Actor
from worker.database.engine import Database
from worker.pace.memory import write_pace


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

    def _who(self) -> dict[str, Any]:
        return {"set_by": self._actor.name, "set_at": self._database.now(), "ticket": self._actor.ticket}

    def _set(self, license: str, values: dict[str, Any], who: dict[str, Any]) -> None:
        with self._database.changing_many() as connection:
            write_pace(connection, license, values | who)
            facts = {"license": license} | values
            audit.append(self._database, connection, self._actor, Action.PACE, None, facts)
