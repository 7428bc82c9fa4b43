"""Whether something that PingOne shows may have been made by requests of ours: their ages are compared, each by one
clock, since PingOne's clock and the database's may differ. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

# How much older than its request a thing may seem, and how much younger: a request counts as being as old as it was
# when the attempt or the page began, and these last a minute or so.
TOLERANCE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class SentAgo:
    """How long ago requests went out of which each may have made a thing: the first of them, and the last."""

    first: timedelta
    last: timedelta


def count_ago(now: datetime, last_at: datetime | None, first_at: datetime | None = None) -> SentAgo | None:
    """Count how long ago requests went out, of which the only or last one was marked as sent at `last_at`; None: none
    was."""
    return SentAgo(now - (first_at or last_at), now - last_at) if last_at else None


def may_be_made_by(sent_ago: SentAgo | None, age: timedelta | None, lasts: timedelta) -> bool:
    """Whether a thing of this age may have been made by requests that went out so long ago. None: that is not known, or
    PingOne does not tell the age. `lasts`: for how long PingOne may be at work on a request."""
    if sent_ago is None or age is None:
        return True
    return sent_ago.last - lasts - TOLERANCE <= age <= sent_ago.first + TOLERANCE
