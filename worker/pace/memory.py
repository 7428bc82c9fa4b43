"""The story of a license's pace: what was found of its limit outlives Redis; what a person set reaches the fleet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Float, insert, literal, select, update

from models.pace import LicensePace
from worker.database.engine import Database
from worker.pace.search import Search, fixed, freed, remembered, shared
from worker.pace.slots import Pace
from worker.pace.state import Reading

# Parts of the rate, and of the ceiling, that are worth a line in the database.
NEWS, CEILING_NEWS = 0.02, 0.005
# Seconds by which a hold's end, told by two clocks and rounded, may differ and still be the same.
SAME_HOLD = 1.0


@dataclass(frozen=True, slots=True)
class Hold:
    """The whole fleet waits: since and until when, by the database's clock, and why in one sentence. `left` are the
    seconds that it still lasted when it was read."""

    since: datetime
    until: datetime
    why: str
    left: float

    def __str__(self) -> str:
        return f"All workers hold until {self.until:%H:%M:%S} UTC: {self.why}."

    def to_json(self) -> dict[str, Any]:
        return {"since": self.since.isoformat(), "until": self.until.isoformat(), "why": self.why}


@dataclass(frozen=True, slots=True)
class KnownPace:
    """Rates in requests a second; `ceiling` is None until PingOne has refused, `fixed_rate` unless a person set one.
    `hold` is None while the fleet does not hold; `is_to_be_lifted`: a person wants it to end."""

    license: str
    rate: float | None = None
    ceiling: float | None = None
    found_at: datetime | None = None
    share: float = 1.0
    fixed_rate: float | None = None
    set_by: str | None = None
    set_at: datetime | None = None
    ticket: str | None = None
    hold: Hold | None = None
    is_to_be_lifted: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"hold": self.hold.to_json() if self.hold else None}


def read_pace(database: Database, connection: Connection, license: str) -> KnownPace:
    """What is known of a license, which may be nothing."""
    of_license = select(LicensePace.__table__, database.now().label("now")).where(LicensePace.license == license)
    row = connection.execute(of_license).one_or_none()
    if row is None:
        return KnownPace(license)
    known = dict(row._mapping)
    now, since, until, why = (known.pop(name) for name in ("now", "held_since", "held_until", "held_why"))
    is_held = until is not None and until > now
    return KnownPace(**known, hold=Hold(since, until, why, (until - now).total_seconds()) if is_held else None)


def lift_hold(connection: Connection, license: str) -> None:
    """The fleet's hold is to end with the dispatcher's next tick. The caller's transaction holds DISPATCH_LOCK."""
    write_pace(connection, license, {"is_to_be_lifted": True})


def write_pace(connection: Connection, license: str, values: dict[str, Any]) -> None:
    """Set these columns of a license's line, which is made where there is none."""
    change = update(LicensePace).where(LicensePace.license == license).values(values)
    if not connection.execute(change).rowcount:
        connection.execute(insert(LicensePace).values({"license": license} | values))


class PaceMemory:
    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, license: str) -> KnownPace:
        with self._database.reading() as connection:
            return read_pace(self._database, connection, license)

    def begin(self, license: str, now: float) -> Search | None:
        """Where the fleet begins; None where nothing is known of this license."""
        known = self.read(license)
        if known.fixed_rate:
            return fixed(Search(known.fixed_rate, share=known.share), known.fixed_rate, now)
        return remembered(known.ceiling, known.share, now) if known.ceiling else None

    def keep(self, pace: Pace) -> None:
        """Once a tick: what a person set goes to Redis; what was found, and a hold, comes from there. Raises
        redis.RedisError."""
        known, reading = self.read(pace.license), pace.read()
        if known.is_to_be_lifted:
            pace.lift()
            reading = pace.read()
        found = self._hold(known, reading) | self._search(pace, known, reading)
        if found:
            self._write(pace.license, found)

    def _hold(self, known: KnownPace, reading: Reading) -> dict[str, Any]:
        """What has changed of the hold since it was written down. Redis' clock and the database's may differ, so what
        counts is how far away its end is."""
        lifted: dict[str, Any] = {"is_to_be_lifted": False} if known.is_to_be_lifted else {}
        left, before = reading.hold_left, known.hold
        if not left:
            is_news = before is not None or known.is_to_be_lifted
            return lifted | dict.fromkeys(("held_since", "held_until", "held_why")) if is_news else {}
        if before and before.why == reading.held_why and abs(before.left - left) <= SAME_HOLD:
            return lifted
        return lifted | {
            "held_since": self._database.now(literal(min(reading.held_since - reading.now, 0.0), Float())),
            "held_until": self._database.now(literal(left, Float())),
            "held_why": reading.held_why,
        }

    def _search(self, pace: Pace, known: KnownPace, reading: Reading) -> dict[str, Any]:
        """What was found of the limit, after a person's wishes were passed on."""
        if reading.search is None:
            return {}
        search = _obedient(reading.search, known, reading.now)
        if search != reading.search:
            search = pace.change(partial(_obey, known))
        is_news = _is_news(search.rate, known.rate, NEWS) or _is_news(search.ceiling, known.ceiling, CEILING_NEWS)
        found: dict[str, Any] = {"rate": search.rate} if is_news else {}
        if is_news and search.ceiling:
            found |= {"ceiling": search.ceiling, "found_at": self._database.now()}
        return found

    def _write(self, license: str, values: dict[str, Any]) -> None:
        with self._database.changing_many() as connection:
            write_pace(connection, license, values)


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
