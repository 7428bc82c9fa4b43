"""The ids that a row needs before it can be loaded, and the sentences that say which of them is missing or wrong."""

from __future__ import annotations

import re

from worker.intake.rows import Row
from worker.vault.seed import Seed

# The fields of a Row that name a person; a list of who gets what has a column for one of them at least.
PERSON = ("user_id", "username", "email", "external_id")
# The form of the ids of users and devices in PingOne.
UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def explain_id(column: str) -> str:
    """Explain what is wrong with an id that is no UUID."""
    return f"{column} is not a UUID: copy the id from PingOne, such as 6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"


NO_DEVICE = (
    "device_id is missing: add it, or let the token be paired with --pair, which finds a device that is there already"
)
NO_USER = "user_id is missing, and no username, email or external_id names the person: add one of these columns"
NO_PERSON = "nobody is named who gets it: give --assign who.csv, a list of who gets what"


def explain_missing_ids(row: Row, *, may_pair: bool) -> str | None:
    """Explain what a row lacks, so that it cannot be loaded; None if it lacks nothing. `may_pair`: a device may be
    made."""
    if not (row.user_id or row.username or row.email or row.external_id):
        # A vendor's file of seeds has no column for a person.
        return NO_PERSON if isinstance(row.otps, Seed) else NO_USER
    return None if row.device_id or may_pair else NO_DEVICE
