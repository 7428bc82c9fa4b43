"""What the database knows about a license's pace: what was learned about its limit, and what a person set. Needs no
Redis."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from models.pace import LicensePace
from worker.database.engine import Database


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold of the whole fleet; times are by the database's clock."""

    since: datetime
    until: datetime
    # In one sentence.
    why: str
    # Seconds left when it was read.
    left: float

    def __str__(self) -> str:
        return f"All workers hold until {self.until:%H:%M:%S} UTC: {self.why}."

    def to_json(self) -> dict[str, Any]:
        return {"since": self.since.isoformat(), "until": self.until.isoformat(), "why": self.why}


@dataclass(frozen=True, slots=True)
class KnownPace:
    """What the database knows about a license's pace; rates are in requests a second."""

    license: str
    rate: float | None = None
    # None until PingOne has refused a request.
    ceiling: float | None = None
    found_at: datetime | None = None
    # Our part of the ceiling, above 0 and up to 1.
    share: float = 1.0
    # None unless a person set a rate.
    fixed_rate: float | None = None
    # Who last set share or rate, when, and on which ticket.
    set_by: str | None = None
    set_at: datetime | None = None
    ticket: str | None = None
    # None without a hold.
    hold: Hold | None = None
    # A person wants the hold to end.
    is_to_be_lifted: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"hold": self.hold.to_json() if self.hold else None}


def read_pace(database: Database, connection: Connection, license: str) -> KnownPace:
    """Read what is known about a license's pace, which may be nothing."""
    of_license = select(LicensePace.__table__, database.now().label("now")).where(LicensePace.license == license)
    row = connection.execute(of_license).one_or_none()
    if row is None:
        return KnownPace(license)
    known = dict(row._mapping)
    now, since, until, why = (known.pop(name) for name in ("now", "held_since", "held_until", "held_why"))
    is_held = until is not None and until > now
    return KnownPace(**known, hold=Hold(since, until, why, (until - now).total_seconds()) if is_held else None)


def lift_hold(connection: Connection, license: str) -> None:
    """End the fleet's hold at the dispatcher's next tick. The caller's transaction holds DISPATCH_LOCK."""
    write_pace(connection, license, {"is_to_be_lifted": True})


def write_pace(connection: Connection, license: str, values: dict[str, Any]) -> None:
    """Set these columns of a license's row, which is inserted if missing."""
    change = update(LicensePace).where(LicensePace.license == license).values(values)
    if not connection.execute(change).rowcount:
        connection.execute(insert(LicensePace).values({"license": license} | values))
