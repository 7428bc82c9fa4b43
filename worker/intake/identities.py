"""The ids that a row needs before it can be loaded, and the sentences that say which of them is missing or wrong."""

from __future__ import annotations

import re

from worker.intake.rows import Row

# The form of the ids of users and devices in PingOne.
UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def explain_id(column: str) -> str:
    """Explain what is wrong with an id that is no UUID."""
    return f"{column} is not a UUID: copy the id from PingOne, such as 6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"


def explain_missing_ids(row: Row) -> str | None:
    """Explain which id a row lacks, so that it cannot be loaded; None if it has both."""
    values = {"user_id": row.user_id, "device_id": row.device_id}
    missing = [column for column, value in values.items() if not value]
    if not missing:
        return None
    has_name = row.username or row.email or row.external_id
    looked_up = "users are not looked up by name yet" if has_name and not row.user_id else ""
    paired = "tokens are not paired yet" if not row.device_id else ""
    why = ", ".join(filter(None, (looked_up, paired))) or "both ids are needed"
    columns = ("column " if len(missing) == 1 else "columns ") + " and ".join(missing)
    return f"{' and '.join(missing)} missing ({why}): add the {columns}, with PingOne's ids"
