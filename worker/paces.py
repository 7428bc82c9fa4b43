"""The story of a license's pace: what was found of its limit outlives Redis; what a person set reaches the fleet."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from models.audit import Action
from models.pace import LicensePace
from worker import audit
from worker.audit import Actor
from worker.database import Database
from worker.pingone.pace_state import Reading
from worker.pingone.pacing import Pace
from worker.pingone.search import Search, fixed, freed, remembered, shared

# Parts of the rate, and of the ceiling, that are worth a line in the database.
NEWS, CEILING_NEWS = 0.02, 0.005


@dataclass(frozen=True, slots=True)
class KnownPace:
    """Rates in requests a second; `ceiling` is None until PingOne has refused, `fixed_rate` unless a person set one."""

    license: str
    rate: float | None = None
    ceiling: float | None = None
    found_at: datetime | None = None
    share: float = 1.0
    fixed_rate: float | None = None
    set_by: str | None = None
    set_at: datetime | None = None
    ticket: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# Asked at every tick: built once. The table may have more columns than are known here.
_KNOWN = [getattr(LicensePace, field.name) for field in fields(KnownPace)]
_OF_LICENSE = select(*_KNOWN).where(LicensePace.license == bindparam("of_license"))


def read_pace(connection: Connection, license: str) -> KnownPace:
    """What is known of a license, which may be nothing."""
    row = connection.execute(_OF_LICENSE, {"of_license": license}).one_or_none()
    return KnownPace(**row._mapping) if row else KnownPace(license)


class Paces:
    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, license: str) -> KnownPace:
        with self._database.reading() as connection:
            return read_pace(connection, license)

    def begin(self, license: str, now: float) -> Search | None:
        """Where the fleet begins; None where nothing is known of this license."""
        known = self.read(license)
        if known.fixed_rate:
            return fixed(Search(known.fixed_rate, share=known.share), known.fixed_rate, now)
        return remembered(known.ceiling, known.share, now) if known.ceiling else None

    def keep(self, pace: Pace) -> None:
        """Once a tick: what a person set goes to Redis, what was found comes from there. Raises redis.RedisError."""
        known, reading = self.read(pace.license), pace.read()
        if reading.search is None:
            return
        search = _obedient(reading.search, known, reading.now)
        if search != reading.search:
            search = pace.change(partial(_obey, known))
        if _is_news(search.rate, known.rate, NEWS) or _is_news(search.ceiling, known.ceiling, CEILING_NEWS):
            found: dict[str, Any] = {"rate": search.rate}
            if search.ceiling:
                found |= {"ceiling": search.ceiling, "found_at": self._database.now()}
            self._write(pace.license, found)

    def set_share(self, license: str, share: float, actor: Actor) -> None:
        """Keep to this part of the ceiling, 0 < share ≤ 1."""
        self._set(license, {"share": share}, actor, self._who(actor))

    def fix(self, license: str, rate: float | None, actor: Actor) -> None:
        """Stay at this rate; None: adapt again. Who adapts without a ticket leaves the one under which a share was set,
        and who set it: the audit tells of them."""
        who_is_kept = rate is None and actor.ticket is None
        self._set(license, {"fixed_rate": rate}, actor, {} if who_is_kept else self._who(actor))

    def _who(self, actor: Actor) -> dict[str, Any]:
        return {"set_by": actor.name, "set_at": self._database.now(), "ticket": actor.ticket}

    def _set(self, license: str, values: dict[str, Any], actor: Actor, who: dict[str, Any]) -> None:
        with self._database.changing_many() as connection:
            self._put(connection, license, values | who)
            audit.append(self._database, connection, actor, Action.PACE, None, {"license": license} | values)

    def _write(self, license: str, values: dict[str, Any]) -> None:
        with self._database.changing_many() as connection:
            self._put(connection, license, values)

    def _put(self, connection: Connection, license: str, values: dict[str, Any]) -> None:
        change = update(LicensePace).where(LicensePace.license == license).values(values)
        if not connection.execute(change).rowcount:
            connection.execute(insert(LicensePace).values({"license": license} | values))


def _obey(known: KnownPace, search: Search, reading: Reading) -> Search:
    return _obedient(search, known, reading.now)


def _obedient(search: Search, known: KnownPace, now: float) -> Search:
    """The search as a person wants it."""
    if known.fixed_rate:
        is_so = search.is_fixed and search.rate == known.fixed_rate
        return search if is_so else fixed(search, known.fixed_rate, now)
    if search.is_fixed:
        search = freed(search, now)
    return search if search.share == known.share else shared(search, known.share, now)


def _is_news(found: float, known: float | None, part: float) -> bool:
    return found > 0 and abs(found - (known or 0.0)) > part * found
