"""Whether something that PingOne shows may have been made by a request of ours: their ages are compared, each by one
clock, since PingOne's clock and the database's may differ. Pure."""

from __future__ import annotations

from datetime import timedelta

# How much older than its request a thing may seem, and how much younger: a request counts as being as old as it was
# when the attempt or the reading began, and these last a minute or so.
TOLERANCE = timedelta(minutes=2)


def may_be_made_by(sent_ago: timedelta, age: timedelta | None, lasts: timedelta | None = None) -> bool:
    """Whether a thing of this age may have been made by a request that went out so long ago. `age` None: PingOne does
    not tell it. `lasts`: for how long PingOne may have been at work on the request; None: it is not known."""
    if age is None:
        return True
    is_young_enough = age <= sent_ago + TOLERANCE
    return is_young_enough and (lasts is None or age >= sent_ago - lasts - TOLERANCE)
